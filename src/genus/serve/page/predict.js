// Rows of a file, labelled by a model that was tuned: upload, progress, download. And a single text.

import { blob, json, Problem, put, remove } from "./api.js";
import { el } from "./view/dom.js";

const PIECE = 2 ** 20; // bytes that are sent at once
const PAUSE = 500; // milliseconds between two looks at the progress

/** Draw the tab into `root`. Returns what ends it. */
export function start(root, { t, models }) {
  const able = models.filter((model) => model.abilities.includes("classify"));
  if (!able.length) {
    root.append(el("p", { className: "dim" }, t("No tuned model is served. Make one with genus tune.")));
    return undefined;
  }
  let stopping = null;
  const model = el("select", { name: "model" }, able.map((each) => el("option", { value: each.name }, each.name)));
  const file = el("input", { type: "file", name: "file", accept: ".csv,.tsv,.jsonl,.json,.txt", required: true });
  const column = el("input", { type: "text", name: "column", maxLength: 255 });
  const go = el("button", { type: "submit", className: "main" }, t("Upload and predict"));
  const cancel = el("button", { type: "button", disabled: true, onclick: () => stopping?.abort() }, t("Cancel"));
  const bar = el("progress", { max: 1, value: 0, hidden: true });
  const status = el("p", { role: "status" });
  const result = el("div");
  const form = el("form", { className: "ask" },
    el("label", {}, t("Model"), model),
    el("label", {}, t("File"), file),
    el("p", { className: "dim" }, t("A .csv, .tsv, .jsonl or .txt file; every row is kept and gets a prediction.")),
    el("label", {}, t("Column of the text, if it has another name"), column),
    el("div", { className: "row" }, go, cancel), bar, status, result);

  const text = el("textarea", { rows: 2, name: "text" });
  const told = el("div", { role: "status" });
  const one = el("form", { className: "ask" }, el("label", {}, t("One text"), text),
    el("div", { className: "row" }, el("button", { type: "submit" }, t("Classify"))), told);
  root.append(form, one);
  form.onsubmit = (event) => {
    event.preventDefault();
    if (!stopping && file.files.length) label(file.files[0]);
  };
  one.onsubmit = (event) => {
    event.preventDefault();
    if (text.value.trim()) classify();
  };
  return () => stopping?.abort();

  async function label(chosen) {
    stopping = new AbortController();
    const { signal } = stopping;
    [go.disabled, cancel.disabled, bar.hidden] = [true, false, false];
    result.replaceChildren();
    say("");
    let number = null;
    try {
      const asked = { model: model.value, name: chosen.name, size: chosen.size, text: column.value.trim() || null };
      let state = await json("api/predictions", asked, signal);
      number = state.number;
      for (let at = 0; at < chosen.size; at += PIECE) {
        show(t("Uploading"), at, chosen.size);
        state = await put(`api/predictions/${number}?at=${at}`, chosen.slice(at, at + PIECE), signal);
      }
      while (["waiting", "running"].includes(state.status)) {
        if (state.status === "waiting") show(t("waiting"));
        else show(`${t("Predicting")}: ${t("{0} of {1} rows", state.done, state.rows)}`, state.done, state.rows);
        await new Promise((done) => setTimeout(done, PAUSE));
        signal.throwIfAborted();
        state = await json(`api/predictions/${number}`, undefined, signal);
      }
      if (state.status !== "done") throw new Problem(state.message || t(state.status), 0);
      finish(state);
    } catch (error) {
      if (number) remove(`api/predictions/${number}`).catch(() => {});
      if (error.name === "AbortError") say(t("cancelled"));
      else if (error instanceof Problem) say(t(error.message), true);
      else throw error;
    } finally {
      stopping = null;
      [go.disabled, cancel.disabled, bar.hidden] = [false, true, true];
    }
  }

  function show(words, done, all) {
    say(words);
    if (all) bar.value = done / all;
    else bar.removeAttribute("value");
  }

  function say(words, problem = false) {
    status.textContent = words;
    status.classList.toggle("problem", problem);
  }

  function finish(state) {
    const scores = Object.entries(state.scores).map(([name, value]) => `${name} ${value.toFixed(3)}`);
    say([t("{0} rows, {1} with an error", state.done, state.errors), ...scores].join(" · "));
    const get = async () => {
      const url = URL.createObjectURL(await blob(`api/predictions/${state.number}/file`));
      el("a", { href: url, download: state.download }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60000);
    };
    result.replaceChildren(el("button", { type: "button", className: "main", onclick: get }, `${t("Download")} ${state.download}`));
  }

  async function classify() {
    try {
      const found = await json("v1/classify", { model: model.value, input: text.value });
      told.replaceChildren(labels(found.data[0]));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      told.replaceChildren(el("p", { className: "problem" }, t(error.message)));
    }
  }

  /** What a model says of a text: every field that it gave. */
  function labels(row) {
    const pairs = Object.entries(row).filter(([name]) => !["object", "index"].includes(name));
    return el("dl", { className: "facts" }, pairs.map(([name, value]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, typeof value === "object" ? JSON.stringify(value) : String(value)))));
  }
}
