// The attention view: arcs from one token to those that it attends to in one head, its weights, and all heads.

import { attentionArcs } from "./attention_arcs.js";
import { attentionHeads } from "./attention_heads.js";
import { AttentionStore } from "./attention_store.js";
import { attentionTable } from "./attention_table.js";
import { ATTENTION_NOTE, strongest } from "./attention_words.js";
import { h } from "./dom.js";
import { storeOf } from "./feed_store.js";
import { percent, visible } from "./format.js";
import { openRoot } from "./root.js";

/**
 * @import { AnyModel, RenderProps } from "@anywidget/types"
 * @import { AttentionState } from "./attention_store.js"
 */

/** Number of tokens in the sentence. */
const SAID_TOKENS = 3;

/** @param {RenderProps<AttentionState>} context */
async function render({ model, el, host, signal }) {
  const feed = await storeOf(host, model.get("feed"));
  if (signal.aborted) return;
  openRoot({ model, el, signal }, "wb-attention");
  const store = new AttentionStore(model, feed);
  const message = h("p", { class: "wb-attention-message", role: "status" });
  const said = h("p", { class: "wb-attention-said", role: "status" });
  const note = h("p", { class: "wb-quiet wb-attention-note", text: ATTENTION_NOTE });
  const columns = h(
    "div",
    { class: "wb-attention-columns" },
    attentionHeads(model, store, feed, signal),
    attentionTable(store, signal),
  );
  const main = h("div", {}, attentionArcs(store, signal), said, note, columns);
  el.append(message, main);
  const show = () => {
    message.textContent = model.get("message");
    message.hidden = !message.textContent;
    main.hidden = model.get("shape").length === 0;
    said.textContent = sentence(model, store);
    const row = store.row;
    el.setAttribute("data-wb-row", row ? `${row.layer} ${row.head} ${row.position}` : "none");
    el.setAttribute("data-wb-heads", String(model.get("heads").length));
  };
  store.listen(show, signal);
  model.on("change:heads", show);
  model.on("change:shape", show);
  show();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** @param {AnyModel<AttentionState>} model @param {AttentionStore} store */
function sentence(model, store) {
  const { position, row } = store;
  if (position === null) return "Choose a token.";
  const where = `Token ${position + 1} “${visible(store.label(position))}” in layer ${model.get("layer")}, head ${model.get("head")}`;
  if (!row) return `${where} …`;
  const most = strongest(row.weights).slice(0, SAID_TOKENS);
  const named = most.map((key) => `“${visible(store.label(key))}” ${percent(row.weights[key] ?? 0)}`);
  return `${where} attends most to ${named.join(", ")}.`;
}

export default { render };
