// How one token came up layer by layer: two lines, of its rank on a log scale and of its probability.

import { h, svgElement } from "./dom.js";
import { percent, visible } from "./format.js";
import { courseInWords, rankInWords } from "./layers_words.js";

/** @import { Cell } from "./layers_store.js" */

const WIDTH = 300;
const HEIGHT = 108;
const LEFT = 44;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 18;

/**
 * @typedef {object} Scale
 * @property {(value: number) => number} at  from 0 at the top to 1 at the bottom
 * @property {[value: number, text: string][]} ticks
 */

/** The scale of ranks, logarithmic, with rank 1 on top. @param {number} worst @returns {Scale} */
export function rankScale(worst) {
  const decades = Math.max(1, Math.ceil(Math.log10(Math.max(worst, 2))));
  const step = Math.ceil(decades / 3);
  const ticks = Array.from({ length: Math.floor(decades / step) + 1 }, (_, i) => 10 ** (i * step));
  return {
    at: (rank) => Math.log10(Math.max(1, rank)) / decades,
    ticks: ticks.map((rank) => [rank, rankInWords(rank)]),
  };
}

/** The scale of probabilities. @returns {Scale} */
export function probabilityScale() {
  return { at: (share) => 1 - share, ticks: [1, 0.5, 0].map((share) => [share, `${100 * share} %`]) };
}

/** Return where a layer is drawn. @param {number} layer @param {number} layers */
export function layerX(layer, layers) {
  return LEFT + (WIDTH - LEFT - RIGHT) * (layers > 1 ? layer / (layers - 1) : 0.5);
}

/** Return the layer that is drawn closest to a point. @param {number} x  share of the width @param {number} layers */
export function layerAt(x, layers) {
  const share = (x * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT);
  return Math.max(0, Math.min(layers - 1, Math.round(share * (layers - 1))));
}

/** Both lines; a click chooses a layer. @param {(layer: number) => void} choose */
export function layersChart(choose) {
  const title = h("h4");
  const said = h("p", { class: "wb-quiet" });
  const rank = line("Rank", choose);
  const probability = line("Probability", choose);
  return {
    root: h("div", { class: "wb-layers-chart" }, title, said, rank.root, probability.root),
    /** @param {Cell[]} cells @param {number} layer @param {string} label  of the token that was said */
    show(cells, layer, label) {
      const name = `“${visible(label)}”`;
      title.textContent = `${name} by layer`;
      said.textContent = courseInWords(cells);
      const ranks = cells.map((cell) => cell.rank);
      const shares = cells.map((cell) => cell.probability);
      rank.show(ranks, layer, rankScale(Math.max(...ranks)), `Rank of ${name}`, rankInWords);
      probability.show(shares, layer, probabilityScale(), `Probability of ${name}`, percent);
    },
  };
}

/** @param {string} name @param {(layer: number) => void} choose */
function line(name, choose) {
  const svg = svgElement("svg", { class: "wb-layers-line", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  let layers = 0;
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    choose(layerAt((event.clientX - box.left) / box.width, layers));
  });
  return {
    root: h("figure", {}, h("figcaption", { class: "wb-quiet", text: name }), svg),
    /**
     * @param {number[]} values @param {number} layer @param {Scale} scale @param {string} what
     * @param {(value: number) => string} inWords
     */
    show(values, layer, scale, what, inWords) {
      layers = values.length;
      const y = (/** @type {number} */ value) => TOP + (HEIGHT - TOP - BOTTOM) * scale.at(value);
      const points = values.map((value, i) => [layerX(i, layers), y(value)]);
      const path = points.map(([x, at], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${at.toFixed(1)}`).join("");
      const here = points[layer];
      svg.setAttribute("aria-label", `${what} after layers 0 to ${layers - 1}: ${values.map(inWords).join(", ")}`);
      svg.replaceChildren(
        ...scale.ticks.flatMap(([value, text]) => [rule(y(value)), tick(LEFT - 6, y(value) + 3.5, "end", text)]),
        ...layerTicks(layers).map((at) => tick(layerX(at, layers), HEIGHT - 4, "middle", String(at))),
        svgElement("path", { class: "wb-layers-here", d: `M${here[0].toFixed(1)} ${TOP}V${HEIGHT - BOTTOM}` }),
        svgElement("path", { class: "wb-layers-path", d: path }),
        svgElement("circle", { class: "wb-layers-point", cx: here[0], cy: here[1], r: 3.5 }),
      );
    },
  };
}

/** Return the layers that are written below the axis: the first, the last, and some between. @param {number} layers */
export function layerTicks(layers) {
  if (layers < 2) return [0];
  const step = Math.max(1, Math.ceil((layers - 1) / 6));
  const inner = Array.from({ length: layers }, (_, i) => i).filter((i) => i % step === 0 && i <= layers - 1 - step / 2);
  return [...inner.filter((i) => i !== layers - 1), layers - 1];
}

/** @param {number} y */
function rule(y) {
  return svgElement("path", { class: "wb-layers-rule", d: `M${LEFT} ${y.toFixed(1)}H${WIDTH - RIGHT}` });
}

/** @param {number} x @param {number} y @param {string} anchor @param {string} text */
function tick(x, y, anchor, text) {
  const written = svgElement("text", { x, y, "text-anchor": anchor });
  written.textContent = text;
  return written;
}
