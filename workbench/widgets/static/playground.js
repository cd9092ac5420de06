// The playground: the layout of its parts, which are widgets of their own.

import { codePanel } from "./code_panel.js";
import { h, uniqueId } from "./dom.js";
import { storeOf } from "./feed_store.js";
import { openRoot } from "./root.js";

/**
 * @import { AnyModel, RenderProps } from "@anywidget/types"
 *
 * @typedef {"picker" | "controls" | "stream" | "inspector" | "table" | "waterfall" | "layers" | "attention" | "edits" | "tree" | "prompt_view"} Part
 * @typedef {"tokens" | "waterfall" | "layers" | "attention" | "edit" | "tree" | "prompt" | "code"} Tab
 *
 * @typedef {object} Shown
 * @property {string} feed  reference of the run feed
 * @property {Tab} tab
 * @property {number} branches  number of branches of the tree
 * @property {string} code  the Python code of the branch shown; before the first run, of the next run
 *
 * @typedef {Shown & Record<Part, string>} State  of the widget model, with references of the parts
 * @typedef {AnyModel<State>} Model
 */

/** @param {RenderProps<State>} context */
async function render({ model, el, host, signal }) {
  openRoot({ model, el, signal }, "wb-playground");
  /** @type {Record<Part, HTMLElement>} */
  const slots = {
    stream: slot("stream"),
    picker: slot("bar"),
    controls: slot("bar"),
    inspector: slot("inspector"),
    table: slot("table"),
    waterfall: slot("waterfall"),
    layers: slot("layers"),
    tree: slot("tree"),
    attention: slot("attention"),
    edits: slot("edits"),
    prompt_view: slot("prompt"),
  };
  const tabs = tabList(model, [
    { value: "tokens", text: "Tokens", panel: slots.table },
    { value: "waterfall", text: "Waterfall", panel: slots.waterfall },
    { value: "layers", text: "Layers", panel: slots.layers },
    { value: "attention", text: "Attention", panel: slots.attention },
    { value: "edit", text: "Edit", panel: slots.edits },
    { value: "tree", text: "Tree", panel: slots.tree },
    { value: "prompt", text: "Prompt tokens", panel: slots.prompt_view },
    { value: "code", text: "Code", panel: codePanel(model) },
  ]);
  el.append(h("div", { class: "wb-grid" }, slots.stream, slots.inspector), tabs.root);
  const showBranches = () => tabs.name("tree", model.get("branches") > 1 ? `Tree (${model.get("branches")})` : "Tree");
  model.on("change:branches", showBranches);
  showBranches();

  for (const name of /** @type {Part[]} */ (Object.keys(slots))) {
    const part = await host.getWidget(model.get(name));
    if (signal.aborted) return;
    await part.render({ el: slots[name], signal });
    // Between the prompt and the text in the document, too, so that the tab order follows the layout.
    if (name === "stream") slots.stream.querySelector(".wb-stream-settings")?.append(slots.picker, slots.controls);
  }
  const store = await storeOf(host, model.get("feed"));
  const showState = () => el.setAttribute("data-wb-state", store.state);
  store.listen(showState, signal);
  showState();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** @param {string} name */
function slot(name) {
  return h("div", { class: `wb-slot wb-slot-${name}` });
}

/** @param {Model} model @param {{value: Tab, text: string, panel: HTMLElement}[]} tabs */
function tabList(model, tabs) {
  const buttons = tabs.map(({ value, text, panel }) => {
    const id = uniqueId("tab");
    const holder = h(
      "div",
      { role: "tabpanel", id: `${id}-panel`, "aria-labelledby": id, "data-wb-panel": value },
      panel,
    );
    const button = h("button", {
      type: "button",
      role: "tab",
      id,
      "aria-controls": holder.id,
      text,
      on: { click: () => choose(value) },
    });
    return { value, button, holder };
  });
  const choose = (/** @type {Tab} */ value) => {
    model.set("tab", value);
    model.save_changes();
  };
  const show = () => {
    for (const { value, button, holder } of buttons) {
      const isChosen = value === model.get("tab");
      button.setAttribute("aria-selected", String(isChosen));
      button.tabIndex = isChosen ? 0 : -1;
      holder.hidden = !isChosen;
    }
  };
  const list = h(
    "div",
    { class: "wb-tabs", role: "tablist", "aria-label": "Views of the run" },
    ...buttons.map(({ button }) => button),
  );
  list.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const at = buttons.findIndex(({ value }) => value === model.get("tab"));
    /** @type {Record<string, number>} */
    const targets = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 };
    const target = targets[event.key];
    if (target === undefined) return;
    const next = buttons[(target + buttons.length) % buttons.length];
    choose(next.value);
    next.button.focus();
    event.preventDefault();
    event.stopPropagation();
  });
  model.on("change:tab", show);
  show();
  return {
    root: h("div", { class: "wb-views" }, list, ...buttons.map(({ holder }) => holder)),
    /** @param {Tab} value @param {string} text */
    name(value, text) {
      for (const tab of buttons) if (tab.value === value) tab.button.textContent = text;
    },
  };
}

export default { render };
