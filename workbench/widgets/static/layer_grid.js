// A grid of layers and tokens, of which one cell is chosen and the cells that it may affect are shaded. Cells are no
// elements, so that a text of thousands of tokens is as fast as a short one.

import { h, setChildren } from "./dom.js";
import { visible } from "./format.js";

/** Size of a cell in pixels, as in the style sheet. */
const CELL_WIDTH = 46;
const CELL_HEIGHT = 12;
const GRID_OVERSCAN = 8;
/** Every so many layers have a number. */
const NUMBERED = 5;

/**
 * @typedef {{layer: number, position: number}} Spot
 *
 * @typedef {object} LayerSource
 * @property {() => number} layers
 * @property {() => string[]} labels  of the tokens
 * @property {() => Spot | null} chosen
 * @property {(spot: Spot) => void} choose
 * @property {() => void} enter  called for the Enter key
 */

/**
 * @param {string} label @param {LayerSource} source @param {boolean} hasCone  whether the cells that it may affect are shaded
 * @param {AbortSignal} signal
 */
export function layerGrid(label, source, hasCone, signal) {
  const cell = h("div", { class: "wb-spot", hidden: true });
  const cone = h("div", { class: "wb-cone", hidden: true });
  const plane = h(
    "div",
    { class: "wb-plane", tabindex: 0, role: "group", "aria-label": `${label}; arrow keys choose a layer and a token` },
    cone,
    cell,
  );
  const heads = h("div", { class: "wb-plane-tokens", "aria-hidden": "true" });
  const inner = h("div", { class: "wb-plane-inner" }, heads, plane);
  const scroller = h("div", { class: "wb-plane-scroller" }, inner);
  const side = h("div", { class: "wb-plane-layers", "aria-hidden": "true" });
  const said = h("p", { class: "wb-plane-said wb-number", role: "status" });
  const root = h("div", { class: "wb-layer-grid" }, h("div", { class: "wb-plane-row" }, side, scroller), said);
  /** @type {string[]} */ let labels = [];
  /** @type {Map<number, HTMLElement>} */ let drawn = new Map();
  let layers = 0;
  let preview = /** @type {Spot | null} */ (null);
  let frame = 0;

  const top = (/** @type {number} */ layer) => (layers - 1 - layer) * CELL_HEIGHT;
  const measure = () => {
    labels = source.labels();
    layers = source.layers();
    inner.style.width = `${labels.length * CELL_WIDTH}px`;
    plane.style.height = `${layers * CELL_HEIGHT}px`;
    const names = Array.from({ length: layers }, (_, layer) => layer).filter(
      (layer) => layer % NUMBERED === 0 || layer === layers - 1,
    );
    side.replaceChildren(
      ...names.map((layer) => {
        const name = h("span", { text: String(layer) });
        name.style.top = `${top(layer)}px`;
        return name;
      }),
    );
    drawn = new Map();
    show();
  };
  const drawNames = () => {
    frame = 0;
    const from = Math.max(0, Math.floor(scroller.scrollLeft / CELL_WIDTH) - GRID_OVERSCAN);
    const to = Math.min(
      labels.length,
      Math.ceil((scroller.scrollLeft + (scroller.clientWidth || 600)) / CELL_WIDTH) + GRID_OVERSCAN,
    );
    /** @type {Map<number, HTMLElement>} */ const seen = new Map();
    for (let at = from; at < to; at += 1) seen.set(at, drawn.get(at) ?? name(at));
    drawn = seen;
    setChildren(heads, [...drawn.values()]);
  };
  const name = (/** @type {number} */ at) => {
    const one = h("span", { text: visible(labels[at]), title: `Token ${at + 1} “${visible(labels[at])}”` });
    one.style.left = `${at * CELL_WIDTH}px`;
    return one;
  };
  const show = () => {
    drawNames();
    const spot = preview ?? source.chosen();
    cell.hidden = spot === null;
    cone.hidden = spot === null || !hasCone;
    root.setAttribute("data-wb-spot", spot ? `${spot.layer} ${spot.position}` : "none");
    said.textContent = spot ? spotName(spot, labels) : "No cell is chosen.";
    if (!spot) return;
    cell.style.left = cone.style.left = `${spot.position * CELL_WIDTH}px`;
    cell.style.top = `${top(spot.layer)}px`;
    cone.style.height = `${top(spot.layer)}px`;
    cone.style.width = `${(labels.length - spot.position) * CELL_WIDTH}px`;
  };
  const reveal = (/** @type {number} */ position) => {
    const left = position * CELL_WIDTH;
    const room = scroller.clientWidth;
    if (left < scroller.scrollLeft) scroller.scrollLeft = left - room / 4;
    else if (left + CELL_WIDTH > scroller.scrollLeft + room) scroller.scrollLeft = left - room / 2;
  };
  const drawSoon = () => {
    frame ||= window.requestAnimationFrame(drawNames);
  };
  const spotAt = (/** @type {number} */ x, /** @type {number} */ y) => {
    const box = plane.getBoundingClientRect();
    const outer = scroller.getBoundingClientRect();
    if (x < outer.left || x > outer.right || y < box.top || y > box.bottom) return null;
    const position = Math.floor((x - box.left) / CELL_WIDTH);
    const layer = layers - 1 - Math.floor((y - box.top) / CELL_HEIGHT);
    return position >= 0 && position < labels.length && layer >= 0 && layer < layers ? { layer, position } : null;
  };
  scroller.addEventListener("scroll", drawSoon);
  const sizes = new ResizeObserver(drawSoon);
  sizes.observe(scroller);
  signal.addEventListener("abort", () => {
    sizes.disconnect();
    window.cancelAnimationFrame(frame);
  });
  plane.addEventListener("click", (event) => {
    const spot = spotAt(event.clientX, event.clientY);
    if (spot) source.choose(spot);
  });
  plane.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || !labels.length || !layers) return;
    const spot = source.chosen() ?? { layer: 0, position: labels.length - 1 };
    const target = spotAfter(event.key, spot, layers, labels.length);
    if (target) {
      source.choose(target);
      reveal(target.position);
    } else if (event.key === "Enter") source.enter();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  return {
    root,
    plane,
    measure,
    show,
    reveal,
    spotAt,
    /** Show another cell for now; null ends that. @param {Spot | null} spot */
    preview(spot) {
      preview = spot;
      show();
    },
  };
}

/** @param {Spot} spot @param {string[]} labels */
export function spotName({ layer, position }, labels) {
  return `Layer ${layer}, token ${position + 1} “${visible(labels[position] ?? "")}”`;
}

/**
 * Return the cell to which a key moves; null for any other key. Higher layers are above.
 * @param {string} key @param {Spot} spot @param {number} layers @param {number} count  of tokens
 * @returns {Spot | null}
 */
export function spotAfter(key, { layer, position }, layers, count) {
  /** @type {Record<string, Spot>} */
  const targets = {
    ArrowUp: { layer: layer + 1, position },
    ArrowDown: { layer: layer - 1, position },
    ArrowLeft: { layer, position: position - 1 },
    ArrowRight: { layer, position: position + 1 },
    Home: { layer, position: 0 },
    End: { layer, position: count - 1 },
  };
  const target = targets[key];
  if (!target) return null;
  return {
    layer: Math.max(0, Math.min(layers - 1, target.layer)),
    position: Math.max(0, Math.min(count - 1, target.position)),
  };
}
