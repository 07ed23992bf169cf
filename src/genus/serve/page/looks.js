// What a model looks at while it reads a sentence.

import { answer, called, json, Problem } from "./api.js";
import { show } from "./view/attention.js";
import { el } from "./view/dom.js";

const kept = { text: "The animal didn't cross the street because it was too tired", target: "", model: null, data: null, asked: 0 };

/** Draw the tab into `root`. */
export function start(root, { t, models }) {
  const able = models.filter((model) => model.looks);
  if (!able.length) {
    root.append(el("p", { className: "dim" }, t("No model here has attention or fast weights.")));
    return;
  }
  const model = el("select", { name: "model", onchange: refresh }, able.map((each) => el("option", { value: each.name }, called(each, t))));
  model.value = able.some((each) => each.name === kept.model) ? kept.model : able[0].name;
  const sentence = el("textarea", { rows: 2, name: "sentence", value: kept.text, maxLength: 4096 });
  const target = el("textarea", { rows: 2, name: "target", value: kept.target, maxLength: 4096 });
  const written = el("label", {}, t("What the model writes (empty: it writes itself)"), target);
  const status = el("p", { className: "dim", role: "status" });
  const view = el("div");
  const form = el("form", { className: "ask" },
    el("label", {}, t("Model"), model),
    el("label", {}, t("Sentence"), sentence),
    written,
    el("div", { className: "row" }, el("button", { type: "submit", className: "main" }, t("Show")), status));
  root.append(form, view);
  form.onsubmit = (event) => {
    event.preventDefault();
    read();
  };
  refresh();
  if (kept.data && kept.model === model.value) show(view, kept.data, t);
  else read();

  function chosen() {
    return able.find((each) => each.name === model.value);
  }

  function refresh() {
    written.hidden = !chosen().abilities.includes("rewrite");
  }

  async function read() {
    const [asked, rewrites] = [(kept.asked += 1), !written.hidden];
    Object.assign(kept, { text: sentence.value, target: target.value, model: model.value, data: null });
    const { text, model: name } = kept;
    status.textContent = t("Reading …");
    status.classList.remove("problem");
    try {
      const told = rewrites ? kept.target || (await rewritten(text)) : "";
      const data = await json("api/explain", { model: name, text, target: told });
      if (asked !== kept.asked) return; // another sentence, or another model, was asked for meanwhile
      kept.data = data;
      show(view, kept.data, t);
      status.textContent = "";
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (asked !== kept.asked) return;
      status.textContent = t(error.message);
      status.classList.add("problem");
    }
  }

  /** What an encoder-decoder makes of a text, always the most probable token. */
  async function rewritten(text) {
    let found = "";
    for await (const piece of answer(chosen(), [{ content: text }], { temperature: 0, max_tokens: 64 })) found += piece.text;
    return found;
  }
}
