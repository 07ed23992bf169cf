// What a model, or two side by side, look at while they read a sentence.

import { answer, called, json, Problem } from "./api.js";
import { show } from "./view/attention.js";
import { el } from "./view/dom.js";

const kept = { text: "The animal didn't cross the street because it was too tired", target: "", names: [null, null], read: "", found: {}, asked: 0 };

/** Draw the tab into `root`. */
export function start(root, { t, models }) {
  const able = models.filter((model) => model.looks);
  if (!able.length) {
    root.append(el("p", { className: "dim" }, t("No model here has attention or fast weights.")));
    return;
  }
  const named = (name) => able.find((each) => each.name === name);
  kept.names = [named(kept.names[0])?.name ?? able[0].name, named(kept.names[1])?.name ?? null];
  const choices = ["Model", "Second model"].map((label, i) => {
    const options = [...(i ? [el("option", { value: "" }, t("none"))] : []), ...able.map((each) => el("option", { value: each.name }, called(each, t)))];
    const select = el("select", { name: i ? "second" : "model", onchange: () => choose(i, select.value) }, options);
    select.value = kept.names[i] ?? "";
    return el("label", {}, t(label), select);
  });
  const sentence = el("textarea", { rows: 2, name: "sentence", value: kept.text, maxLength: 4096, oninput: () => (kept.text = sentence.value) });
  const target = el("textarea", { rows: 2, name: "target", value: kept.target, maxLength: 4096, oninput: () => (kept.target = target.value) });
  const written = el("label", {}, t("What the model writes (empty: it writes itself)"), target);
  const status = el("p", { className: "dim", role: "status" });
  const views = el("div", { className: "views" });
  const form = el("form", { className: "ask" },
    el("div", { className: "row" }, choices),
    el("label", {}, t("Sentence"), sentence),
    written,
    el("div", { className: "row" }, el("button", { type: "submit", className: "main" }, t("Show")), status));
  root.append(form, views);
  form.onsubmit = (event) => {
    event.preventDefault();
    Object.assign(kept, { text: sentence.value, target: target.value, found: {} });
    read();
  };
  read();

  function choose(i, name) {
    kept.names[i] = name || null;
    read();
  }

  function rewrites(name) {
    return named(name).abilities.includes("rewrite");
  }

  /** Show every chosen model; one that has been asked for this sentence is not asked again. */
  async function read() {
    const [asked, told] = [(kept.asked += 1), JSON.stringify([kept.text, kept.target])];
    const names = [...new Set(kept.names.filter(Boolean))];
    if (told !== kept.read) [kept.read, kept.found] = [told, {}];
    written.hidden = !names.some(rewrites);
    status.textContent = t("Reading …");
    const problems = await Promise.all(names.map(async (name) => {
      try {
        kept.found[name] ??= await explained(name);
        return null;
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        return error;
      }
    }));
    if (asked !== kept.asked) return; // another sentence, or another model, was asked for meanwhile
    status.textContent = "";
    views.replaceChildren(...names.map((name) => el("section", { "aria-label": name }, names.length > 1 ? el("h2", {}, name) : null, el("div"))));
    problems.forEach((problem, i) => {
      const view = views.children[i].lastElementChild; // which stands on the page: its colours are asked for
      if (problem) view.append(el("p", { className: "problem", role: "alert" }, t(problem.message)));
      else show(view, kept.found[names[i]], t);
    });
  }

  async function explained(name) {
    const { text, target: given } = kept;
    const told = rewrites(name) ? given || (await rewritten(name, text)) : "";
    return json("api/explain", { model: name, text, target: told });
  }

  /** What an encoder-decoder makes of a text, always the most probable token. */
  async function rewritten(name, text) {
    let found = "";
    for await (const piece of answer(named(name), [{ content: text }], { temperature: 0, max_tokens: 64 })) found += piece.text;
    return found;
  }
}
