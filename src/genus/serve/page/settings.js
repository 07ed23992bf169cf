// How tokens are chosen: the controls of the chat, and what the server is asked for.

import { el } from "./view/dom.js";

const FIELDS = [
  // name, label, least, most, step, what is sent when nothing is written; null = the server's own
  ["temperature", "Temperature", 0, 10, 0.1, 0.8],
  ["max_tokens", "Most tokens", 1, 100000, 1, 256],
  ["top_p", "Top p", 0.01, 1, 0.01, null],
  ["top_k", "Top k", 0, 100000, 1, null],
  ["min_p", "Min p", 0, 1, 0.01, null],
  ["repetition_penalty", "Repetition penalty", 0.1, 10, 0.05, null],
  ["frequency_penalty", "Frequency penalty", -2, 2, 0.1, null],
  ["presence_penalty", "Presence penalty", -2, 2, 0.1, null],
  ["seed", "Seed", 0, 2 ** 31, 1, null],
];
const PLACE = "genus-settings";
const rewrites = (model) => model.abilities.includes("rewrite");

/** What is sent to a model when nothing is written: an encoder-decoder takes the likeliest words, as the server has it. */
const usually = (name, model) => (name === "temperature" && rewrites(model) ? null : FIELDS.find(([each]) => each === name)[5]);

/**
 * The controls, folded together, remembered in this browser. `rules(model)`: what to send; `check()`: whether it can be;
 * `suit(models)`: tell what is usual for these.
 */
export function settings(t, conversation) {
  const kept = read();
  const inputs = FIELDS.map(([name, label, min, max, step]) => {
    const input = el("input", { type: "number", name, min, max, step, value: kept[name] ?? "", inputMode: "decimal" });
    return [name, label, input];
  });
  const stop = el("textarea", { name: "stop", rows: 2, value: kept.stop ?? "", placeholder: t("one per line") });
  const system = el("textarea", { name: "system", rows: 2, value: kept.system ?? "" });
  const root = el("details", { className: "settings", open: Boolean(kept.open) },
    el("summary", {}, t("Settings")),
    el("div", { className: "fields" },
      inputs.map(([, label, input]) => el("label", {}, t(label), input)),
      el("label", {}, t("Stop at"), stop),
      conversation ? el("label", {}, t("System message"), system) : null),
    el("button", { type: "button", onclick: reset }, t("Usual values")));
  const keep = () => {
    const values = Object.fromEntries(inputs.map(([name, , input]) => [name, input.value]));
    localStorage.setItem(PLACE, JSON.stringify({ ...values, stop: stop.value, system: system.value, open: root.open }));
  };
  root.addEventListener("input", keep);
  root.addEventListener("toggle", keep);

  function reset() {
    for (const [, , input] of inputs) input.value = "";
    stop.value = system.value = "";
    keep();
  }

  /** False, and the place shown, where a number is none, or out of its range. */
  function check() {
    for (const [, , input] of inputs) {
      const { badInput, rangeUnderflow, rangeOverflow, stepMismatch } = input.validity;
      const wrong = badInput || rangeUnderflow || rangeOverflow || (input.step === "1" && stepMismatch);
      input.setAttribute("aria-invalid", String(wrong));
      if (!wrong) continue;
      root.open = true;
      input.reportValidity();
      return false;
    }
    return true;
  }

  function suit(models) {
    for (const [name, , input] of inputs) {
      const unset = { seed: t("random"), temperature: "0" }[name] ?? t("none");
      input.placeholder = [...new Set(models.map((each) => String(usually(name, each) ?? unset)))].join(" / ");
    }
  }

  function rules(model) {
    const sent = {};
    for (const [name, , input] of inputs) {
      const value = input.value === "" ? usually(name, model) : Number(input.value);
      if (value !== null && Number.isFinite(value)) sent[name] = value;
    }
    const ends = stop.value.split("\n").map((line) => line.replaceAll("\\n", "\n")).filter(Boolean);
    if (ends.length) sent.stop = ends;
    return sent;
  }
  return { root, rules, check, suit, system: () => (conversation ? system.value.trim() : "") };
}

function read() {
  try {
    return JSON.parse(localStorage.getItem(PLACE)) ?? {};
  } catch {
    return {};
  }
}
