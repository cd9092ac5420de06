// A grid of cells, of which one is chosen: arrow keys move a mark between them, Enter or a click chooses.

import { around, h, uniqueId } from "./dom.js";

/** @typedef {{row: number, column: number}} Cell */

/**
 * @param {string} label @param {(cell: Cell) => void} choose
 */
export function cellGrid(label, choose) {
  const id = uniqueId("cell");
  const table = h("table", { role: "grid", tabindex: 0, "aria-label": `${label}; arrow keys move, Enter chooses` });
  const root = h("div", { class: "wb-cells" }, table);
  /** @type {HTMLElement[][]} */ let cells = [];
  let active = { row: 0, column: 0 };

  const mark = (/** @type {Cell | null} */ chosen) => {
    cells.forEach((row, i) =>
      row.forEach((cell, j) => {
        cell.setAttribute("aria-selected", String(i === chosen?.row && j === chosen.column));
        cell.classList.toggle("wb-active", i === active.row && j === active.column);
      }),
    );
    if (cells.length) table.setAttribute("aria-activedescendant", `${id}-${active.row}-${active.column}`);
  };
  let shown = /** @type {Cell | null} */ (null);
  const move = (/** @type {number} */ row, /** @type {number} */ column) => {
    active = {
      row: Math.max(0, Math.min(cells.length - 1, row)),
      column: Math.max(0, Math.min(cells[0].length - 1, column)),
    };
    mark(shown);
    revealCell(root, cells[active.row][active.column]);
  };
  table.addEventListener("click", (event) => {
    const cell = around(event, "[data-wb-row]");
    if (!cell) return;
    choose({ row: Number(cell.getAttribute("data-wb-row")), column: Number(cell.getAttribute("data-wb-column")) });
  });
  table.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || !cells.length) return;
    const { row, column } = active;
    /** @type {Record<string, () => void>} */
    const actions = {
      ArrowUp: () => move(row - 1, column),
      ArrowDown: () => move(row + 1, column),
      ArrowLeft: () => move(row, column - 1),
      ArrowRight: () => move(row, column + 1),
      Home: () => move(row, 0),
      End: () => move(row, cells[0].length - 1),
      Enter: () => choose(active),
      " ": () => choose(active),
    };
    if (!actions[event.key]) return;
    actions[event.key]();
    event.preventDefault();
    event.stopPropagation();
  });
  return {
    root,
    /** By row. */
    get cells() {
      return cells;
    },
    /** Make the cells anew. @param {string} corner @param {string[]} rows @param {string[]} columns  their names */
    build(corner, rows, columns) {
      cells = rows.map((_, row) =>
        columns.map((_name, column) =>
          h("td", { role: "gridcell", id: `${id}-${row}-${column}`, "data-wb-row": row, "data-wb-column": column }),
        ),
      );
      const names = columns.map((text) => h("th", { scope: "col", text }));
      const head = h("tr", {}, h("th", { scope: "col", class: "wb-cells-corner", text: corner }), ...names);
      const body = cells.map((row, i) => h("tr", {}, h("th", { scope: "row", text: rows[i] }), ...row));
      table.replaceChildren(h("thead", {}, head), h("tbody", {}, ...body));
      root.hidden = rows.length === 0;
    },
    /** Show the chosen cell, at which the keys start. @param {Cell | null} chosen */
    show(chosen) {
      shown = chosen;
      active = chosen ?? active;
      mark(chosen);
    },
  };
}

/** Return the numbers from 0 as names. @param {number} count */
export function numbers(count) {
  return Array.from({ length: count }, (_, at) => String(at));
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
