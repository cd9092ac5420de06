// The edit view: changes inside the model, and the edited run beside the original.

import { requester, setter } from "./asking.js";
import { h, segments } from "./dom.js";
import { ablateForm } from "./edit_parts.js";
import { patchForm } from "./edit_patch.js";
import { steerForm } from "./edit_steer.js";
import { errorLine } from "./error_line.js";
import { storeOf } from "./feed_store.js";
import { openRoot } from "./root.js";

/**
 * @import { AnyModel, RenderProps } from "@anywidget/types"
 * @import { Ask } from "./asking.js"
 * @import { Store } from "./run_feed.js"
 *
 * @typedef {"ablate" | "patch" | "steer"} Mode  the kind of change
 *
 * @typedef {object} EditState of the widget model
 * @property {string} feed  reference of the run feed
 * @property {string} comparison  reference of the comparison of the runs
 * @property {string} message  why the run cannot be edited, or an error
 * @property {string} busy  what is being computed
 * @property {Mode} mode
 * @property {string[]} prompt  texts of the prompt's tokens
 * @property {number[]} shape  numbers of layers and heads; empty if unknown
 * @property {string[]} changes  in words
 * @property {{id: string, text: string}[]} others  runs to patch from
 * @property {{id?: string, labels?: string[]}} source  the run to patch from, and the texts of its tokens
 * @property {boolean} can_ask  whether a second prompt and texts can be read
 *
 * @typedef {object} EditTexts  the tokens of prompt and answer
 * @property {() => string[]} labels
 * @property {(listener: () => void, signal: AbortSignal) => void} listen
 *
 * Messages to the kernel, each with an id, answered by `{kind: "reply", id, error}`: `{kind: "ablate", part, layer, head,
 * method, position}`, `{kind: "patch", source, layer, position, to_layer, to}`, `{kind: "steer", towards, away, layer,
 * factor}`, `{kind: "remove", index}`, `{kind: "run"}`, `{kind: "stop"}`, `{kind: "source", source}` and
 * `{kind: "read", prompt}`.
 */

/** @param {RenderProps<EditState>} context */
async function render({ model, el, host, signal }) {
  const feed = await storeOf(host, model.get("feed"));
  if (signal.aborted) return;
  openRoot({ model, el, signal }, "wb-edit");
  const error = errorLine("wb-edit-error");
  const ask = requester(model, signal, (text) => error.show(text ?? failure(model)));
  const texts = textsOf(model, feed, signal);
  const patch = patchForm(model, texts, ask, signal);
  const forms = /** @type {Record<Mode, HTMLElement>} */ ({
    ablate: ablateForm(model, texts, ask, signal),
    patch: patch.root,
    steer: steerForm(model, ask),
  });
  const mode = modeChoice(model, signal);
  const said = h("p", { class: "wb-edit-message wb-quiet", role: "status" });
  const comparison = h("div", { class: "wb-slot wb-edit-comparison" });
  const form = h(
    "div",
    { class: "wb-edit-form" },
    h("div", { class: "wb-edit-head" }, mode.root),
    ...Object.values(forms),
    changeList(model, ask),
    error.root,
  );
  el.append(said, form, comparison);
  const show = () => {
    const hasShape = model.get("shape").length > 0;
    mode.set(model.get("mode"));
    for (const [name, one] of Object.entries(forms)) one.hidden = name !== model.get("mode");
    form.hidden = !hasShape;
    said.textContent = hasShape ? model.get("busy") : model.get("message");
    said.hidden = !said.textContent;
    error.show(hasShape ? failure(model) : null);
    el.setAttribute("data-wb-busy", model.get("busy") ? "true" : "false");
    el.setAttribute("data-wb-changes", String(model.get("changes").length));
  };
  for (const name of /** @type {const} */ (["shape", "message", "busy", "mode", "changes"]))
    model.on(`change:${name}`, show);
  model.on("change:mode", patch.measure);
  show();
  signal.addEventListener("abort", () => el.replaceChildren());
  const part = await host.getWidget(model.get("comparison"));
  if (!signal.aborted) await part.render({ el: comparison, signal });
}

/** @param {AnyModel<EditState>} model */
function failure(model) {
  return model.get("shape").length ? model.get("message") || null : null;
}

/** @param {AnyModel<EditState>} model @param {Store} feed @param {AbortSignal} signal @returns {EditTexts} */
function textsOf(model, feed, signal) {
  /** Until it changes, because each part of the view reads it token by token. @type {string[] | null} */ let known =
    null;
  const listen = (/** @type {() => void} */ listener, /** @type {AbortSignal} */ until) => {
    model.on("change:prompt", listener);
    feed.listen((change) => ["reset", "append"].includes(change.kind) && listener(), until);
  };
  listen(() => (known = null), signal); // before the listeners that read it
  return {
    labels: () => (known ??= [...model.get("prompt"), ...feed.tokens.map((token) => token.label)]),
    listen,
  };
}

/** @param {AnyModel<EditState>} model @param {AbortSignal} signal */
function modeChoice(model, signal) {
  return segments({
    label: "Kind of change",
    options: /** @type {{value: Mode, text: string, title: string}[]} */ ([
      { value: "ablate", text: "Ablate", title: "Remove what a part of the model adds" },
      { value: "patch", text: "Patch", title: "Put numbers of another run in place of this one's" },
      { value: "steer", text: "Steer", title: "Add the difference between two sets of texts" },
    ]),
    onChange: setter(model, "mode", signal),
  });
}

/** The changes in effect, each with a button that removes it, and Run. @param {AnyModel<EditState>} model @param {Ask} ask */
function changeList(model, ask) {
  const title = h("h3", { text: "Changes in effect" });
  const list = h("ol", { class: "wb-edit-changes" });
  const none = h("p", { class: "wb-quiet", text: "None yet: the edited run would be the original." });
  const run = h("button", {
    type: "button",
    class: "wb-button wb-primary wb-edit-run-button",
    text: "Run with changes",
  });
  run.addEventListener("click", () => ask({ kind: "run" }));
  const stop = h("button", {
    type: "button",
    class: "wb-button",
    text: "Stop",
    on: { click: () => ask({ kind: "stop" }) },
  });
  const show = () => {
    const changes = model.get("changes");
    const hadFocus = list.contains(document.activeElement);
    list.replaceChildren(
      ...changes.map((text, index) => {
        const remove = h("button", {
          type: "button",
          class: "wb-button wb-ghost",
          text: "Remove",
          "aria-label": `Remove: ${text}`,
          on: { click: () => ask({ kind: "remove", index }) },
        });
        return h("li", {}, h("span", { text }), remove);
      }),
    );
    none.hidden = changes.length > 0;
    run.disabled = changes.length === 0 || model.get("busy") !== "";
    // The button that was pressed is gone.
    if (hadFocus) (list.querySelector("button") ?? run).focus();
  };
  for (const name of /** @type {const} */ (["changes", "busy"])) model.on(`change:${name}`, show);
  show();
  return h("div", { class: "wb-edit-list" }, title, list, none, h("div", { class: "wb-edit-buttons" }, run, stop));
}

export default { render };
