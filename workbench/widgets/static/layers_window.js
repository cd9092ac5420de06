// Virtual scrolling of a lens: only the columns on the screen exist, and two gaps stand for the others.

import { h } from "./dom.js";
import { CELL_WIDTH, NAME_WIDTH, layersColumns } from "./layers_columns.js";

/** @import { LayersStore, Span } from "./layers_store.js" */

const OVERSCAN = 4;

/**
 * Draw the columns on the screen.
 * @param {LayersStore} store @param {HTMLElement} scroller @param {HTMLElement} grid @param {AbortSignal} signal
 */
export function layersWindow(store, scroller, grid, signal) {
  const columns = layersColumns(store, grid);
  const before = gap();
  const after = gap();
  scroller.append(before.root, after.root);
  let frame = 0;
  const leftOf = (/** @type {number} */ position) => (position - store.first) * CELL_WIDTH;

  /** @returns {Span} */
  const span = () => {
    const count = store.tokens.length;
    const width = Math.max(CELL_WIDTH, scroller.clientWidth - NAME_WIDTH);
    // Before the first column the grid is hidden; it will be at the end of a text that grows.
    const isAtEnd = scroller.clientWidth === 0 && store.active;
    const shown = isAtEnd ? Math.max(0, count - store.first - 1) : scroller.scrollLeft / CELL_WIDTH;
    const from = Math.max(store.first, store.first + Math.floor(shown) - OVERSCAN);
    const to = Math.min(count, store.first + Math.ceil(shown + width / CELL_WIDTH) + OVERSCAN);
    return { from, to, isEnd: to >= count };
  };
  const draw = () => {
    frame = 0;
    const end = Math.max(store.first, store.tokens.length);
    const { from, to } = span();
    grid.style.width = `${NAME_WIDTH + leftOf(end)}px`;
    grid.setAttribute("aria-colcount", String(1 + end - store.first));
    columns.show(from, to);
    before.stand(0, leftOf(from));
    after.stand(leftOf(to), leftOf(end));
  };
  const drawSoon = () => {
    frame ||= window.requestAnimationFrame(draw);
  };
  /** Scroll to the chosen cell. */
  const showCurrent = () => {
    if (store.current === null || store.layers === 0) return;
    scrollInto(scroller, "scrollLeft", leftOf(store.current), CELL_WIDTH, scroller.clientWidth - NAME_WIDTH);
    const [head, row, foot] = [0, store.layer + 1, -1].map((i) => columns.rows.at(i));
    if (!head || !row || !foot) return;
    const room = scroller.clientHeight - head.offsetHeight - foot.offsetHeight;
    scrollInto(scroller, "scrollTop", row.offsetTop - head.offsetHeight, row.offsetHeight, room);
  };
  scroller.addEventListener("scroll", drawSoon);
  const sizes = new ResizeObserver(() => {
    if (store.current !== null && columns.has(store.current)) showCurrent();
    drawSoon();
  });
  sizes.observe(scroller);
  // A page may move the columns without a scroll event, as when a theme is loaded: a visible gap means that some are
  // missing.
  const gaps = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && drawSoon(), {
    root: scroller,
  });
  gaps.observe(before.root);
  gaps.observe(after.root);
  signal.addEventListener("abort", () => {
    sizes.disconnect();
    gaps.disconnect();
    window.cancelAnimationFrame(frame);
  });
  return {
    draw,
    drawSoon,
    showCurrent,
    /** Draw all columns anew. */
    reset() {
      columns.clear();
      draw();
    },
    /** The columns that are drawn. */
    get span() {
      return span();
    },
    /** Number of columns that fit on the screen. */
    get page() {
      return Math.max(1, Math.floor((scroller.clientWidth - NAME_WIDTH) / CELL_WIDTH) - 1);
    },
  };
}

/** A place where no columns are drawn. */
function gap() {
  const root = h("div", { class: "wb-layers-gap", "aria-hidden": "true" });
  return {
    root,
    /** @param {number} from @param {number} to  in pixels from the first column */
    stand(from, to) {
      root.hidden = from >= to;
      root.style.left = `${NAME_WIDTH + from}px`;
      root.style.width = `${Math.max(0, to - from)}px`;
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
