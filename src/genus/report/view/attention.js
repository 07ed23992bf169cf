// The attention page: a sentence, every head of every layer as a small picture, and what one word looks at in one of them.
// `show(root, data, t)` draws it; `data` is what Explanation.to_json of genus.evaluate.explain gives.

import { el } from "./dom.js";

const PLACES = {
  text: "The text looks at itself",
  source: "The source looks at itself",
  cross: "The text looks at the source",
};
const SMALL = 24; // positions from which a picture of a head is drawn with one pixel for each
const LABELLED = 40; // positions up to which the large picture has words at its edges
const BAR = 7; // rem of the longest bar of a table with one column of them

/** Weights of a layer as an array of heads, each a Float32Array of rows; the mean of all heads stands at -1. */
function unpack(layer, queries, keys) {
  const bytes = Uint8Array.from(atob(layer.weights), (c) => c.charCodeAt(0));
  const steps = new Uint16Array(bytes.buffer);
  const size = queries * keys;
  const heads = layer.low.map((low, h) => {
    const span = (layer.high[h] - low) / 65535;
    return Float32Array.from(steps.subarray(h * size, (h + 1) * size), (step) => low + step * span);
  });
  const mean = new Float32Array(size);
  for (const head of heads) head.forEach((value, i) => (mean[i] += value / heads.length));
  return { ...layer, at: (head) => (head < 0 ? mean : heads[head]), queries, keys };
}

const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9);
const plain = (token) => token.trim() || (token.includes("\n") ? "⏎" : "␣");

/** Draw the page into `root`. `t` translates; see words.js. Returns nothing. */
export function show(root, data, t) {
  const layers = data.layers.map((layer) => {
    const count = { text: data.tokens.length, source: data.source.length };
    return unpack(layer, layer.place === "source" ? count.source : count.text, layer.place === "text" ? count.text : count.source);
  });
  const places = Object.keys(PLACES).filter((place) => layers.some((layer) => layer.place === place));
  const state = { place: places.includes("cross") ? "cross" : places[0], layer: null, head: -1, query: 0 };
  const words = (side) => (side === "source" ? data.source : data.tokens);
  const queries = () => words(state.place === "source" ? "source" : "text");
  const keys = () => words(state.place === "text" ? "text" : "source");

  root.replaceChildren();
  root.classList.add("looks");
  const choice = el("select", { onchange: () => enter(choice.value) });
  for (const place of places) choice.append(el("option", { value: place, textContent: t(PLACES[place]) }));
  const caption = el("p", { className: "told" });
  caption.setAttribute("aria-live", "polite");
  const sentence = el("div", { className: "words" });
  const looked = el("div", { className: "words" });
  const shares = el("div", { className: "scroll" });
  const grid = el("div", { className: "heads" });
  const note = el("p", { className: "dim" });
  const whole = el("canvas");
  whole.setAttribute("role", "img");
  if (places.length > 1) root.append(el("label", {}, `${t("Who looks at whom")} `, choice));
  root.append(
    section(t("Choose a word"), sentence, looked, caption),
    section(t("Every layer, every head"), el("p", { className: "dim", textContent: t("Each square is a whole text: rows look at columns. Arrow keys move.") }), el("div", { className: "scroll" }, grid)),
    section(t("Rows look at columns"), el("div", { className: "whole" }, whole)),
    section(t("Weight"), note, shares),
  );
  enter(state.place);

  /** Begin with one of the places: at the pronoun, in the head that looks hardest from it at another word. */
  function enter(place) {
    state.place = choice.value = place;
    state.query = opening(queries());
    let best = -1;
    [state.layer, state.head] = [layers.find((layer) => layer.place === place), -1];
    for (const layer of layers.filter((each) => each.place === place)) {
      for (let head = 0; head < layer.heads; head++) {
        const row = layer.at(head).subarray(state.query * layer.keys, (state.query + 1) * layer.keys);
        row.forEach((value, i) => {
          const same = place !== "cross" && Math.abs(i - state.query) < 2;
          if (value > best && !same && /^\p{L}/u.test(plain(keys()[i]))) [best, state.layer, state.head] = [value, layer, head];
        });
      }
    }
    drawWords();
    drawGrid();
    update();
  }

  function opening(tokens) {
    const gap = tokens.some((token) => token.includes(" ")) ? "" : " "; // vocabularies without spaces hold whole words, and ##pieces
    const ends = [];
    let text = "";
    for (const token of tokens) ends.push((text += token.startsWith("##") ? token.slice(2) : gap + token).length);
    const pronoun = [...text.matchAll(/(?<![a-z])(?:it|he|she|they)(?![a-z])|[它他她]/gi)].at(-1);
    const word = tokens.findLastIndex((token) => /^\p{L}/u.test(plain(token)));
    return pronoun ? ends.findIndex((end) => end >= pronoun.index + pronoun[0].length) : Math.max(word, 0);
  }

  function drawWords() {
    const same = state.place !== "cross";
    sentence.replaceChildren(
      ...queries().map((token, i) => {
        const button = el("button", { type: "button", textContent: plain(token), onclick: () => choose(i) });
        button.setAttribute("role", "radio");
        if (token.startsWith(" ")) button.classList.add("apart");
        button.onmouseenter = () => same && tell(i);
        button.onmouseleave = () => same && tell(null);
        return button;
      }),
    );
    sentence.setAttribute("role", "radiogroup");
    sentence.setAttribute("aria-label", t("Choose a word"));
    sentence.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -1e9, End: 1e9 }[event.key];
      if (!step) return;
      event.preventDefault();
      choose(Math.min(queries().length - 1, Math.max(0, state.query + step)));
      sentence.children[state.query].focus();
    };
    looked.hidden = same;
    looked.replaceChildren(
      ...(same ? [] : keys().map((token) => {
        const button = el("button", { type: "button", textContent: plain(token), tabIndex: -1 });
        if (token.startsWith(" ")) button.classList.add("apart");
        return button;
      })),
    );
  }

  function drawGrid() {
    const rows = layers.filter((layer) => layer.place === state.place);
    const most = Math.max(...rows.map((layer) => layer.heads));
    grid.style.gridTemplateColumns = `max-content repeat(${most + 1}, minmax(1.1rem, 3rem))`;
    grid.setAttribute("role", "grid");
    grid.setAttribute("aria-label", t("Every layer, every head"));
    grid.replaceChildren();
    grid.append(cell(""), cell(t("mean")), ...Array.from({ length: most }, (_, h) => cell(String(h + 1))));
    for (const layer of rows) {
      const row = el("div", { className: "row" });
      row.style.display = "contents";
      row.setAttribute("role", "row");
      row.append(cell(t("Layer {0}", layer.number + 1)));
      for (let head = -1; head < most; head++) {
        if (head >= layer.heads) {
          row.append(cell(""));
          continue;
        }
        const button = el("button", { type: "button", tabIndex: -1, onclick: () => pick(layer, head) });
        button.setAttribute("role", "gridcell");
        button.setAttribute("aria-label", named(layer, head));
        button.title = named(layer, head);
        const canvas = el("canvas");
        picture(canvas, layer, head);
        button.append(canvas);
        Object.assign(button, { layer, head });
        row.append(button);
      }
      grid.append(row);
    }
    grid.onkeydown = (event) => {
      const [down, right] = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key] ?? [0, 0];
      if (!down && !right) return;
      event.preventDefault();
      const layer = rows[Math.min(rows.length - 1, Math.max(0, rows.indexOf(state.layer) + down))];
      pick(layer, Math.min(layer.heads - 1, Math.max(-1, state.head + right)));
      selected()?.focus();
    };
  }

  function cell(text) {
    return el("span", { className: "name" }, text);
  }

  function selected() {
    return [...grid.querySelectorAll("button")].find((b) => b.layer === state.layer && b.head === state.head);
  }

  function named(layer, head) {
    return head < 0 ? t("Layer {0}, mean of all heads", layer.number + 1) : t("Layer {0}, head {1}", layer.number + 1, head + 1);
  }

  function pick(layer, head) {
    [state.layer, state.head] = [layer, head];
    update();
  }

  function choose(query) {
    state.query = query;
    update();
  }

  function row() {
    return state.layer.at(state.head).subarray(state.query * state.layer.keys, (state.query + 1) * state.layer.keys);
  }

  function update() {
    const values = row();
    const most = largest(values);
    const target = state.place === "cross" ? looked : sentence;
    [...sentence.children].forEach((button, i) => {
      button.setAttribute("aria-checked", String(i === state.query));
      button.tabIndex = i === state.query ? 0 : -1;
      button.style.setProperty("--seen", 0);
    });
    [...target.children].forEach((button, i) => {
      button.style.setProperty("--seen", (0.85 * Math.sqrt(Math.abs(values[i]) / most)).toFixed(3));
      button.classList.toggle("less", values[i] < 0);
    });
    for (const button of grid.querySelectorAll("button")) {
      const on = button.layer === state.layer && button.head === state.head;
      button.setAttribute("aria-selected", String(on));
      button.tabIndex = on ? 0 : -1;
    }
    tell(null);
    drawShares(values, most);
    drawWhole();
  }

  /** One line: what the word looks at most, or how much at one word. */
  function tell(only) {
    const values = row();
    const order = only === null ? [...values.keys()].sort((a, b) => Math.abs(values[b]) - Math.abs(values[a])).slice(0, 4) : [only];
    const word = `“${plain(queries()[state.query])}”`;
    const told = order.map((i) => `${plain(keys()[i])} ${values[i].toFixed(2)}`).join(" · ");
    const kind = state.layer.kind === "fast weights" ? "{0} is made of" : "{0} looks at";
    caption.replaceChildren(el("b", { textContent: named(state.layer, state.head) }), `: ${t(kind, word)} ${told}`);
  }

  function drawShares(values, most) {
    const { layer, head } = state;
    const signed = layer.kind === "fast weights";
    note.textContent = signed
      ? `${t("fast weights")}: ${t("The share of each earlier word in what this position reads from the memory. It may be negative, where a later write took something back.")} ${t("Write: how far the word changed the memory. β: the share of the error that is written. Kept: what is left of the memory before it.")}`
      : `${t(`${layer.kind} attention`)}: ${t("The weights sum to 1.")}`;
    const of = (name) => {
      const found = layer[name];
      if (!found) return null;
      return head >= 0 ? found[head] : found[0].map((_, i) => found.reduce((sum, each) => sum + each[i], 0) / found.length);
    };
    const columns = [["Write", of("write")], ["β", of("beta")], ["Kept", of("decay")]].filter(([, found]) => found);
    const wide = columns.length ? BAR / 2 : BAR;
    const table = el("table", { className: "shares" });
    const top = el("tr");
    for (const name of ["Word", "Weight", ...columns.map(([each]) => each)]) top.append(el("th", { textContent: t(name) }));
    table.append(el("thead"), el("tbody"));
    table.tHead.append(top);
    values.forEach((value, i) => {
      const line = el("tr");
      if (i === state.query && state.place !== "cross") line.className = "at";
      line.append(el("td", { textContent: plain(keys()[i]) }), bar(value, most, wide));
      for (const [name, found] of columns) line.append(bar(found[i], name === "Write" ? largest(found) : 1, wide));
      table.tBodies[0].append(line);
    });
    shares.replaceChildren(table);
  }

  function bar(value, most, wide) {
    const mark = el("i");
    mark.style.width = `${((wide * Math.abs(value)) / most).toFixed(2)}rem`;
    const box = el("div", { className: value < 0 ? "bar less" : "bar" });
    box.append(mark, el("span", { textContent: Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(3).replace(/^-(0\.0+)$/, "$1") }));
    const made = el("td");
    made.append(box);
    return made;
  }

  /** A head as a small picture, one pixel for each pair of positions. */
  function picture(canvas, layer, head) {
    [canvas.width, canvas.height] = [layer.keys, layer.queries];
    const pen = canvas.getContext("2d");
    const values = layer.at(head);
    const most = largest(values);
    const image = pen.createImageData(layer.keys, layer.queries);
    const [more, less] = ["--c0", "--c1"].map(colour);
    values.forEach((value, i) => {
      image.data.set(value < 0 ? less : more, 4 * i);
      image.data[4 * i + 3] = 255 * Math.sqrt(Math.abs(value) / most);
    });
    pen.putImageData(image, 0, 0);
    if (layer.keys > SMALL) canvas.style.imageRendering = "auto";
  }

  function colour(name) {
    const text = getComputedStyle(root).getPropertyValue(name).trim();
    return [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
  }

  /** The chosen head, large, with its words. */
  function drawWhole() {
    const { layer, head } = state;
    const style = getComputedStyle(root);
    const names = Math.max(layer.keys, layer.queries) <= LABELLED;
    const room = names ? 96 : 0;
    const unit = Math.max(2, Math.floor((560 - room) / Math.max(layer.keys, layer.queries, 6)));
    const scale = 2;
    [whole.width, whole.height] = [scale * (room + unit * layer.keys), scale * (room + unit * layer.queries)];
    whole.setAttribute("aria-label", named(layer, head));
    const pen = whole.getContext("2d");
    pen.scale(scale, scale);
    const values = layer.at(head);
    const most = largest(values);
    const [more, less] = ["--c0", "--c1"].map((name) => style.getPropertyValue(name));
    values.forEach((value, i) => {
      pen.globalAlpha = Math.sqrt(Math.abs(value) / most);
      pen.fillStyle = value < 0 ? less : more;
      pen.fillRect(room + (i % layer.keys) * unit, room + Math.floor(i / layer.keys) * unit, unit - 0.5, unit - 0.5);
    });
    pen.globalAlpha = 1;
    pen.strokeStyle = style.getPropertyValue("--c1");
    pen.strokeRect(room, room + state.query * unit, layer.keys * unit, unit);
    if (names) {
      pen.fillStyle = style.getPropertyValue("--fg");
      pen.font = `${Math.min(13, unit)}px system-ui, sans-serif`;
      pen.textBaseline = "middle";
      pen.textAlign = "right";
      queries().forEach((token, i) => pen.fillText(plain(token), room - 5, room + (i + 0.5) * unit, room - 8));
      pen.textAlign = "left";
      keys().forEach((token, i) => {
        pen.save();
        pen.translate(room + (i + 0.5) * unit, room - 5);
        pen.rotate(-Math.PI / 2);
        pen.fillText(plain(token), 0, 0, room - 8);
        pen.restore();
      });
    }
    whole.onclick = (event) => {
      const box = whole.getBoundingClientRect();
      const at = Math.floor((((event.clientY - box.top) / box.height) * whole.height) / scale / unit - room / unit);
      if (at >= 0 && at < layer.queries) choose(at);
    };
  }

  matchMedia("(prefers-color-scheme: dark)").onchange = () => {
    drawGrid();
    update();
  };
}

function section(title, ...children) {
  return el("section", {}, el("h3", {}, title), ...children);
}
