// Arcs from the chosen token to the tokens that it attends to, above the line of tokens.

import { strongest } from "./attention_words.js";
import { h, svgElement } from "./dom.js";
import { percent, visible } from "./format.js";
import { tokenLine } from "./token_line.js";

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
    describe: (/** @type {number} */ at) => tokenTitle(store, at),
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
      .map((key) => arc(line.middle(key), line.middle(from), weights[key] ?? 0, tokenTitle(store, key)));
  store.listen(show, signal);
  show();
  return h("div", { class: "wb-attention-line" }, line.root);
}

/** @param {AttentionStore} store @param {number} at */
function tokenTitle(store, at) {
  const weights = store.row?.weights;
  const name = `Token ${at + 1} “${visible(store.label(at))}”`;
  if (!weights || store.position === null) return name;
  return at < weights.length ? `${name}: ${percent(weights[at] ?? 0)}` : `${name}: after the chosen token`;
}

/** @param {number} key @param {number} from @param {number} weight @param {string} title */
function arc(key, from, weight, title) {
  const rise = Math.min((ARCS_PX - 8) / 0.75, 28 + (from - key) * 0.45);
  const top = ARCS_PX - rise;
  const isLoop = key === from;
  const [start, end] = isLoop ? [key - LOOP_PX / 2, key + LOOP_PX / 2] : [key, from];
  const [left, right] = isLoop ? [key - 2 * LOOP_PX, key + 2 * LOOP_PX] : [key, from];
  const path = svgElement("path", {
    d: `M${start} ${ARCS_PX} C${left} ${top} ${right} ${top} ${end} ${ARCS_PX}`,
    "stroke-width": (1 + 6 * weight).toFixed(2),
    "stroke-opacity": (0.2 + 0.8 * Math.sqrt(weight)).toFixed(3),
  });
  const name = svgElement("title", {});
  name.textContent = title;
  path.append(name);
  return path;
}
