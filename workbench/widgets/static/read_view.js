// The read view: a text with each token colored by its surprisal, alone or beside a second text.

import { codeFold } from "./code_panel.js";
import { h } from "./dom.js";
import { errorLine } from "./error_line.js";
import { storeOf } from "./feed_store.js";
import { traitBox } from "./prompt_box.js";
import { openRoot } from "./root.js";
import { runForm } from "./run_form.js";
import { metricsLine } from "./run_metrics.js";
import { progressInWords } from "./run_words.js";
import { tokenText } from "./token_text.js";

/**
 * @import { AnyModel, RenderProps } from "@anywidget/types"
 * @import { Store } from "./run_feed.js"
 *
 * @typedef {object} State of the widget model
 * @property {string} picker  reference of the model picker
 * @property {string} text
 * @property {string} other  the second text; empty for none
 * @property {string[]} feeds  references of the run feeds, one for each text
 * @property {string[]} inspectors
 * @property {string[]} tables
 * @property {"idle" | "running" | "done"} state
 * @property {string} code  the Python call that reproduces what is shown
 *
 * @typedef {AnyModel<State>} Model
 *
 * Messages to the kernel: `{kind: "run", id}` and `{kind: "stop", id}`, answered by `{kind: "reply", id, error}`.
 */

/** @param {RenderProps<State>} context */
async function render({ model, el, host, signal }) {
  const stores = await Promise.all(model.get("feeds").map((ref) => storeOf(host, ref)));
  if (signal.aborted) return;
  openRoot({ model, el, signal }, "wb-read");
  const picker = h("div", { class: "wb-slot wb-read-picker" });
  const sides = stores.map((store, i) => side(store, i, signal));
  const columns = h("div", { class: "wb-read-sides" }, ...sides.map((one) => one.root));
  el.append(picker, readForm(model, stores, signal), columns, codeFold(model));

  const showSides = () => {
    const isSecond = stores[1].run !== null;
    sides[1].root.hidden = !isSecond;
    columns.classList.toggle("wb-read-two", isSecond);
  };
  stores[1].listen(showSides, signal);
  showSides();
  const showState = () => el.setAttribute("data-wb-state", model.get("state"));
  model.on("change:state", showState);
  showState();

  const slots = [
    { ref: model.get("picker"), slot: picker },
    ...sides.flatMap(({ inspector, table }, i) => [
      { ref: model.get("inspectors")[i], slot: inspector },
      { ref: model.get("tables")[i], slot: table },
    ]),
  ];
  for (const { ref, slot } of slots) {
    const part = await host.getWidget(ref);
    if (signal.aborted) return;
    await part.render({ el: slot, signal });
  }
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** One text with its metrics, inspector and table. @param {Store} store @param {number} index @param {AbortSignal} signal */
function side(store, index, signal) {
  const name = index ? "Second text" : "Text";
  const error = errorLine();
  const showError = () => error.show(store.problem || store.error);
  store.listen(showError, signal);
  showError();
  const inspector = h("div", { class: "wb-slot" });
  const table = h("div", { class: "wb-slot wb-read-table" });
  const text = tokenText(store, signal, { label: name, emptyText });
  const main = h("div", { class: "wb-read-main" }, error.root, text.root, metricsLine(store, signal));
  return {
    root: h("section", { class: "wb-read-side", "aria-label": `${name} with its surprisal` }, main, inspector, table),
    inspector,
    table,
  };
}

/** @param {Store} store */
function emptyText(store) {
  if (store.active) return progressInWords(store, "text", Date.now());
  return store.state === "idle" ? "The text appears here, each token colored by its surprisal." : "";
}

/** The boxes for the texts, and the buttons. @param {Model} model @param {Store[]} stores @param {AbortSignal} signal */
function readForm(model, stores, signal) {
  const first = textBox(model, "text", "Text", "Paste a text to see how surprising each token is", signal);
  const second = textBox(model, "other", "Second text", "Paste another text to compare with the first", signal);
  const form = h("div", { class: "wb-read-form" });
  const runs = runForm(model, form, [first, second], "Read", signal);
  runs.follow(stores, signal);
  const more = h("button", {
    type: "button",
    class: "wb-button wb-toggle wb-read-more",
    text: "Compare with a second text",
    "aria-controls": second.box.id,
    on: {
      click() {
        const isOpening = Boolean(second.root.hidden);
        if (!isOpening) second.box.value = "";
        second.flush();
        open(isOpening);
        (isOpening ? second : first).box.focus();
      },
    },
  });
  const open = (/** @type {boolean} */ isOpen) => {
    second.root.hidden = !isOpen;
    more.textContent = isOpen ? "Remove the second text" : "Compare with a second text";
  };
  model.on("change:other", () => {
    if (model.get("other")) open(true);
  });
  open(Boolean(model.get("other")));
  form.append(
    h("div", { class: "wb-read-boxes" }, first.root, second.root),
    h("div", { class: "wb-row" }, ...runs.buttons, more),
    runs.error,
  );
  return form;
}

/**
 * @param {Model} model @param {"text" | "other"} field @param {string} name @param {string} placeholder
 * @param {AbortSignal} signal
 */
function textBox(model, field, name, placeholder, signal) {
  const attributes = { class: "wb-prompt", rows: 4, spellcheck: "false", dir: "auto", placeholder };
  const { box, label, flush } = traitBox(model, field, signal, { text: name, kind: "wb-quiet", ...attributes });
  return { root: h("div", {}, label, box), box, flush };
}

export default { render };
