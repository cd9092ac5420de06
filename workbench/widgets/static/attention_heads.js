// The grid of all heads of a model, each with a number that says where it looks.

import { HEAD_TITLES, headDigits, headStrength, headValue, headWords } from "./attention_words.js";
import { cellGrid, numbers } from "./cell_grid.js";
import { h, segments } from "./dom.js";

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
  const choice = measureChoice(model);
  const said = h("p", { class: "wb-quiet wb-heads-said", role: "status" });
  const grid = cellGrid("Heads", ({ row, column }) => store.chooseHead(row, column));

  const build = () => {
    const [layers = 0, heads = 0] = model.get("shape");
    grid.build("layer", numbers(layers), numbers(heads));
    fill();
  };
  const fill = () => {
    const measure = model.get("measure");
    const heads = model.get("heads");
    const values = heads.map((row) => row.map((one) => headValue(one, measure)));
    const most = values.flat().reduce((/** @type {number} */ largest, value) => Math.max(largest, value ?? 0), 0);
    grid.cells.forEach((row, layer) =>
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
      return `${HEAD_TITLES[model.get("measure")]}, ${what}; mean over the last ${averaged} tokens.`;
    if (read) return `Reading the heads: ${read} of ${layers} layers …`;
    return layers ? "The heads are read when the run has ended or is paused." : "";
  };
  const show = () => grid.show({ row: model.get("layer"), column: model.get("head") });
  model.on("change:shape", build);
  for (const name of /** @type {const} */ (["heads", "measure", "averaged"])) model.on(`change:${name}`, fill);
  for (const name of /** @type {const} */ (["layer", "head"])) model.on(`change:${name}`, show);
  feed.listen((change) => change.kind === "unit" && fill(), signal);
  build();
  return h("div", { class: "wb-heads" }, h("h3", { text: "All heads" }), choice.root, said, grid.root);
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
