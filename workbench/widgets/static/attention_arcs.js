// Arcs from the chosen token to the tokens that it attends to, above the line of tokens.

import { strongest } from "./attention_words.js";
import { h, svgElement } from "./dom.js";
import { percent } from "./format.js";
import { tokenLine } from "./token_line.js";
import { tokenTip } from "./token_tip.js";

/** @import { AttentionStore } from "./attention_store.js" */

/** Height of the arcs in pixels, as in the style sheet. */
const ARCS_PX = 130;
/** Half the width of the loop of a token that attends to itself. */
const LOOP_PX = 9;

/** @param {AttentionStore} store @param {AbortSignal} signal */
export function attentionArcs(store, signal) {
  const weight = (/** @type {number} */ at) => store.row?.weights[at] ?? 0;
  const source = {
    count: () => store.count,
    label: (/** @type {number} */ at) => store.label(at),
    chosen: () => store.position,
    choose: (/** @type {number} */ at) => store.choose(at),
  };
  const line = tokenLine("Tokens of prompt and answer", source, (at) => Math.sqrt(weight(at)), signal);
  const drawing = svgElement("svg", { class: "wb-arcs", width: 1, height: ARCS_PX, "aria-hidden": "true" });
  line.above.append(drawing);
  let count = -1;
  let first = "";
  let revealed = /** @type {number | null} */ (null);

  const show = () => {
    const isNew = store.count !== count || store.label(0) !== first;
    if (isNew) line.measure();
    count = store.count;
    first = store.label(0);
    const { position, row } = store;
    if (position !== null && position !== revealed) line.reveal(position);
    revealed = position;
    line.show();
    drawing.replaceChildren(...(row ? arcs(row.position, row.weights) : []));
    drawing.setAttribute("data-wb-arcs", row ? `${row.layer} ${row.head} ${row.position}` : "");
  };
  const arcs = (/** @type {number} */ from, /** @type {(number | null)[]} */ weights) =>
    strongest(weights)
      .reverse()
      .map((key) => arc(key, line.middle(key), line.middle(from), weights[key] ?? 0));
  store.listen(show, signal);
  show();
  // Only the token under the pointer is read.
  /** @type {any[]} */ const steps = new Proxy([], { get: (_, at) => ({ label: store.label(Number(at)) }) });
  tokenTip(line.root, { steps }, (at) => weightInWords(store, at));
  return h("div", { class: "wb-attention-line" }, line.root);
}

/** @param {AttentionStore} store @param {number} at */
function weightInWords(store, at) {
  const weights = store.row?.weights;
  const name = `token ${at + 1}`;
  if (!weights) return name;
  return at < weights.length ? `${name}: ${percent(weights[at] ?? 0)}` : `${name}, after the chosen one`;
}

/** @param {number} position  of the token that is attended to @param {number} key  its center @param {number} from @param {number} weight */
function arc(position, key, from, weight) {
  const rise = Math.min((ARCS_PX - 8) / 0.75, 28 + (from - key) * 0.45);
  const top = ARCS_PX - rise;
  const isLoop = key === from;
  const [start, end] = isLoop ? [key - LOOP_PX / 2, key + LOOP_PX / 2] : [key, from];
  const [left, right] = isLoop ? [key - 2 * LOOP_PX, key + 2 * LOOP_PX] : [key, from];
  return svgElement("path", {
    d: `M${start} ${ARCS_PX} C${left} ${top} ${right} ${top} ${end} ${ARCS_PX}`,
    "data-wb-position": position,
    "stroke-width": (1 + 6 * weight).toFixed(2),
    "stroke-opacity": (0.2 + 0.8 * Math.sqrt(weight)).toFixed(3),
  });
}
