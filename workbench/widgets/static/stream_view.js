// The stream view: a prompt, Run and Stop, and the text of the run.

import { h, uniqueId } from "./dom.js";
import { storeOf } from "./feed_store.js";
import { information } from "./format.js";
import { promptForm } from "./prompt_form.js";
import { openRoot } from "./root.js";
import { metricsLine } from "./run_metrics.js";
import { tokenText } from "./token_text.js";

/**
 * @import { AnyModel, RenderProps } from "@anywidget/types"
 * @import { ColorBy, Unit } from "./format.js"
 * @import { Pauses } from "./pause_form.js"
 * @import { Store } from "./run_feed.js"
 *
 * @typedef {object} State of the widget model
 * @property {string} feed  reference of the run feed
 * @property {string} prompt
 * @property {"chat" | "completion"} mode
 * @property {boolean} can_run  false if the view only shows a run
 * @property {string} no_pause  why the next run cannot pause; empty if it can
 * @property {string} no_chat  why the model cannot chat; empty if it can
 * @property {Pauses} pauses
 * @property {ColorBy} color_by
 * @property {boolean} show_whitespace
 * @property {boolean} show_special
 *
 * @typedef {AnyModel<State>} Model
 *
 * Messages to the kernel: `{kind, id}` with run, stop, pause, resume, extend or again; each is answered by
 * `{kind: "reply", id, error}` with `error` text or null.
 */

/** Surprisal at which the color has its full strength. */
const MOST_NATS = 8 * Math.LN2;

/** @param {Unit} unit @returns {Partial<Record<ColorBy, {from: string, to: string, said: string}>>} */
function legends(unit) {
  const most = information(MOST_NATS, unit, unit === "bits" ? 0 : 1);
  return {
    surprisal: { from: "0", to: most, said: `Color and underline show surprisal, from 0 to ${most}` },
    probability: { from: "100 %", to: "0 %", said: "Color and underline show probability, from 100 % down to 0 %" },
    entropy: { from: "0", to: most, said: `Color and underline show the entropy at each token, from 0 to ${most}` },
  };
}

/** @param {RenderProps<State>} context */
async function render({ model, el, host, signal }) {
  const store = await storeOf(host, model.get("feed"));
  openRoot({ model, el, signal }, "wb-stream");
  const look = () => ({
    colorBy: model.get("color_by"),
    whitespace: model.get("show_whitespace"),
    special: model.get("show_special"),
  });
  const text = tokenText(store, signal, { look: look() });
  for (const name of ["color_by", "show_whitespace", "show_special"])
    model.on(`change:${name}`, () => text.show(look()));
  el.append(
    h(
      "div",
      { class: "wb-stream-main" },
      promptForm(model, store, signal),
      // The playground adds model and settings here, so that the prompt comes first in the tab order.
      h("div", { class: "wb-stream-settings" }),
      lookBar(model, store, signal),
      text.root,
    ),
    metricsLine(store, signal),
  );

  const showState = () => {
    el.setAttribute("data-wb-state", store.state);
    el.setAttribute("data-wb-run", store.run ?? "none");
  };
  store.listen(showState, signal);
  showState();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** The choice of the color, its legend, and toggles for invisible characters and control tokens. @param {Model} model @param {Store} store @param {AbortSignal} signal */
function lookBar(model, store, signal) {
  const id = uniqueId("color");
  const choice = h(
    "select",
    { class: "wb-field wb-color", id },
    ...[...Object.keys(legends(store.unit)), "none"].map((value) => h("option", { value, text: value })),
  );
  choice.addEventListener("change", () => save(model, "color_by", /** @type {ColorBy} */ (choice.value)));
  const from = h("span");
  const gradient = h("span", { class: "wb-gradient" });
  const to = h("span");
  const legend = h("span", { class: "wb-legend wb-number", role: "img" }, from, gradient, to);
  const show = () => {
    const name = model.get("color_by");
    const words = legends(store.unit)[name];
    choice.value = name;
    legend.hidden = !words;
    gradient.setAttribute("data-wb-color", name);
    legend.setAttribute("aria-label", words?.said ?? "");
    from.textContent = words?.from ?? "";
    to.textContent = words?.to ?? "";
  };
  model.on("change:color_by", show);
  store.listen((change) => change.kind === "unit" && show(), signal);
  show();
  return h(
    "div",
    { class: "wb-look" },
    h("label", { for: id, text: "Color" }),
    choice,
    legend,
    h("span", { class: "wb-spacer" }),
    toggle(model, "show_whitespace", "White space", "Mark spaces, line ends and invisible characters"),
    toggle(
      model,
      "show_special",
      "Control tokens",
      "Show control tokens, such as the end of the turn, which are not part of the text",
    ),
  );
}

/** @param {Model} model @param {"show_whitespace" | "show_special"} name @param {string} text @param {string} title */
function toggle(model, name, text, title) {
  const button = h("button", {
    type: "button",
    class: "wb-button wb-toggle",
    text,
    title,
    on: { click: () => save(model, name, !model.get(name)) },
  });
  const show = () => button.setAttribute("aria-pressed", String(model.get(name)));
  model.on(`change:${name}`, show);
  show();
  return button;
}

/** @template {keyof State} Name @param {Model} model @param {Name} name @param {State[Name]} value */
function save(model, name, value) {
  model.set(name, value);
  model.save_changes();
}

export default { render };
