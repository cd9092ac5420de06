// A line of tokens that scrolls sideways. Only the visible tokens exist, so that long texts are as fast as short ones.

import { around, h, setChildren, uniqueId } from "./dom.js";
import { visible } from "./format.js";
import { keyTarget } from "./jumping.js";

const LINE_FONT = "12px ui-monospace, menlo, consolas, monospace";
const LINE_PADDING = 10;
const LEAST_WIDTH = 18;
const MOST_WIDTH = 132;
/** Tokens this far outside the visible part are drawn, too. */
const LINE_OVERSCAN_PX = 400;

/**
 * @typedef {object} LineSource
 * @property {() => number} count
 * @property {(at: number) => string} label
 * @property {() => number | null} chosen
 * @property {(at: number) => void} choose
 * @property {(at: number) => string} [describe]  returns the title of a token
 *
 * @typedef {object} Line
 * @property {HTMLElement} root
 * @property {HTMLElement} above  room above the tokens, as wide as all of them
 * @property {() => void} measure  called when tokens were added or replaced
 * @property {() => void} show  called when the choice or the shades have changed
 * @property {(at: number) => void} reveal  scroll to a token
 * @property {(at: number) => number} middle  the horizontal center of a token in `above`
 */

/**
 * @param {string} name @param {LineSource} source @param {(at: number) => number} shade  of a token, 0 to 1
 * @param {AbortSignal} signal
 * @returns {Line}
 */
export function tokenLine(name, source, shade, signal) {
  const id = uniqueId("token");
  const above = h("div", { class: "wb-line-above" });
  const list = h("div", {
    class: "wb-line-tokens",
    role: "listbox",
    tabindex: 0,
    "aria-label": `${name}; arrow keys move between them`,
  });
  const inner = h("div", { class: "wb-line-inner" }, above, list);
  const root = h("div", { class: "wb-line", dir: "ltr" }, inner);
  /** Left edge of each token, and the right edge of the last. @type {number[]} */ let edges = [0];
  /** @type {string[]} */ let labels = [];
  /** @type {Map<number, HTMLElement>} */ let drawn = new Map();
  let frame = 0;

  const measure = () => {
    const fresh = Array.from({ length: source.count() }, (_, at) => source.label(at));
    const same = labels.findIndex((label, at) => label !== fresh[at]);
    const kept = same < 0 ? Math.min(labels.length, fresh.length) : same;
    edges = edges.slice(0, kept + 1);
    for (let at = kept; at < fresh.length; at += 1) edges.push(edges[at] + widthOf(visible(fresh[at])));
    for (const [at, one] of drawn) if (at >= kept) one.remove();
    drawn = new Map([...drawn].filter(([at]) => at < kept));
    labels = fresh;
    inner.style.width = `${edges[edges.length - 1]}px`;
    draw();
  };
  const draw = () => {
    frame = 0;
    const from = Math.max(0, indexAt(edges, root.scrollLeft - LINE_OVERSCAN_PX));
    const to = Math.min(
      labels.length - 1,
      indexAt(edges, root.scrollLeft + (root.clientWidth || 600) + LINE_OVERSCAN_PX),
    );
    /** @type {Map<number, HTMLElement>} */ const seen = new Map();
    for (let at = from; at <= to; at += 1) seen.set(at, drawn.get(at) ?? box(at));
    const chosen = source.chosen();
    if (chosen !== null && labels[chosen] !== undefined && !seen.has(chosen))
      seen.set(chosen, drawn.get(chosen) ?? box(chosen));
    drawn = seen;
    for (const [at, one] of drawn) mark(one, at, at === chosen);
    setChildren(
      list,
      [...drawn].sort(([a], [b]) => a - b).map(([, one]) => one),
    );
    if (chosen !== null && drawn.has(chosen)) list.setAttribute("aria-activedescendant", `${id}-${chosen}`);
    else list.removeAttribute("aria-activedescendant");
  };
  const box = (/** @type {number} */ at) => {
    const one = h("span", {
      class: "wb-line-token",
      role: "option",
      id: `${id}-${at}`,
      "data-wb-position": at,
      "aria-posinset": at + 1,
      text: visible(labels[at]),
    });
    one.style.left = `${edges[at]}px`;
    one.style.width = `${edges[at + 1] - edges[at]}px`;
    return one;
  };
  const mark = (/** @type {HTMLElement} */ one, /** @type {number} */ at, /** @type {boolean} */ isChosen) => {
    const amount = shade(at);
    one.setAttribute("aria-selected", String(isChosen));
    one.setAttribute("aria-setsize", String(labels.length));
    one.style.setProperty("--wb-a", amount > 0 ? (0.08 + 0.5 * amount).toFixed(3) : "0");
    if (source.describe) one.title = source.describe(at);
  };
  const reveal = (/** @type {number} */ at) => {
    if (labels[at] === undefined) return;
    const room = root.clientWidth;
    if (edges[at] < root.scrollLeft) root.scrollLeft = edges[at] - room / 4;
    else if (edges[at + 1] > root.scrollLeft + room) root.scrollLeft = edges[at + 1] - (3 * room) / 4;
  };
  const drawSoon = () => {
    frame ||= window.requestAnimationFrame(draw);
  };
  root.addEventListener("scroll", drawSoon);
  const sizes = new ResizeObserver(() => {
    const chosen = source.chosen();
    if (chosen !== null) reveal(chosen);
    drawSoon();
  });
  sizes.observe(root);
  signal.addEventListener("abort", () => {
    sizes.disconnect();
    window.cancelAnimationFrame(frame);
  });
  list.addEventListener("click", (event) => {
    const one = around(event, "[data-wb-position]");
    if (one) source.choose(Number(one.getAttribute("data-wb-position")));
  });
  list.addEventListener("keydown", (event) => {
    const target = keyTarget(event.key, source.chosen(), labels.length - 1);
    if (target === undefined || event.shiftKey || event.ctrlKey || event.metaKey || event.altKey) return;
    source.choose(target);
    event.preventDefault();
    event.stopPropagation();
  });
  return {
    root,
    above,
    measure,
    show: draw,
    reveal,
    middle: (at) => (edges[at] + edges[at + 1]) / 2,
  };
}

/** Return the index of the token at a horizontal position. @param {number[]} edges @param {number} x */
export function indexAt(edges, x) {
  let low = 0;
  let high = edges.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (edges[middle] <= x) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** @type {CanvasRenderingContext2D | null | undefined} */ let measuring;
/** Widths of texts, of which most come again. @type {Map<string, number>} */ const knownWidths = new Map();

/** @param {string} text */
function widthOf(text) {
  const known = knownWidths.get(text);
  if (known !== undefined) return known;
  measuring ??= document.createElement("canvas").getContext("2d");
  if (measuring) measuring.font = LINE_FONT;
  const wide = (measuring ? measuring.measureText(text.slice(0, 40)).width : 7.3 * text.length) + LINE_PADDING;
  const width = Math.ceil(Math.max(LEAST_WIDTH, Math.min(MOST_WIDTH, wide)));
  knownWidths.set(text, width);
  return width;
}
