// The attribution view: an answer whose tokens are marked by the chunk that raised them, beside the chunks.

import { requester } from "./asking.js";
import { attributionChunks } from "./attribution_chunks.js";
import { AttributionStore } from "./attribution_store.js";
import { attributionText } from "./attribution_text.js";
import { attributionToken } from "./attribution_token.js";
import { summary } from "./attribution_words.js";
import { h } from "./dom.js";
import { errorLine } from "./error_line.js";
import { openRoot } from "./root.js";
import { isSaved } from "./saved_view.js";
import { unitChoice } from "./unit_choice.js";

/**
 * @import { AnyModel, RenderProps } from "@anywidget/types"
 * @import { AttributionState } from "./attribution_store.js"
 *
 * Messages to the kernel: `{kind: "measure", id}` and `{kind: "stop", id}`, answered by `{kind: "reply", id, error}`.
 */

/** @param {RenderProps<AttributionState>} context */
function render({ model, el, signal }) {
  openRoot({ model, el, signal }, "wb-attribution");
  const store = new AttributionStore(model);
  const text = attributionText(store, signal);
  const said = h("p", { class: "wb-attribution-said", role: "status" });
  const { buttons, error } = askForm(model, signal);
  const head = h(
    "div",
    { class: "wb-attribution-head" },
    h("h3", { text: "What each chunk did to the answer" }),
    buttons,
    unitChoice([store], signal),
  );
  const main = h("div", { class: "wb-attribution-main" }, text.root, attributionToken(store, signal));
  const columns = h("div", { class: "wb-attribution-columns" }, main, attributionChunks(store, signal));
  el.append(head, said, error, columns);
  const show = () => {
    const state = model.get("state");
    el.setAttribute("data-wb-state", state);
    said.textContent = sentence(model, store);
    said.hidden = state === "failed";
    columns.hidden = store.steps.length + store.chunks.length === 0;
  };
  store.listen(({ kind }) => kind === "reset" && show(), signal);
  model.on("change:state", show);
  model.on("change:message", show);
  show();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** @param {AnyModel<AttributionState>} model @param {AttributionStore} store */
function sentence(model, store) {
  const state = model.get("state");
  if (state === "done") return summary(store.marks, store.chunks.length);
  if (isSaved(model) && state !== "failed") return "The attribution was not measured when the notebook was saved.";
  return model.get("message");
}

/** Stop, Measure, and the line for errors. @param {AnyModel<AttributionState>} model @param {AbortSignal} signal */
function askForm(model, signal) {
  const error = errorLine("wb-attribution-error");
  const failure = () => (model.get("state") === "failed" ? model.get("message") : null);
  const ask = requester(model, signal, (text) => error.show(text ?? failure()));
  const button = (/** @type {string} */ text, /** @type {string} */ kind) =>
    h("button", { type: "button", class: "wb-button", text, on: { click: () => ask({ kind }) } });
  const stop = button("Stop", "stop");
  const measure = button("Measure", "measure");
  const show = () => {
    const state = model.get("state");
    // A button that is hidden would lose the focus to the page.
    const hadFocus = document.activeElement === stop || document.activeElement === measure;
    stop.hidden = state !== "waiting" && state !== "measuring";
    measure.hidden = state !== "stopped" && state !== "failed";
    if (hadFocus) (stop.hidden ? measure : stop).focus();
    error.show(failure());
  };
  model.on("change:state", show);
  show();
  return { buttons: h("span", { class: "wb-attribution-ask" }, stop, measure), error: error.root };
}

export default { render };
