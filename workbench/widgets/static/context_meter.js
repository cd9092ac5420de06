// The share of the model's context that the conversation takes: a bar, the numbers, and a warning if little is left.

import { contextInWords } from "./chat_words.js";
import { h } from "./dom.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 * @import { Context } from "./chat_words.js"
 * @import { Store } from "./run_feed.js"
 *
 * @param {AnyModel<{context: Context}>} model @param {Store} store @param {AbortSignal} signal
 */
export function contextMeter(model, store, signal) {
  const fill = h("span", { class: "wb-fill" });
  const words = h("span", { class: "wb-number" });
  const track = h("span", { class: "wb-track" }, fill);
  const root = h("div", { class: "wb-context", "aria-label": "Context used" }, track, words);
  const show = () => {
    const { used: ended, length } = model.get("context");
    const used = store.active && store.usage?.prompt ? store.usage.prompt + store.tokens.length : ended;
    const { text, isTight } = contextInWords({ used, length });
    root.hidden = !text;
    root.classList.toggle("wb-context-tight", isTight);
    if (words.textContent !== text) words.textContent = text;
    track.hidden = length === null;
    fill.style.width = `${Math.min(100, (100 * used) / (length || 1))}%`;
    const meter = {
      role: "meter",
      "aria-valuemin": 0,
      "aria-valuemax": length,
      "aria-valuenow": Math.min(used, length ?? used),
    };
    for (const [name, value] of Object.entries({ ...meter, "aria-valuetext": text })) {
      if (length === null) root.removeAttribute(name);
      else root.setAttribute(name, String(value));
    }
  };
  model.on("change:context", show);
  store.listen(({ kind }) => ["reset", "append", "state"].includes(kind) && show(), signal);
  show();
  return root;
}
