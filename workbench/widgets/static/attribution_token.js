// What each chunk did to the selected token.

import { byChange, nameOf, tokenInWords } from "./attribution_words.js";
import { hueOf } from "./attribution_text.js";
import { h } from "./dom.js";
import { change, times, visible } from "./format.js";
import { factsInWords, tokenName } from "./token_words.js";

/** @import { AttributionStore } from "./attribution_store.js" */

const HINT = "Select a token to see what each chunk did to it, or a chunk to see what it raised and lowered.";
/** A longer table scrolls, and has to be reached by keyboard. */
const MOST_ROWS = 8;
/** Smaller changes than this have short bars, also if they are the largest of a token. */
const LONGEST_BAR_NATS = 2;

/** @param {AttributionStore} store @param {AbortSignal} signal */
export function attributionToken(store, signal) {
  const name = h("h3");
  const big = h("p", { class: "wb-attribution-big" });
  const facts = h("p", { class: "wb-quiet wb-number" });
  const hint = h("p", { class: "wb-quiet", text: HINT });
  const said = h("p", { class: "wb-sr", role: "status" });
  const head = h("tr");
  const body = h("tbody");
  const caption = h("caption", { class: "wb-sr", text: "Change of the token's log probability by each chunk" });
  const table = h("table", { class: "wb-number" }, caption, h("thead", {}, head), body);
  const scroller = h("div", { class: "wb-attribution-rows" }, table);
  const root = h(
    "section",
    { class: "wb-attribution-token", "aria-label": "Selected token" },
    name,
    big,
    facts,
    scroller,
    hint,
    said,
  );
  const show = () => {
    const position = store.current;
    for (const part of [name, big, facts]) part.hidden = position === null;
    scroller.hidden = position === null || !store.isMeasured || !store.chunks.length;
    hint.hidden = position !== null || !store.steps.length || !store.chunks.length;
    if (position === null) {
      said.textContent = "";
      return;
    }
    name.textContent = tokenName({ tokens: store.steps }, position);
    big.textContent = visible(store.steps[position].label);
    facts.textContent = factsInWords(store.steps[position], store.unit);
    const columns = ["chunk", "change", "probability"];
    head.replaceChildren(...columns.map((text) => h("th", { scope: "col", text })));
    const changes = store.changesOf(position);
    const most = Math.max(...changes.map((nats) => Math.abs(nats ?? 0)), LONGEST_BAR_NATS);
    body.replaceChildren(...byChange(changes).map((index) => row(store, index, changes[index], most)));
    const isLong = changes.length > MOST_ROWS;
    for (const [attribute, value] of [
      ["role", "region"],
      ["tabindex", "0"],
      ["aria-label", "Changes by chunk"],
    ])
      if (isLong) scroller.setAttribute(attribute, value);
      else scroller.removeAttribute(attribute);
    said.textContent = tokenInWords(store.steps, store.chunks, position, store.unit);
  };
  store.listen(({ kind }) => {
    if (kind === "reset" || kind === "selected" || kind === "unit") show();
  }, signal);
  show();
  return root;
}

/**
 * @param {AttributionStore} store @param {number} index @param {number | null} nats
 * @param {number} most  size of the change with the longest bar, in nats
 */
function row(store, index, nats, most) {
  const name = h("th", { scope: "row" }, chunkNumber(index), h("bdi", { text: documentOf(store, index) }));
  const bar = h("td", {
    class: (nats ?? 0) < 0 ? "wb-change wb-change-down" : "wb-change",
    text: change(nats, store.unit),
  });
  bar.style.setProperty("--wb-hue", hueOf(index));
  bar.style.setProperty("--wb-share", `${((100 * Math.abs(nats ?? 0)) / most).toFixed(1)}%`);
  const kind = store.marks[store.current ?? 0] === index && "wb-strongest";
  return h("tr", { "data-wb-chunk": index + 1, class: kind }, name, bar, h("td", { text: times(nats) }));
}

/** Return the name of a chunk's document without its number. @param {AttributionStore} store @param {number} index */
export function documentOf(store, index) {
  return nameOf(index, store.chunks[index].document).replace(/^\[\d+\] /, "");
}

/** The number of a chunk in its color. @param {number} index */
export function chunkNumber(index) {
  const number = h("span", { class: "wb-chunk-number", text: `[${index + 1}]` });
  number.style.setProperty("--wb-hue", hueOf(index));
  return number;
}
