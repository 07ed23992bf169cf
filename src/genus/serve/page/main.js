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
let models = [];

onKey(askKey);
language.onchange = () => {
  localStorage.setItem("genus-language", language.value);
  draw();
};
addEventListener("hashchange", draw);
nav.onkeydown = (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const names = Object.keys(TABS);
  location.hash = names[(names.indexOf(current()) + step + names.length) % names.length];
};
load();

async function load() {
  try {
    ({ models } = await json("api/models"));
    draw();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    main.replaceChildren(el("p", { className: "problem" }, translator(language.value)(error.message)));
  }
}

function current() {
  const name = location.hash.slice(1);
  return name in TABS ? name : "chat";
}

function draw() {
  const t = translator(language.value);
  const focused = nav.contains(document.activeElement);
  document.documentElement.lang = language.value === "zh" ? "zh-CN" : "en";
  document.getElementById("skip").textContent = t("Skip to the content");
  language.setAttribute("aria-label", t("Language"));
  nav.replaceChildren(...Object.entries(TABS).map(([name, [label]]) => {
    const on = name === current();
    const tab = el("a", { href: `#${name}`, tabIndex: on ? 0 : -1 }, t(label));
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-selected", String(on));
    return tab;
  }));
  if (focused) nav.querySelector("[aria-selected=true]").focus();
  end();
  main.replaceChildren();
  const root = el("div", { className: current() });
  main.append(root);
  end = TABS[current()][1].start(root, { t, models, language: language.value }) ?? (() => {});
}

/** Ask the reader for the key; null when the question is closed. Several requests wait for one answer. */
let asking = null;
function askKey() {
  asking ??= new Promise((done) => {
    const t = translator(language.value);
    const dialog = document.getElementById("key");
    const input = el("input", { type: "password", name: "key", autocomplete: "off", required: true });
    const form = el("form", { method: "dialog", className: "ask" }, el("h2", {}, t("The server asks for a key")),
      el("label", {}, t("Key"), input), el("button", { className: "main" }, t("Use it")));
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
