// The panels below the answer whose tokens are shown: its tool calls token by token, and its prompt.

import { h, uniqueId } from "./dom.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 *
 * @typedef {"none" | "calls" | "prompt"} Detail  what is open
 */

export const CALLS_TEXT = "Tool-call tokens";

/**
 * Two buttons, each of which opens a panel with a widget; the kernel updates the widget while its panel is open.
 * @param {AnyModel<{detail: Detail}>} model
 */
export function answerDetail(model) {
  const panels = {
    calls: { text: CALLS_TEXT, slot: h("div", { id: uniqueId("calls") }) },
    prompt: { text: "Prompt tokens", slot: h("div", { id: uniqueId("prompt") }) },
  };
  const toggle = (/** @type {Detail} */ name, /** @type {{text: string, slot: HTMLElement}} */ { text, slot }) => {
    const click = () => {
      model.set("detail", model.get("detail") === name ? "none" : name);
      model.save_changes();
    };
    return h("button", { type: "button", class: "wb-button wb-toggle", text, "aria-controls": slot.id, on: { click } });
  };
  const buttons = { calls: toggle("calls", panels.calls), prompt: toggle("prompt", panels.prompt) };
  const slots = { microscope: panels.calls.slot, prompt_view: panels.prompt.slot };
  const root = h(
    "div",
    { class: "wb-detail" },
    h("div", { class: "wb-detail-bar" }, buttons.calls, buttons.prompt),
    ...Object.values(slots),
  );
  let hasCalls = false;
  const show = () => {
    const open = model.get("detail");
    for (const [name, button] of Object.entries(buttons)) button.setAttribute("aria-expanded", String(open === name));
    buttons.calls.hidden = !hasCalls;
    panels.calls.slot.hidden = open !== "calls" || !hasCalls;
    panels.prompt.slot.hidden = open !== "prompt";
  };
  model.on("change:detail", show);
  show();
  return {
    root,
    slots,
    /** @param {boolean} has  whether the answer has begun a call */
    calls(has) {
      hasCalls = has;
      show();
    },
  };
}
