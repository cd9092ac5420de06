// The grid of all heads of a model, each with a number that says where it looks.

import { HEAD_TITLES, headDigits, headStrength, headValue, headWords } from "./attention_words.js";
import { around, h, segments, uniqueId } from "./dom.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 * @import { AttentionState, AttentionStore } from "./attention_store.js"
 * @import { Measure } from "./attention_words.js"
 */

/**
 * @param {AnyModel<AttentionState>} model @param {AttentionStore} store
 * @param {{listen: (listener: (change: {kind: string}) => void, signal: AbortSignal) => void}} feed
 * @param {AbortSignal} signal
 */
export function attentionHeads(model, store, feed, signal) {
  const id = uniqueId("head");
  const choice = measureChoice(model);
  const said = h("p", { class: "wb-quiet wb-heads-said", role: "status" });
  const table = h("table", { role: "grid", tabindex: 0, "aria-label": "Heads; arrow keys move, Enter chooses" });
  const scroller = h("div", { class: "wb-heads-scroller" }, table);
  /** By layer. @type {HTMLElement[][]} */ let cells = [];
  let active = { layer: 0, head: 0 };

  const build = () => {
    const [layers = 0, heads = 0] = model.get("shape");
    cells = Array.from({ length: layers }, (_, layer) =>
      Array.from({ length: heads }, (_, head) =>
        h("td", { role: "gridcell", id: `${id}-${layer}-${head}`, "data-wb-layer": layer, "data-wb-head": head }),
      ),
    );
    const names = Array.from({ length: heads }, (_, head) => h("th", { scope: "col", text: String(head) }));
    const corner = h("th", { scope: "col", class: "wb-heads-corner", text: "layer" });
    const rows = cells.map((row, layer) => h("tr", {}, h("th", { scope: "row", text: String(layer) }), ...row));
    table.replaceChildren(h("thead", {}, h("tr", {}, corner, ...names)), h("tbody", {}, ...rows));
    scroller.hidden = layers === 0;
    fill();
  };
  const fill = () => {
    const measure = model.get("measure");
    const heads = model.get("heads");
    const values = heads.map((row) => row.map((one) => headValue(one, measure)));
    const most = values.flat().reduce((/** @type {number} */ largest, value) => Math.max(largest, value ?? 0), 0);
    cells.forEach((row, layer) =>
      row.forEach((cell, head) => {
        const value = values[layer]?.[head] ?? null;
        const name = `layer ${layer}, head ${head}: ${headWords(value, measure, store.unit)}`;
        cell.textContent = layer < values.length ? headDigits(value, measure, store.unit) : "";
        cell.title = name;
        cell.setAttribute("aria-label", name);
        cell.style.setProperty("--wb-a", (0.55 * headStrength(value, measure, most)).toFixed(3));
      }),
    );
    choice.set(measure);
    said.textContent = progress();
    show();
  };
  const progress = () => {
    const [layers = 0] = model.get("shape");
    const read = model.get("heads").length;
    const averaged = model.get("averaged").toLocaleString("en-US");
    const what = model.get("measure") === "entropy" ? `in ${store.unit}` : "in percent";
    if (layers && read === layers)
      return `${HEAD_TITLES[model.get("measure")]}, ${what}; mean over ${averaged} tokens.`;
    if (read) return `Reading the heads: ${read} of ${layers} layers …`;
    return layers ? "The heads are read when the run has ended or is paused." : "";
  };
  const show = () => {
    const chosen = { layer: model.get("layer"), head: model.get("head") };
    cells.forEach((row, layer) =>
      row.forEach((cell, head) => {
        cell.setAttribute("aria-selected", String(layer === chosen.layer && head === chosen.head));
        cell.classList.toggle("wb-active", layer === active.layer && head === active.head);
      }),
    );
    if (cells.length) table.setAttribute("aria-activedescendant", `${id}-${active.layer}-${active.head}`);
  };
  const follow = () => {
    active = { layer: model.get("layer"), head: model.get("head") };
    show();
  };
  const move = (/** @type {number} */ layer, /** @type {number} */ head) => {
    active = {
      layer: Math.max(0, Math.min(cells.length - 1, layer)),
      head: Math.max(0, Math.min(cells[0].length - 1, head)),
    };
    show();
    revealCell(scroller, cells[active.layer][active.head]);
  };
  table.addEventListener("click", (event) => {
    const cell = around(event, "[data-wb-layer]");
    if (cell) store.chooseHead(Number(cell.getAttribute("data-wb-layer")), Number(cell.getAttribute("data-wb-head")));
  });
  table.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || !cells.length) return;
    const { layer, head } = active;
    /** @type {Record<string, () => void>} */
    const actions = {
      ArrowUp: () => move(layer - 1, head),
      ArrowDown: () => move(layer + 1, head),
      ArrowLeft: () => move(layer, head - 1),
      ArrowRight: () => move(layer, head + 1),
      Home: () => move(layer, 0),
      End: () => move(layer, cells[0].length - 1),
      Enter: () => store.chooseHead(layer, head),
      " ": () => store.chooseHead(layer, head),
    };
    if (!actions[event.key]) return;
    actions[event.key]();
    event.preventDefault();
    event.stopPropagation();
  });
  model.on("change:shape", build);
  for (const name of /** @type {const} */ (["heads", "measure", "averaged"])) model.on(`change:${name}`, fill);
  for (const name of /** @type {const} */ (["layer", "head"])) model.on(`change:${name}`, follow);
  feed.listen((change) => change.kind === "unit" && fill(), signal);
  build();
  follow();
  return h("div", { class: "wb-heads" }, h("h3", { text: "All heads" }), choice.root, said, scroller);
}

/** @param {AnyModel<AttentionState>} model */
function measureChoice(model) {
  const choice = segments({
    label: "Number of each head",
    options: /** @type {{value: Measure, text: string, title: string}[]} */ ([
      { value: "first", text: "First token", title: HEAD_TITLES.first },
      { value: "previous", text: "Previous token", title: HEAD_TITLES.previous },
      { value: "entropy", text: "Entropy", title: "Entropy of the weights: low for a head that looks at one token" },
    ]),
    onChange: (value) => {
      model.set("measure", value);
      model.save_changes();
    },
  });
  choice.root.classList.add("wb-segments-small");
  return choice;
}

/** Scroll the grid alone to a cell, past its sticky names. @param {HTMLElement} scroller @param {HTMLElement} cell */
function revealCell(scroller, cell) {
  const outer = scroller.getBoundingClientRect();
  const inner = cell.getBoundingClientRect();
  if (inner.top < outer.top + 24) scroller.scrollTop -= outer.top + 24 - inner.top;
  else if (inner.bottom > outer.bottom) scroller.scrollTop += inner.bottom - outer.bottom + 4;
  if (inner.left < outer.left + 40) scroller.scrollLeft -= outer.left + 40 - inner.left;
  else if (inner.right > outer.right) scroller.scrollLeft += inner.right - outer.right + 4;
}
