// The columns of a lens that are drawn: rows of cells with fixed sizes and places, so that a new column moves no other.

import { h, uniqueId } from "./dom.js";
import { percent, visible } from "./format.js";
import { rankInWords } from "./layers_words.js";

/**
 * @import { Cell, LayersStore } from "./layers_store.js"
 *
 * @typedef {{cells: HTMLElement[], values: Cell[] | null}} Column  elements from the number of the token down, and what they show
 */

export const CELL_WIDTH = 76;
export const NAME_WIDTH = 44;

/** Draw some columns in a grid. @param {LayersStore} store @param {HTMLElement} grid */
export function layersColumns(store, grid) {
  const idPrefix = uniqueId("cell");
  /** Rows from the numbers of the tokens through the layers to what was said. @type {HTMLElement[]} */ let rows = [];
  /** @type {Map<number, Column>} */ let drawn = new Map();
  /** @type {HTMLElement[]} */ let marked = [];

  const place = (/** @type {number} */ position, /** @type {boolean} */ isBefore) => {
    const label = visible(store.tokens[position].label);
    const cells = rows.map((row, i) => {
      const isLayer = i > 0 && i < rows.length - 1;
      const cell = h("div", {
        role: i === 0 ? "columnheader" : "gridcell",
        class: "wb-layers-cell",
        id: `${idPrefix}-${position}-${i}`,
        title: !isLayer && i > 0 && label,
        text: i === 0 ? String(position + 1) : isLayer ? null : label,
        "aria-colindex": position - store.first + 2,
        "data-wb-position": position,
        "data-wb-layer": isLayer && i - 1,
      });
      cell.style.left = `${NAME_WIDTH + (position - store.first) * CELL_WIDTH}px`;
      if (isBefore) row.firstElementChild?.after(cell);
      else row.append(cell);
      return cell;
    });
    /** @type {Column} */ const column = { cells, values: null };
    drawn.set(position, column);
    fill(column, position);
  };
  const fill = (/** @type {Column} */ column, /** @type {number} */ position) => {
    const values = store.column(position);
    const said = store.tokens[position].id;
    column.values = values;
    column.cells.slice(1, -1).forEach((cell, layer) => fillCell(cell, values?.[layer] ?? null, said));
  };
  /** Remove the columns outside a stretch. @param {number} from @param {number} to */
  const drop = (from, to) => {
    for (const [position, column] of drawn) {
      if (position >= from && position < to) continue;
      for (const cell of column.cells) cell.remove();
      drawn.delete(position);
    }
  };
  /** Mark the chosen cell and its column. */
  const mark = () => {
    for (const cell of marked) {
      cell.classList.remove("wb-here", "wb-chosen");
      cell.removeAttribute("aria-selected");
    }
    marked = (store.current === null ? null : drawn.get(store.current)?.cells) ?? [];
    for (const cell of marked) cell.classList.add("wb-here");
    const chosen = store.layers ? marked[store.layer + 1] : undefined;
    chosen?.classList.add("wb-chosen");
    chosen?.setAttribute("aria-selected", "true");
    if (chosen) grid.setAttribute("aria-activedescendant", chosen.id);
    else grid.removeAttribute("aria-activedescendant");
  };
  return {
    /** Draw rows without columns. */
    clear() {
      drawn = new Map();
      rows = rowsOf(store.layers);
      grid.replaceChildren(...rows);
      grid.setAttribute("aria-rowcount", String(rows.length));
    },
    /** Draw the columns of a stretch, and no others. @param {number} from @param {number} to */
    show(from, to) {
      if (rows.length !== store.layers + 2) this.clear();
      drop(from, to);
      const least = drawn.size ? Math.min(...drawn.keys()) : to;
      for (let position = least - 1; position >= from; position -= 1) place(position, true);
      for (let position = least; position < to; position += 1) {
        const column = drawn.get(position);
        if (!column) place(position, false);
        else if (column.values !== store.column(position)) fill(column, position);
      }
      mark();
    },
    /** Return whether a column is drawn. @param {number} position */
    has: (position) => drawn.has(position),
    get rows() {
      return rows;
    },
  };
}

/** @param {number} layers */
function rowsOf(layers) {
  const names = ["layer", ...Array.from({ length: layers }, (_, layer) => String(layer)), "said"];
  return names.map((name, i) => {
    const kind = i === 0 ? " wb-layers-head" : i === names.length - 1 ? " wb-layers-said" : "";
    const title = h("div", { role: "rowheader", class: "wb-layers-name", "aria-colindex": 1, text: name });
    return h("div", { role: "row", class: `wb-layers-row${kind}`, "aria-rowindex": i + 1 }, title);
  });
}

/** @param {HTMLElement} cell @param {Cell | null} values @param {number} said  id of the token that was said */
function fillCell(cell, values, said) {
  cell.classList.toggle("wb-waiting", !values);
  cell.classList.toggle("wb-hit", values?.top.id === said);
  cell.textContent = values ? visible(values.top.label) : "";
  cell.style.setProperty("--wb-p", values ? values.top.probability.toFixed(3) : "0");
  cell.title = values
    ? `${visible(values.top.label)} ${percent(values.top.probability)}; said: rank ${rankInWords(values.rank)}`
    : "not computed yet";
}
