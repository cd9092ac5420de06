// The surprisal along the text: one bar per token, or the maximum of each group if there are more tokens than room.

import { svgElement } from "./dom.js";
import { bits, tokenCount } from "./format.js";

/** @import { Store } from "./run_feed.js" */

const STRIP_WIDTH = 292;
const STRIP_HEIGHT = 44;
const WIDEST_BAR = 8;
const MOST_BITS = 8;

/** A chart whose bars select their tokens; `point` marks the current token, `draw` draws all. @param {Store} store */
export function surprisalStrip(store) {
  const bars = svgElement("path", { class: "wb-strip-bars" });
  const here = svgElement("path", { class: "wb-strip-here" });
  const viewBox = `0 0 ${STRIP_WIDTH} ${STRIP_HEIGHT}`;
  const svg = svgElement("svg", { class: "wb-strip", viewBox, preserveAspectRatio: "none", role: "img" }, bars, here);
  const columns = () => Math.min(store.steps.length, STRIP_WIDTH / 2);
  const columnWidth = () => Math.min(WIDEST_BAR, STRIP_WIDTH / columns());
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    const column = Math.floor((((event.clientX - box.left) / box.width) * STRIP_WIDTH) / columnWidth());
    if (column < columns()) store.walkTo(Math.ceil((column * store.steps.length) / columns()));
  });

  let heights = new Float64Array(0);
  const columnOf = (/** @type {number} */ i) => Math.floor((i * columns()) / store.steps.length);
  const bar = (/** @type {number} */ column) => {
    const width = columnWidth();
    const height = (heights[column] / MOST_BITS) * (STRIP_HEIGHT - 3) + 1;
    return `M${(column * width).toFixed(2)} ${STRIP_HEIGHT}v${(-height).toFixed(2)}h${(width * 0.8).toFixed(2)}V${STRIP_HEIGHT}z`;
  };
  const point = () => here.setAttribute("d", store.current === null ? "" : bar(columnOf(store.current)));
  const draw = () => {
    const count = columns();
    svg.toggleAttribute("hidden", count === 0);
    svg.setAttribute("aria-label", `Surprisal of ${tokenCount(store.tokens.length)}, from left to right`);
    if (count === 0) return;
    heights = new Float64Array(count);
    store.steps.forEach((token, i) => {
      const column = columnOf(i);
      heights[column] = Math.max(heights[column], Math.min(MOST_BITS, bits(token.logprob) ?? 0));
    });
    bars.setAttribute("d", Array.from(heights, (_, column) => bar(column)).join(""));
    point();
  };
  return { root: svg, draw, point };
}
