// Reports of runs, which follow those that are training.

import { json, Problem, text } from "./api.js";
import { el } from "./view/dom.js";

const SOON = 2000; // milliseconds between two looks while a run trains, and otherwise
const LATER = 15000;
const MOST = 8;
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
let chosen = null; // names; outlives a change of tab

/** Draw the tab into `root`. Returns what ends it. */
export function start(root, { t, language }) {
  const list = el("div", { className: "scroll" });
  const note = el("p", { className: "dim", role: "status" }, t("Loading …"));
  const report = el("div", { className: "report" });
  root.append(note, list, report);
  let shown = "";
  let table = "";
  let timer = 0;
  let ended = false;
  look();
  return () => {
    ended = true;
    clearTimeout(timer);
  };

  async function look() {
    clearTimeout(timer);
    let pause = LATER;
    try {
      const { runs } = await json("api/runs");
      if (ended) return;
      pause = runs.some((run) => run.state === "training") ? SOON : LATER;
      chosen ??= runs.filter((run) => run.state === "training").concat(runs).slice(0, 1).map((run) => run.name);
      chosen = chosen.filter((name) => runs.some((run) => run.name === name));
      draw(runs);
      await follow(runs.filter((run) => chosen.includes(run.name)));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      note.textContent = t(error.message);
    }
    if (!ended) timer = setTimeout(look, document.hidden ? LATER : pause);
  }

  function draw(runs) {
    if (!runs.length) {
      note.textContent = t("No runs here yet. Start the server with a folder of runs.");
      list.replaceChildren();
      return;
    }
    note.textContent = t("Choose up to eight runs. The curves follow those that are training.");
    const now = JSON.stringify([runs, chosen]);
    if (now === table) return;
    table = now;
    const names = { training: "training", finished: "finished", stopped: "stopped before the end" };
    const rows = runs.map((run) => {
      const box = el("input", { type: "checkbox", checked: chosen.includes(run.name), onchange: () => choose(run.name, box.checked) });
      box.disabled = !box.checked && chosen.length >= MOST;
      const [value, unit] = run.bpb !== null ? [run.bpb, "bits per byte"] : [run.loss, "loss"];
      return el("tr", {},
        el("td", {}, el("label", { className: "check" }, box, run.name)),
        el("td", {}, run.recipe),
        el("td", { className: run.state }, t(names[run.state])),
        el("td", {}, run.step === null ? "" : `${t("Step")} ${run.step.toLocaleString()}`),
        el("td", {}, value === null ? "" : `${value.toFixed(3)} ${t(unit)}`),
        el("td", {}, run.tokens === null ? "" : `${compact.format(run.tokens)} ${t("Tokens")}`));
    });
    const focused = [...list.querySelectorAll("input")].indexOf(document.activeElement);
    list.replaceChildren(el("table", {}, el("tbody", {}, rows)));
    list.querySelectorAll("input")[focused]?.focus();
  }

  function choose(name, on) {
    chosen = on ? [...chosen, name] : chosen.filter((each) => each !== name);
    look();
  }

  /** Read the report again if something was added to one of its runs. */
  async function follow(runs) {
    const version = JSON.stringify([language, runs.map((run) => [run.name, run.version])]);
    if (version === shown) return;
    if (!runs.length) {
      shown = version;
      report.replaceChildren();
      return;
    }
    const query = new URLSearchParams([...runs.map((run) => ["run", run.name]), ["language", language]]);
    const found = await text(`api/report?${query}`);
    const body = found.slice(found.indexOf("<body>"), found.lastIndexOf("</body>")); // its style is that of this page
    const page = new DOMParser().parseFromString(body, "text/html");
    shown = version;
    const open = [...report.querySelectorAll("details")].map((each) => each.open);
    report.replaceChildren(...page.body.children);
    report.querySelectorAll("details").forEach((each, i) => (each.open = open[i] ?? false));
  }
}
