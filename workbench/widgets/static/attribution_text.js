// The tokens of an answer, each marked by the chunk that raised it most, or by what one chunk did to it.

import { changeInWords, changeStrength, nameOf, stretches } from "./attribution_words.js";
import { h, keepKeys } from "./dom.js";
import { percentOf } from "./format.js";
import { tokenColumn } from "./token_column.js";
import { select, tokenSpan, walkTokens } from "./token_text.js";
import { tokenTip } from "./token_tip.js";

/** @import { AttributionStore } from "./attribution_store.js" */

/** Number of colors, which repeat; the numbers of the chunks do not. */
const HUES = 6;
/** Height of the numbers over a line. */
const NUMBER_PX = 16;
const RAISED = "↑";
const LOWERED = "↓";

/** Return the color of a chunk as a value of CSS. @param {number} index */
export function hueOf(index) {
  return `var(--wb-chunk-${index % HUES})`;
}

/**
 * @typedef {object} Mark  of a token
 * @property {number} nats  the change that it shows
 * @property {number} chunk  index of the chunk
 * @property {string} cite  what stands over the first of its tokens
 */

/** @param {AttributionStore} store @param {AbortSignal} signal */
export function attributionText(store, signal) {
  const column = tokenColumn("Answer, marked by chunk", (position) => store.select([position]), NUMBER_PX);
  const { root: output, spans } = column;
  keepKeys(output);
  output.setAttribute("data-wb-color", "none");
  const legend = h("p", { class: "wb-quiet wb-attribution-legend" });
  /** @type {HTMLElement | null} */ let framed = null;
  /** The marks as drawn, so that only those that differ are drawn again. @type {string[]} */ let drawn = [];

  const showSelected = () => {
    if (framed) select(framed, false);
    framed = store.current === null ? null : spans[store.current];
    if (framed) select(framed, true);
    if (store.current !== null) column.reveal(store.current);
  };
  const showMarks = () => {
    const marks = marksOf(store);
    const blank = store.steps.map(({ piece }) => piece.trim() === "");
    const starts = new Set(
      stretches(
        marks.map((one) => one && one.cite),
        blank,
      ),
    );
    marks.forEach((one, i) => {
      const key = one ? `${one.nats} ${one.chunk} ${starts.has(i) && one.cite}` : "";
      if (drawn[i] !== key) draw(spans[i], one, starts.has(i));
      drawn[i] = key;
    });
    legend.textContent = legendOf(store, marks);
  };
  const reset = () => {
    column.clear();
    drawn = [];
    framed = null;
    const look = /** @type {const} */ ({ colorBy: "none", whitespace: false, special: true });
    column.append(
      store.steps.map((token, i) => tokenSpan(token, i, look)),
      () => {},
    );
    output.hidden = store.steps.length === 0;
    output.scrollTop = 0; // a growing column would stay at its end
    showMarks();
    showSelected();
  };
  store.listen(({ kind }) => {
    if (kind === "reset") reset();
    else if (kind === "selected") showSelected();
    else if (kind === "chunk") showMarks();
  }, signal);
  reset();
  walkTokens(output, store, spans, () => markedPositions(store));
  tokenTip(output, store, (position) => tipOf(store, position));
  return { root: h("div", { class: "wb-attribution-text" }, output, legend), output };
}

/** @param {AttributionStore} store @returns {(Mark | null)[]} */
function marksOf({ steps, chunks, chunk, marks }) {
  return steps.map((_, position) => {
    const index = chunk ?? marks[position];
    if (index === null) return null;
    const nats = chunks[index].changes[position] ?? null;
    if (nats === null || changeStrength(nats) === 0) return null;
    return { nats, chunk: index, cite: chunk === null ? String(index + 1) : nats > 0 ? RAISED : LOWERED };
  });
}

/** Return the positions of the marked tokens. @param {AttributionStore} store */
function markedPositions(store) {
  return marksOf(store).flatMap((one, position) => (one ? [position] : []));
}

/** @param {HTMLElement} span @param {Mark | null} mark @param {boolean} isFirst  of a stretch of tokens with the mark */
function draw(span, mark, isFirst) {
  const ink = /** @type {HTMLElement} */ (span.querySelector(".wb-word") ?? span);
  const amount = mark ? changeStrength(mark.nats) : 0;
  ink.classList.toggle("wb-raised", mark !== null && mark.nats > 0);
  ink.classList.toggle("wb-lowered", mark !== null && mark.nats < 0);
  setAttribute(ink, "data-wb-cite", mark && isFirst ? mark.cite : null);
  setAttribute(span, "data-wb-chunk", mark && String(mark.chunk + 1));
  // One write for all of them: thousands of tokens change with a chunk.
  ink.style.cssText = mark
    ? `--wb-hue: ${hueOf(mark.chunk)}; --wb-a: ${(0.1 + 0.35 * amount).toFixed(3)}; --wb-u: ${(1 + 2 * amount).toFixed(1)}px`
    : "";
}

/** @param {HTMLElement} element @param {string} name @param {string | null} value  null removes it */
function setAttribute(element, name, value) {
  if (element.getAttribute(name) === value) return;
  if (value === null) element.removeAttribute(name);
  else element.setAttribute(name, value);
}

/** @param {AttributionStore} store @param {(Mark | null)[]} marks */
function legendOf({ chunks, chunk }, marks) {
  if (chunk !== null) {
    const name = nameOf(chunk, chunks[chunk].document);
    if (!marks.some(Boolean)) return `${name} raised and lowered no token by half or more.`;
    return `${RAISED} raised by ${name}, ${LOWERED} lowered by it; the stronger the mark, the larger the change.`;
  }
  if (!marks.some(Boolean)) return "";
  return "A number is the chunk that raised the marked tokens most; the stronger the mark, the larger the change.";
}

/** @param {AttributionStore} store @param {number} position */
function tipOf({ steps, chunks, chunk, marks, unit }, position) {
  const index = chunk ?? marks[position];
  const cause =
    index === null
      ? ""
      : `; ${changeInWords(nameOf(index, chunks[index].document), chunks[index].changes[position] ?? null, unit)}`;
  return `${percentOf(steps[position].logprob)}${cause}`;
}
