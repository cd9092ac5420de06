// The chunks beside an answer: a button for each that marks what it did to the tokens, and its text.

import { effectInWords, folded, scoreInWords } from "./attribution_words.js";
import { chunkNumber, documentOf } from "./attribution_token.js";
import { h, uniqueId } from "./dom.js";
import { change } from "./format.js";

/** @import { AttributionStore } from "./attribution_store.js" */

/** @param {AttributionStore} store @param {AbortSignal} signal */
export function attributionChunks(store, signal) {
  const list = h("ol", { class: "wb-chunks" });
  const title = h("h3", { text: "Chunks in the prompt" });
  const root = h("section", { class: "wb-attribution-chunks", "aria-label": "Chunks in the prompt" }, title, list);
  /** @type {ReturnType<typeof card>[]} */ let cards = [];
  const show = () => cards.forEach((one) => one.show());
  const reset = () => {
    cards = store.chunks.map((_, index) => card(store, index));
    list.replaceChildren(...cards.map((one) => one.root));
    root.hidden = cards.length === 0;
    show();
  };
  list.addEventListener("keydown", (event) => {
    const at = cards.findIndex(({ button }) => button === event.target);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    if (event.key === "Escape" && store.chosen !== null) store.choose(store.chosen);
    else if (step) cards[Math.max(0, Math.min(cards.length - 1, at + step))].button.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  store.listen(({ kind }) => {
    if (kind === "reset") reset();
    else if (kind === "focus") cards[store.marks[store.current ?? 0] ?? 0]?.button.focus();
    else if (kind === "chunk" || kind === "unit") show();
  }, signal);
  reset();
  return root;
}

/** @param {AttributionStore} store @param {number} index */
function card(store, index) {
  const chunk = store.chunks[index];
  const short = folded(chunk.text);
  const total = h("span", { class: "wb-chunk-total wb-number" });
  const score = chunk.score === null ? null : scoreInWords(chunk.score);
  const effect = store.isMeasured ? effectInWords(chunk) : null;
  const text = h("div", { class: "wb-chunk-text", dir: "auto", id: uniqueId("chunk") });
  const button = h(
    "button",
    {
      type: "button",
      class: "wb-chunk-head",
      "aria-controls": text.id,
      title: "Show what this chunk raised and lowered",
    },
    chunkNumber(index),
    h("bdi", { class: "wb-chunk-name", text: documentOf(store, index) }),
    total,
  );
  const facts = h("p", { class: "wb-quiet wb-number", text: [score, effect].filter(Boolean).join(" · ") });
  const root = h("li", { class: "wb-chunk", "data-wb-chunk": index + 1 }, button, facts, text);
  root.addEventListener("pointerenter", () => store.preview(index));
  root.addEventListener("pointerleave", () => store.preview(null));
  button.addEventListener("focus", () => store.preview(index));
  button.addEventListener("blur", () => store.preview(null));
  button.addEventListener("click", () => store.choose(index));
  return {
    root,
    button,
    show() {
      const isChosen = store.chosen === index;
      total.textContent = chunk.total === null ? "" : change(chunk.total, store.unit);
      button.setAttribute("aria-pressed", String(isChosen));
      root.classList.toggle("wb-chunk-shown", store.chunk === index);
      const shown = isChosen ? chunk.text : short;
      if (text.textContent !== shown) text.textContent = shown;
      // Only a text that may scroll has to be reached by keyboard.
      const isLong = isChosen && short !== chunk.text;
      for (const [name, value] of [
        ["role", "region"],
        ["tabindex", "0"],
        ["aria-label", `Text of chunk ${index + 1}`],
      ])
        if (isLong) text.setAttribute(name, value);
        else text.removeAttribute(name);
    },
  };
}
