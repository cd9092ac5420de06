// Virtual scrolling of a lens: only the columns on the screen exist. Cells have fixed sizes and places, so that a new
// column moves none of the others.

import { h, uniqueId } from "./dom.js";
import { percent, visible } from "./format.js";
import { rankInWords } from "./layers_words.js";

/**
 * @import { Cell, LayersStore, Span } from "./layers_store.js"
 *
 * @typedef {{cells: HTMLElement[], values: Cell[] | null}} Column  elements from the first layer on, and what they show
 */

export const CELL_WIDTH = 76;
export const NAME_WIDTH = 44;
const OVERSCAN = 4;

/**
 * The grid of the columns on the screen.
 * @param {LayersStore} store @param {HTMLElement} scroller @param {HTMLElement} grid @param {AbortSignal} signal
 */
export function layersWindow(store, scroller, grid, signal) {
  const idPrefix = uniqueId("cell");
  /** Rows from the numbers of the tokens through the layers to what was said. @type {HTMLElement[]} */ let rows = [];
  /** @type {Map<number, Column>} */ let drawn = new Map();
  /** @type {HTMLElement[]} */ let marked = [];
  let frame = 0;
  const before = h("div", { class: "wb-layers-gap", "aria-hidden": "true" });
  const after = h("div", { class: "wb-layers-gap", "aria-hidden": "true" });
  scroller.append(before, after);

  const lay = () => {
    drawn = new Map();
    rows = rowsOf(store.layers);
    grid.replaceChildren(...rows);
    grid.setAttribute("aria-rowcount", String(rows.length));
  };
  const span = () => {
    const count = store.tokens.length;
    const width = Math.max(CELL_WIDTH, scroller.clientWidth - NAME_WIDTH);
    // Before the first column the grid is hidden; it will be at the end of a text that grows.
    const isAtEnd = scroller.clientWidth === 0 && store.active;
    const shown = isAtEnd ? Math.max(0, count - store.first - 1) : scroller.scrollLeft / CELL_WIDTH;
    const from = store.first + Math.floor(shown) - OVERSCAN;
    const to = store.first + Math.ceil(shown + width / CELL_WIDTH) + OVERSCAN;
    return { from: Math.max(store.first, from), to: Math.min(count, to) };
  };
  const draw = () => {
    frame = 0;
    if (rows.length !== store.layers + 2) lay();
    const count = store.tokens.length;
    grid.style.width = `${leftOf(Math.max(count, store.first))}px`;
    grid.setAttribute("aria-colcount", String(Math.max(0, count - store.first) + 1));
    const { from, to } = span();
    drop(from, to);
    const known = [...drawn.keys()];
    const least = known.length ? Math.min(...known) : to;
    for (let position = least - 1; position >= from; position -= 1) place(position, true);
    for (let position = least; position < to; position += 1) {
      const column = drawn.get(position);
      if (!column) place(position, false);
      else if (column.values !== store.column(position)) fill(column, position);
    }
    stand(before, store.first, from);
    stand(after, to, count);
    mark();
  };
  /** Remove the columns outside a stretch. @param {number} from @param {number} to */
  const drop = (from, to) => {
    for (const [position, column] of drawn) {
      if (position >= from && position < to) continue;
      for (const cell of column.cells) cell.remove();
      drawn.delete(position);
    }
  };
  const leftOf = (/** @type {number} */ position) => NAME_WIDTH + (position - store.first) * CELL_WIDTH;
  /** Put a gap where columns are not drawn. @param {HTMLElement} gap @param {number} from @param {number} to */
  const stand = (gap, from, to) => {
    gap.hidden = from >= to;
    gap.style.left = `${leftOf(from)}px`;
    gap.style.width = `${Math.max(0, to - from) * CELL_WIDTH}px`;
  };
  const place = (/** @type {number} */ position, /** @type {boolean} */ isBefore) => {
    const token = store.tokens[position];
    const left = `${leftOf(position)}px`;
    const cells = rows.map((row, i) => {
      const isHead = i === 0;
      const cell = h("div", {
        role: isHead ? "columnheader" : "gridcell",
        class: "wb-layers-cell",
        id: `${idPrefix}-${position}-${i}`,
        "aria-colindex": position - store.first + 2,
        "data-wb-position": position,
        "data-wb-layer": i > 0 && i < rows.length - 1 && i - 1,
      });
      cell.style.left = left;
      if (isBefore) row.firstElementChild?.after(cell);
      else row.append(cell);
      return cell;
    });
    cells[0].textContent = String(position + 1);
    cells[cells.length - 1].textContent = visible(token.label);
    cells[cells.length - 1].title = visible(token.label);
    /** @type {Column} */ const column = { cells, values: null };
    drawn.set(position, column);
    fill(column, position);
  };
  const fill = (/** @type {Column} */ column, /** @type {number} */ position) => {
    const values = store.column(position);
    const said = store.tokens[position].id;
    column.values = values;
    for (let i = 1; i < column.cells.length - 1; i += 1) fillCell(column.cells[i], values?.[i - 1] ?? null, said);
  };
  const mark = () => {
    for (const cell of marked) {
      cell.classList.remove("wb-here", "wb-chosen");
      cell.removeAttribute("aria-selected");
    }
    marked = [];
    grid.removeAttribute("aria-activedescendant");
    const column = store.current === null ? undefined : drawn.get(store.current);
    if (!column) return;
    marked = column.cells;
    for (const cell of marked) cell.classList.add("wb-here");
    const chosen = column.cells[store.layer + 1];
    if (store.layers === 0 || !chosen) return;
    chosen.classList.add("wb-chosen");
    chosen.setAttribute("aria-selected", "true");
    grid.setAttribute("aria-activedescendant", chosen.id);
  };
  const drawSoon = () => {
    frame ||= window.requestAnimationFrame(draw);
  };
  scroller.addEventListener("scroll", drawSoon);
  const sizes = new ResizeObserver(drawSoon);
  sizes.observe(scroller);
  // A page may move the columns without a scroll event, as when a theme is loaded: a visible gap means that some are
  // missing.
  const gaps = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && drawSoon(), {
    root: scroller,
  });
  gaps.observe(before);
  gaps.observe(after);
  signal.addEventListener("abort", () => {
    sizes.disconnect();
    gaps.disconnect();
    window.cancelAnimationFrame(frame);
  });
  return {
    draw,
    drawSoon,
    mark,
    /** Draw all columns anew. */
    reset() {
      lay();
      draw();
    },
    /** The columns that are drawn. @returns {Span} */
    get span() {
      return { ...span(), isEnd: span().to >= store.tokens.length };
    },
    /** Number of columns that fit on the screen. */
    get page() {
      return Math.max(1, Math.floor((scroller.clientWidth - NAME_WIDTH) / CELL_WIDTH) - 1);
    },
    /** Scroll to the chosen cell. */
    showCurrent() {
      if (store.current === null) return;
      const left = leftOf(store.current) - NAME_WIDTH;
      scrollInto(scroller, "scrollLeft", left, CELL_WIDTH, scroller.clientWidth - NAME_WIDTH);
      const row = rows[store.layer + 1];
      const [head, foot] = [rows[0], rows[rows.length - 1]];
      if (!row || store.layers === 0) return;
      const room = scroller.clientHeight - head.offsetHeight - foot.offsetHeight;
      scrollInto(scroller, "scrollTop", row.offsetTop - head.offsetHeight, row.offsetHeight, room);
    },
  };
}

/**
 * Scroll by as little as a step needs; after a jump, to the middle.
 * @param {HTMLElement} scroller @param {"scrollLeft" | "scrollTop"} side @param {number} at @param {number} size
 * @param {number} room
 */
function scrollInto(scroller, side, at, size, room) {
  const shown = scroller[side];
  const isFar = at < shown - room || at > shown + 2 * room;
  if (isFar) scroller[side] = at - room / 2;
  else if (at < shown) scroller[side] = at;
  else if (at + size > shown + room) scroller[side] = at + size - room;
}

/** @param {number} layers */
function rowsOf(layers) {
  const names = ["layer", ...Array.from({ length: layers }, (_, layer) => String(layer)), "said"];
  return names.map((name, i) => {
    const kind = i === 0 ? "wb-layers-head" : i === names.length - 1 ? "wb-layers-said" : false;
    const title = h("div", { role: "rowheader", class: "wb-layers-name", "aria-colindex": 1, text: name });
    return h(
      "div",
      { role: "row", class: kind ? `wb-layers-row ${kind}` : "wb-layers-row", "aria-rowindex": i + 1 },
      title,
    );
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
