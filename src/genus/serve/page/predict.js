// Rows of a file, labelled by a model that was tuned: upload, progress, download. And a single text.

import { blob, json, Problem, put, remove } from "./api.js";
import { el } from "./view/dom.js";

const PIECE = 2 ** 20; // bytes that are sent at once
const PAUSE = 500; // milliseconds between two looks at the progress

// The file that is labelled, or was. It outlives a change of tab or language.
// {name, stopping, state, problem}: `stopping` ends it while it runs, `state` is what the server last told of it.
let job = null;
let changed = () => {}; // tells the tab that stands there now

/** Draw the tab into `root`. */
export function start(root, { t, models }) {
  const able = models.filter((model) => model.abilities.includes("classify"));
  if (!able.length) {
    root.append(el("p", { className: "dim" }, t("No tuned model is served. Make one with genus tune.")));
    return;
  }
  const model = el("select", { name: "model" }, able.map((each) => el("option", { value: each.name }, each.name)));
  const file = el("input", { type: "file", name: "file", accept: ".csv,.tsv,.jsonl,.json,.txt", required: true });
  const column = el("input", { type: "text", name: "column", maxLength: 255 });
  const go = el("button", { type: "submit", className: "main" }, t("Upload and predict"));
  const cancel = el("button", { type: "button", onclick: () => job?.stopping?.abort() }, t("Cancel"));
  const bar = el("progress", { max: 1, value: 0, "aria-label": t("Progress") });
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
    if (!job?.stopping && file.files.length) label(file.files[0], model.value, column.value.trim() || null);
  };
  one.onsubmit = (event) => {
    event.preventDefault();
    if (text.value.trim()) classify();
  };
  changed = refresh;
  refresh();

  function refresh() {
    const [runs, focused] = [Boolean(job?.stopping), document.activeElement];
    [go.disabled, cancel.disabled, bar.hidden] = [runs, !runs, !runs];
    if (focused?.disabled && form.contains(focused)) (runs ? cancel : go).focus(); // it would be nowhere
    const [done, all] = progress();
    if (all) bar.value = done / all;
    else bar.removeAttribute("value");
    const line = job ? [...(runs ? [job.name] : []), ...words(job)].join(" · ") : "";
    if (status.textContent !== line) status.textContent = line;
    status.classList.toggle("problem", Boolean(job?.problem) && job.problem !== "cancelled");
    const ready = !runs && job?.state?.status === "done";
    if (!ready) result.replaceChildren();
    else if (!result.children.length) result.append(el("button", { type: "button", className: "main", onclick: download }, `${t("Download")} ${job.state.download}`));
  }

  /** How far it is: so many of so many bytes or rows. */
  function progress() {
    const { status: phase, received, size, done, rows } = job?.state ?? {};
    return phase === "uploading" ? [received, size] : phase === "running" ? [done, rows] : [0, 0];
  }

  function words({ state, problem }) {
    if (problem) return [t(problem)];
    if (state?.status === "uploading") return [t("Uploading")];
    if (state?.status === "running") return [`${t("Predicting")}: ${t("{0} of {1} rows", state.done, state.rows)}`];
    if (state?.status !== "done") return [t(state?.status ?? "Uploading")];
    const scores = Object.entries(state.scores).map(([name, value]) => `${name} ${value.toFixed(3)}`);
    return [t("{0} rows, {1} with an error", state.done, state.errors), ...scores];
  }

  async function download() {
    try {
      const url = URL.createObjectURL(await blob(`api/predictions/${job.state.number}/file`));
      el("a", { href: url, download: job.state.download }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60000);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      job.problem = error.message;
      refresh();
    }
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

/** Have a file labelled. The one before it is forgotten. */
async function label(file, model, text) {
  const forget = () => job.state && remove(`api/predictions/${job.state.number}`).catch(() => {});
  if (job) forget();
  const { signal } = (job = { name: file.name, stopping: new AbortController(), state: null, problem: "" }).stopping;
  const told = (state) => {
    job.state = state;
    changed();
  };
  changed();
  try {
    told(await json("api/predictions", { model, name: file.name, size: file.size, text }, signal));
    const address = `api/predictions/${job.state.number}`;
    for (let at = 0; at < file.size; at += PIECE) told(await put(`${address}?at=${at}`, file.slice(at, at + PIECE), signal));
    while (["waiting", "running"].includes(job.state.status)) {
      await new Promise((done) => setTimeout(done, PAUSE));
      told(await json(address, undefined, signal));
    }
    if (job.state.status !== "done") throw new Problem(job.state.message || job.state.status, 0);
  } catch (error) {
    forget();
    job.state = null;
    if (error.name !== "AbortError" && !(error instanceof Problem)) throw error;
    job.problem = error.name === "AbortError" ? "cancelled" : error.message;
  } finally {
    job.stopping = null;
    changed();
  }
}
