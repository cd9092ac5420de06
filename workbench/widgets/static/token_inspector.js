// Everything about one token: its probability, what stood beside it, and where it lies in the text.

import { h, keepKeys } from "./dom.js";
import { bits, fixed, inWords, percent, percentOf, visible } from "./format.js";

/**
 * @typedef {object} State of the widget model
 * @property {string} feed  reference of the run feed
 */

const STRIP_WIDTH = 292;
const STRIP_HEIGHT = 44;
const WIDEST_BAR = 8;
const MOST_BITS = 8;
const SVG = "http://www.w3.org/2000/svg";

/** @param {{model: any, el: HTMLElement, host: any, signal: AbortSignal}} context */
async function render({ model, el, host, signal }) {
  const { store } = (await host.getWidget(model.get("feed"))).exports;
  el.classList.add("wb-root", "wb-inspector");
  keepKeys(el);
  const facts = h("div", { class: "wb-facts" });
  const strip = surprisalStrip(store);
  const said = h("p", { class: "wb-sr", role: "status" });
  const stripTitle = h("h3", { text: "Surprisal along the text" });
  el.append(facts, stripTitle, strip.root, said);

  const showFacts = () => {
    const current = store.current;
    el.setAttribute("data-wb-token", current === null ? "none" : String(current));
    if (current !== null) store.want(current, current + 1);
    facts.replaceChildren(...(current === null ? noToken(store) : tokenFacts(store, current)));
  };
  const showStrip = () => {
    stripTitle.hidden = store.tokens.length === 0;
    strip.draw();
  };
  store.listen((/** @type {any} */ change) => {
    if (change.kind === "append") showStrip();
    // While text comes in, the facts of a chosen token stay as they are.
    if (change.kind !== "append" || store.current === null) showFacts();
    if (change.kind === "selected" || change.kind === "reset" || change.kind === "state") showStrip();
    if (change.kind === "selected") said.textContent = store.current === null ? "" : announcement(store, store.current);
  }, signal);
  showFacts();
  showStrip();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** @param {any} store @returns {HTMLElement[]} */
function noToken(store) {
  const text = store.tokens.length ? "Choose a token, in the text or in the table, to see what else could have come there." : "Each token's probability and its alternatives are shown here.";
  return [h("h3", { text: "Token" }), h("p", { class: "wb-quiet", text })];
}

/** @param {any} store @param {number} position */
function tokenFacts(store, position) {
  const token = store.tokens[position];
  return [
    h("h3", { text: `Token ${position} of ${store.tokens.length}` }),
    h("p", { class: "wb-big", text: visible(token.label) }),
    h("p", { class: "wb-say wb-quiet wb-number", text: factsInWords(token) }),
    ...alternativeRows(token, store.alternatives(position)),
  ];
}

/** @param {any} token */
function factsInWords(token) {
  const entropy = token.entropy === null ? null : `entropy here ${fixed(token.entropy / Math.LN2, 1)} bits`;
  if (token.logprob === null) return ["the server tells no probability", entropy].filter(Boolean).join(", ");
  const rank = token.rank ? `rank ${token.rank}` : null;
  return [percentOf(token.logprob), rank, `${fixed(bits(token.logprob), 1)} bits`, entropy].filter(Boolean).join(", ");
}

/** @param {any} store @param {number} position */
function announcement(store, position) {
  const token = store.tokens[position];
  const spoken = token.label.trim() === "" ? visible(token.label) : token.label.trim();
  return `Token ${position} of ${store.tokens.length}: ${spoken}. ${factsInWords(token)}`;
}

/** @param {any} token @param {any[] | null} alternatives @returns {HTMLElement[]} */
function alternativeRows(token, alternatives) {
  if (alternatives === null) return [h("p", { class: "wb-rest wb-quiet", text: "…" })];
  if (token.logprob === null || alternatives.length === 0) return [h("p", { class: "wb-rest wb-quiet", text: "No alternatives were recorded for this run." })];
  const self = { id: token.id, label: token.label, logprob: token.logprob, isSelf: true };
  const all = [self, ...alternatives].sort((a, b) => (b.logprob ?? -Infinity) - (a.logprob ?? -Infinity));
  const most = Math.exp(all[0].logprob ?? -Infinity);
  const covered = all.reduce((sum, item) => sum + Math.exp(item.logprob ?? -Infinity), 0);
  const list = h("ul", { class: "wb-alternatives", "aria-label": "The sampled token and its alternatives" }, ...all.map((item) => alternativeRow(item, most)));
  const count = inWords(all.length);
  return [list, h("p", { class: "wb-rest wb-quiet wb-number", text: `These ${count} cover ${percent(Math.min(1, covered))}.` })];
}

/** @param {any} item @param {number} most */
function alternativeRow(item, most) {
  const probability = Math.exp(item.logprob ?? -Infinity);
  const fill = h("span", { class: "wb-fill" });
  fill.style.width = `${(100 * probability) / most}%`;
  return h(
    "li",
    { class: item.isSelf ? "wb-alternative wb-sampled" : "wb-alternative", title: `id ${item.id}` },
    h("code", { text: visible(item.label) }),
    h("span", { class: "wb-track", "aria-hidden": "true" }, fill),
    h("span", { class: "wb-share wb-number", text: percent(probability) }),
    item.isSelf && h("span", { class: "wb-sr", text: "sampled" }),
  );
}

/** Bars along the text, the largest of a stretch where there are more tokens than room. @param {any} store */
function surprisalStrip(store) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "wb-strip");
  svg.setAttribute("viewBox", `0 0 ${STRIP_WIDTH} ${STRIP_HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  const bars = document.createElementNS(SVG, "path");
  bars.setAttribute("class", "wb-strip-bars");
  const here = document.createElementNS(SVG, "path");
  here.setAttribute("class", "wb-strip-here");
  svg.append(bars, here);
  const columns = () => Math.min(store.tokens.length, STRIP_WIDTH / 2);
  const columnWidth = () => Math.min(WIDEST_BAR, STRIP_WIDTH / columns());
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    const column = Math.floor((((event.clientX - box.left) / box.width) * STRIP_WIDTH) / columnWidth());
    if (column < columns()) store.walkTo(Math.ceil((column * store.tokens.length) / columns()));
  });

  const draw = () => {
    const count = columns();
    svg.toggleAttribute("hidden", count === 0);
    svg.setAttribute("aria-label", `Surprisal of ${store.tokens.length} tokens, from left to right`);
    if (count === 0) return;
    const heights = new Float64Array(count);
    const columnOf = (/** @type {number} */ i) => Math.floor((i * count) / store.tokens.length);
    store.tokens.forEach((/** @type {any} */ token, /** @type {number} */ i) => {
      const column = columnOf(i);
      heights[column] = Math.max(heights[column], Math.min(MOST_BITS, bits(token.logprob) ?? 0));
    });
    const width = columnWidth();
    const bar = (/** @type {number} */ column) => {
      const height = (heights[column] / MOST_BITS) * (STRIP_HEIGHT - 3) + 1;
      return `M${(column * width).toFixed(2)} ${STRIP_HEIGHT}v${(-height).toFixed(2)}h${(width * 0.8).toFixed(2)}V${STRIP_HEIGHT}z`;
    };
    bars.setAttribute("d", Array.from(heights, (_, column) => bar(column)).join(""));
    here.setAttribute("d", store.current === null ? "" : bar(columnOf(store.current)));
  };
  return { root: svg, draw };
}

export default { render };
