// Ablation: a grid of the parts of each layer, the tokens, and what replaces the output.

import { cellGrid, numbers } from "./cell_grid.js";
import { h, segments } from "./dom.js";
import { visible } from "./format.js";
import { tokenLine } from "./token_line.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 * @import { Ask } from "./asking.js"
 * @import { EditState, EditTexts } from "./edit_view.js"
 *
 * @typedef {{part: "layer" | "attention" | "mlp" | "head", layer: number, head: number | null}} Ablated
 */

/** Parts of a layer, before its heads. */
const COLUMNS = /** @type {const} */ (["layer", "attention", "mlp"]);
const COLUMN_NAMES = ["all", "attn", "MLP"];

/** Return what a cell of the grid stands for. @param {{row: number, column: number}} cell @returns {Ablated} */
export function ablatedBy({ row, column }) {
  if (column < COLUMNS.length) return { part: COLUMNS[column], layer: row, head: null };
  return { part: "head", layer: row, head: column - COLUMNS.length };
}

/** @param {Ablated} ablated */
export function ablatedName({ part, layer, head }) {
  if (part === "head") return `head ${head} of layer ${layer}`;
  return {
    layer: `all that layer ${layer} adds`,
    attention: `attention of layer ${layer}`,
    mlp: `MLP of layer ${layer}`,
  }[part];
}

/** @param {AnyModel<EditState>} model @param {EditTexts} texts @param {Ask} ask @param {AbortSignal} signal */
export function ablateForm(model, texts, ask, signal) {
  let method = /** @type {"zero" | "mean"} */ ("zero");
  let isOne = false;
  let chosen = /** @type {{row: number, column: number} | null} */ (null);
  let position = /** @type {number | null} */ (null);
  const grid = cellGrid("Parts of the layers", (cell) => {
    chosen = cell;
    show();
  });
  const said = h("p", { class: "wb-edit-said", role: "status" });
  const add = h("button", { type: "button", class: "wb-button wb-edit-add", text: "Add change" });
  const methods = segments({
    label: "Replaced by",
    options: /** @type {{value: "zero" | "mean", text: string, title: string}[]} */ ([
      { value: "zero", text: "Zero", title: "The part adds nothing" },
      { value: "mean", text: "Mean", title: "The part adds its mean over the text" },
    ]),
    onChange: (value) => {
      method = value;
      show();
    },
  });
  const where = segments({
    label: "Tokens",
    options: [
      { value: "all", text: "All tokens" },
      { value: "one", text: "One token" },
    ],
    onChange: (value) => {
      isOne = value === "one";
      position ??= texts.labels().length - 1;
      line.root.hidden = !isOne;
      line.measure();
      if (position >= 0) line.reveal(position);
      show();
    },
  });
  const line = tokenLine(
    "Token to change",
    {
      count: () => texts.labels().length,
      label: (at) => texts.labels()[at],
      chosen: () => position,
      choose: (at) => {
        position = Math.max(0, Math.min(texts.labels().length - 1, at));
        line.reveal(position);
        show();
      },
      describe: (at) => `Token ${at + 1} “${visible(texts.labels()[at])}”`,
    },
    () => 0,
    signal,
  );
  line.root.hidden = true;
  methods.set(method);
  where.set("all");
  const build = () => {
    const [layers = 0, heads = 0] = model.get("shape");
    grid.build("layer", numbers(layers), [...COLUMN_NAMES, ...numbers(heads)]);
    grid.cells.forEach((row, i) =>
      row.forEach((cell, j) => {
        const name = ablatedName(ablatedBy({ row: i, column: j }));
        cell.title = name;
        cell.setAttribute("aria-label", name);
      }),
    );
    chosen = chosen && chosen.row < layers && chosen.column < COLUMNS.length + heads ? chosen : null;
    show();
  };
  const show = () => {
    grid.show(chosen);
    line.show();
    add.disabled = chosen === null;
    said.textContent = chosen
      ? `${method === "zero" ? "Zero" : "Mean of"} ${ablatedName(ablatedBy(chosen))}, ${isOne && position !== null ? `token ${position + 1}` : "all tokens"}.`
      : "Choose a layer, its attention, its MLP or one of its heads.";
  };
  const measure = () => {
    if (position !== null) position = Math.min(position, texts.labels().length - 1);
    if (isOne) line.measure();
    show();
  };
  add.addEventListener("click", () => {
    if (chosen) ask({ kind: "ablate", ...ablatedBy(chosen), method, position: isOne ? position : null });
  });
  model.on("change:shape", build);
  texts.listen(measure, signal);
  build();
  return h(
    "div",
    { class: "wb-edit-ablate" },
    grid.root,
    h(
      "div",
      { class: "wb-edit-side" },
      h("div", { class: "wb-edit-choices" }, methods.root, where.root),
      line.root,
      said,
      add,
    ),
  );
}
