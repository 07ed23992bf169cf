// Conversations with one model, or with two side by side.

import { AnswerView, legend } from "./answer.js";
import { answer, called, Problem } from "./api.js";
import { settings } from "./settings.js";
import { el } from "./view/dom.js";

const writes = (model) => model.abilities.some((each) => ["chat", "complete", "rewrite"].includes(each));
const talk = { turns: [], names: [null, null], draft: "" }; // outlives a change of tab or language
let running = null; // what stops the answers that are being written
let changed = () => {}; // tells the tab that stands there now

/** Draw the tab into `root`. */
export function start(root, { t, models }) {
  const able = models.filter(writes);
  if (!able.length) {
    root.append(el("p", { className: "dim" }, t("No model is loaded that writes text.")));
    return;
  }
  const model = (i) => able.find((each) => each.name === talk.names[i]);
  talk.names[0] = model(0)?.name ?? able[0].name;
  talk.names[1] = model(1)?.name ?? null;

  const choices = ["Model", "Second model"].map((label, i) => {
    const options = [...(i ? [el("option", { value: "" }, t("none"))] : []), ...able.map((each) => el("option", { value: each.name }, called(each, t)))];
    const select = el("select", { onchange: () => choose(i, select.value) }, options);
    select.value = talk.names[i] ?? "";
    return el("label", {}, t(label), select);
  });
  const rules = settings(t, able.some((each) => each.abilities.includes("chat")));
  const shades = el("input", { type: "checkbox", checked: localStorage.getItem("genus-shades") !== "off" });
  const log = el("div", { className: "talk", role: "log" });
  log.setAttribute("aria-live", "off");
  const text = el("textarea", { rows: 3, name: "message", value: talk.draft, oninput: () => (talk.draft = text.value) });
  const [send, stop, again, fresh] = ["Send", "Stop", "Again", "New conversation"].map((label, i) =>
    el("button", { type: i ? "button" : "submit", className: i ? "" : "main" }, t(label)));
  const form = el("form", { className: "ask" }, text, el("div", { className: "row" }, send, stop, again, fresh,
    el("label", { className: "check" }, shades, t("Show probabilities"))));

  root.append(el("div", { className: "row" }, choices), rules.root, log, legend(t), form);
  shades.onchange = () => {
    localStorage.setItem("genus-shades", shades.checked ? "on" : "off");
    log.classList.toggle("shaded", shades.checked);
  };
  shades.onchange();
  form.onsubmit = (event) => {
    event.preventDefault();
    if (running || !text.value.trim() || !rules.check()) return;
    const said = text.value;
    text.value = talk.draft = "";
    talk.turns.push({ said, answers: [] });
    draw(talk.turns.at(-1));
    reply();
  };
  text.onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  };
  root.onkeydown = (event) => {
    if (event.key === "Escape") running?.abort();
  };
  stop.onclick = () => running?.abort();
  again.onclick = () => {
    if (!running && talk.turns.length && rules.check()) reply();
  };
  fresh.onclick = () => {
    running?.abort();
    talk.turns = [];
    log.replaceChildren();
    refresh();
    text.focus();
  };
  talk.turns.forEach(draw);
  changed = refresh;
  refresh();

  function choose(i, name) {
    talk.names[i] = name || null;
    refresh();
  }

  function refresh() {
    const kind = model(0).abilities;
    text.placeholder = t(kind.includes("chat") ? "Your message" : kind.includes("rewrite") ? "Text to rewrite" : "Text to continue");
    text.setAttribute("aria-label", text.placeholder);
    rules.suit([0, 1].map(model).filter(Boolean));
    const focused = document.activeElement;
    send.disabled = Boolean(running);
    stop.disabled = !running;
    again.disabled = Boolean(running) || !talk.turns.length;
    if (focused?.disabled && form.contains(focused)) (running ? stop : focused === stop ? again : send).focus(); // it would be nowhere
  }

  function draw(turn) {
    turn.place = el("div", { className: "answers" });
    log.append(el("div", { className: "turn" }, el("p", { className: "mine" }, el("span", { className: "dim" }, `${t("You")} `), turn.said), turn.place));
    for (const each of turn.answers) {
      each.view.speak(t);
      turn.place.append(each.column);
    }
  }

  /** Let every chosen model answer the last turn, in the place of what it answered before. */
  async function reply() {
    const turn = talk.turns.at(-1);
    turn.answers = [0, 1].map(model).filter(Boolean).map((each) => {
      const view = new AnswerView(t, each.name);
      return { model: each.name, view, column: el("article", {}, el("h3", {}, each.name), view.root), text: "" };
    });
    turn.place.replaceChildren(...turn.answers.map((each) => each.column));
    running = new AbortController();
    changed();
    const { signal } = running;
    await Promise.all(turn.answers.map((each) => write(each, signal)));
    running = null;
    changed();
  }

  async function write(each, signal) {
    const begin = performance.now();
    const facts = { finish: null, tokens: 0, seconds: 0, first: null, problem: "" };
    const name = each.model;
    try {
      const asked = able.find((one) => one.name === name);
      for await (const piece of answer(asked, history(each), rules.rules(asked), signal)) {
        if (facts.first === null && (piece.text || piece.tokens.length)) facts.first = (performance.now() - begin) / 1000;
        each.text += piece.text;
        each.view.add(piece);
        facts.finish = piece.finish ?? facts.finish;
        facts.tokens = piece.usage?.completion_tokens ?? facts.tokens;
        follow(each.column);
      }
    } catch (error) {
      if (error.name === "AbortError") facts.finish = "stopped";
      else if (error instanceof Problem) facts.problem = error.message;
      else throw error;
    } finally {
      facts.seconds = (performance.now() - begin) / 1000;
      facts.tokens ||= each.view.all.length;
      each.view.end(facts);
      follow(each.column);
    }
  }

  /** What a model is told: what was said before, with its own answers, or those that were given where it was not asked. */
  function history(each) {
    const before = rules.system() ? [{ role: "system", content: rules.system() }] : [];
    const last = talk.turns.length - 1;
    return [...before, ...talk.turns.flatMap((turn, i) => {
      const own = turn.answers.find((one) => one.model === each.model) ?? turn.answers[0];
      const asked = { role: "user", content: turn.said };
      return i === last ? [asked] : own?.text ? [asked, { role: "assistant", content: own.text }] : [];
    })];
  }

  /** Stay at the end of the text as it grows, unless the reader has gone elsewhere. */
  function follow(column) {
    if (!column.isConnected) return; // another tab is shown
    const rest = document.documentElement.scrollHeight - innerHeight - scrollY;
    if (rest < 160) scrollTo(0, document.documentElement.scrollHeight);
  }
}
