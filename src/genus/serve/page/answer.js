// An answer on the page: its text as it comes, and at every token how likely the model found it and what else it thought of.

import { el, short } from "./view/dom.js";

const STEPS = [0.8, 0.5, 0.2, 0.05]; // from likely to unlikely
const UNDER = 180; // pixels at the bottom of the window that the message box covers
const shade = (log) => `p${STEPS.filter((step) => Math.exp(log) < step).length}`;
const visible = (text) => text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "·") || "∅";
const percent = (log) => short(100 * Math.exp(log));

/** What the shades mean, and how to learn more of a token. */
export function legend(t) {
  const shades = STEPS.map((step, i) => el("span", { className: `p${i + 1}` }, `< ${Math.round(100 * step)} %`));
  return el("p", { className: "shades dim" }, shades, el("span", {}, t("Point at a word, tap it, or move with the arrow keys.")));
}

/** A view of one answer. `add` takes what `answer` of api.js yields. */
export class AnswerView {
  constructor(t, name) {
    this.t = t;
    this.held = [];
    this.all = [];
    this.shown = -1;
    this.facts = null; // when it has ended
    this.text = el("div", { className: "said", tabIndex: 0, role: "group", "aria-label": name });
    this.tip = el("div", { className: "tip", hidden: true });
    this.tip.setAttribute("role", "status");
    this.foot = el("p", { className: "dim foot", role: "status" });
    this.root = el("div", { className: "answer" }, this.text, this.tip, this.foot);
    this.text.onmouseover = (event) => this.show(this.spans().indexOf(event.target.closest("span")));
    this.text.onmouseleave = () => this.show(-1);
    this.text.onblur = () => this.show(-1);
    this.text.onclick = (event) => this.show(this.spans().indexOf(event.target.closest("span")));
    this.text.onkeydown = (event) => {
      if (event.key === "Escape" && !this.tip.hidden) {
        event.stopPropagation(); // the answer goes on
        this.show(-1);
      }
      const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
      if (!step || !this.all.length) return;
      event.preventDefault();
      this.show(Math.min(this.spans().length - 1, Math.max(0, this.shown + step)));
    };
  }

  spans = () => [...this.text.children];

  /** Put a piece behind what is there. Tokens whose text is held back wait for the piece that it comes with. */
  add(piece) {
    this.held.push(...piece.tokens);
    this.all.push(...piece.tokens);
    if (!piece.text) return;
    const tokens = this.held;
    this.held = [];
    const each = tokens.map((token) => token.text);
    if (each.join("") === piece.text) tokens.forEach((token) => this.span(token.text, [token]));
    else this.span(piece.text, tokens);
  }

  span(text, tokens) {
    const made = el("span", {}, text);
    if (tokens.length) {
      made.classList.add("token", shade(Math.min(...tokens.map((token) => token.log))));
      made.tokens = tokens;
    }
    this.text.append(made);
  }

  /** The probabilities at a token; -1 hides them. */
  show(number) {
    this.spans()[this.shown]?.classList.remove("on");
    const span = this.spans()[number];
    this.shown = span?.tokens ? number : -1;
    this.tip.hidden = this.shown < 0;
    if (this.shown < 0) return;
    span.classList.add("on");
    this.tip.replaceChildren(...span.tokens.map((token) => this.told(token)));
    const [box, mark] = [this.root.getBoundingClientRect(), span.getBoundingClientRect()];
    const left = Math.min(mark.left - box.left, box.width - this.tip.offsetWidth);
    this.tip.style.left = `${Math.max(0, left)}px`;
    const below = innerHeight - mark.bottom > this.tip.offsetHeight + UNDER || mark.top < this.tip.offsetHeight;
    this.tip.style.top = `${(below ? mark.bottom + 4 : mark.top - this.tip.offsetHeight - 4) - box.top}px`;
  }

  told(token) {
    const rows = token.others.some((other) => other.text === token.text) ? token.others : [token, ...token.others];
    return el("table", {}, el("tbody", {}, rows.map((row) => {
      const bar = el("i");
      bar.style.width = `${(6 * Math.exp(row.log)).toFixed(2)}rem`;
      return el("tr", { className: row.text === token.text ? "taken" : "" },
        el("td", {}, visible(row.text)), el("td", {}, `${percent(row.log)} %`), el("td", {}, bar));
    })));
  }

  /** Another language, by its translator. */
  speak(t) {
    this.t = t;
    if (this.facts) this.end(this.facts);
  }

  /** The line below: how fast, how sure, and why it ended. */
  end(facts) {
    const { t } = this;
    this.facts = facts;
    const logs = this.all.map((token) => token.log).filter(Number.isFinite);
    const told = [];
    if (facts.tokens) told.push(t("{0} tokens, {1} a second", facts.tokens, short(facts.tokens / Math.max(facts.seconds, 1e-3))));
    if (facts.first !== null) told.push(t("first token after {0} s", short(facts.first)));
    if (logs.length) told.push(t("mean log-probability {0}", short(logs.reduce((a, b) => a + b, 0) / logs.length)));
    const reasons = { length: "the token limit was reached", stopped: "stopped", deadline: "the time limit was reached" };
    if (reasons[facts.finish]) told.push(t(reasons[facts.finish]));
    if (facts.problem) told.push(t(facts.problem));
    this.foot.classList.toggle("problem", Boolean(facts.problem));
    this.foot.textContent = told.join(" · ");
  }
}
