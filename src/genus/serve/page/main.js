// The page: its tabs, its language, and the key that a server may want.

import { json, onKey, Problem } from "./api.js";
import * as chat from "./chat.js";
import * as looks from "./looks.js";
import * as predict from "./predict.js";
import * as runs from "./runs.js";
import { el } from "./view/dom.js";
import { preferred, translator } from "./view/words.js";

const TABS = { chat: ["Chat", chat], attention: ["Attention", looks], runs: ["Runs", runs], predict: ["Predict", predict] };

const main = document.getElementById("main");
const nav = document.querySelector("nav");
const language = document.getElementById("language");
language.value = localStorage.getItem("genus-language") ?? preferred();
let end = () => {};
let models = null; // not asked for yet
let problem = null; // why there are none

onKey(askKey);
language.onchange = () => {
  localStorage.setItem("genus-language", language.value);
  draw();
};
addEventListener("hashchange", () => {
  draw();
  load();
});
nav.onkeydown = (event) => {
  const names = Object.keys(TABS);
  const at = names.indexOf(current());
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + names.length, Home: 0, End: names.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  location.hash = names[to % names.length];
};
document.getElementById("skip").onclick = (event) => {
  event.preventDefault(); // the part of the address behind # says which tab is shown
  main.focus();
};
draw();
load();

/** Ask what is served, anew for every tab: runs begin and finish while the page is open. */
async function load() {
  const before = JSON.stringify([models, problem?.message]);
  try {
    ({ models } = await json("api/models"));
    problem = null;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    problem = error;
  }
  if (JSON.stringify([models, problem?.message]) !== before) draw();
}

function current() {
  const name = location.hash.slice(1);
  return name in TABS ? name : "chat";
}

function draw() {
  const t = translator(language.value);
  const [label, tab] = TABS[current()];
  const focused = nav.contains(document.activeElement);
  document.documentElement.lang = language.value === "zh" ? "zh-CN" : "en";
  document.title = `${t(label)} · Genus`;
  document.getElementById("skip").textContent = t("Skip to the content");
  language.setAttribute("aria-label", t("Language"));
  nav.setAttribute("aria-label", "Genus");
  nav.replaceChildren(...Object.entries(TABS).map(([name, [words]]) => {
    const on = name === current();
    const facts = { role: "tab", "aria-selected": String(on), "aria-controls": "main", tabIndex: on ? 0 : -1 };
    return el("a", { href: `#${name}`, id: `tab-${name}`, ...facts }, t(words));
  }));
  main.setAttribute("role", "tabpanel");
  main.setAttribute("aria-labelledby", `tab-${current()}`);
  if (focused) nav.querySelector("[aria-selected=true]").focus();
  end();
  end = () => {};
  const root = el("div", { className: current() });
  main.replaceChildren(root);
  if (models) end = tab.start(root, { t, models, language: language.value }) ?? end;
  else if (problem) root.append(el("p", { className: "problem", role: "alert" }, t(problem.message)), el("button", { type: "button", onclick: load }, t("Try again")));
  else root.append(el("p", { className: "dim", role: "status" }, t("Loading …")));
}

/** Ask the reader for the key; null when the question is closed. Several requests wait for one answer. */
let asking = null;
function askKey(wrong) {
  asking ??= new Promise((done) => {
    const t = translator(language.value);
    const dialog = document.getElementById("key");
    const title = el("h2", { id: "asked" }, t("The server asks for a key"));
    const input = el("input", { type: "password", name: "key", autocomplete: "off", required: true, pattern: "[ -~]+", title: t("A key has Latin letters, digits and signs only.") });
    const form = el("form", { method: "dialog", className: "ask" }, title,
      wrong ? el("p", { className: "problem", role: "alert" }, t("The server does not take this key.")) : null,
      el("label", {}, t("Key"), input), el("div", { className: "row" }, el("button", { className: "main" }, t("Use it")),
        el("button", { type: "button", onclick: () => dialog.close() }, t("Cancel"))));
    dialog.setAttribute("aria-labelledby", "asked");
    dialog.replaceChildren(form);
    let given = null;
    form.onsubmit = () => (given = input.value);
    dialog.onclose = () => {
      asking = null;
      done(given);
    };
    dialog.showModal();
  });
  return asking;
}
