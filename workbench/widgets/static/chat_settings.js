// The settings of a chat: one line that says how it is set, and behind a button the model, the sampling and the tools.

import { h, segments, uniqueId } from "./dom.js";
import { traitBox } from "./prompt_box.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 *
 * @typedef {{name: string, description: string, parameters: string}} Tool  `parameters`: a JSON schema as text
 * @typedef {"auto" | "required" | "none"} ToolChoice
 * @typedef {{system: string, tools: Tool[], tool_choice: ToolChoice}} Settings
 */

/** @type {{value: ToolChoice, text: string, title: string}[]} */
const CHOICES = [
  { value: "auto", text: "Auto", title: "The model decides whether to call a tool" },
  { value: "required", text: "Required", title: "The first answer to each message must be a tool call" },
  { value: "none", text: "None", title: "The model answers without tools" },
];

/**
 * @param {AnyModel<Settings>} model @param {AbortSignal} signal
 * @param {HTMLElement} buttons  that stand beside the one that opens the panel
 */
export function chatSettings(model, signal, buttons) {
  const panelId = uniqueId("settings");
  const slots = { picker: h("div", { class: "wb-slot-bar" }), controls: h("div", { class: "wb-slot-bar" }) };
  const summary = h("p", { class: "wb-chat-summary wb-quiet" });
  const disclose = discloser("Settings", panelId);
  const panel = h(
    "div",
    { class: "wb-chat-settings", id: panelId, hidden: true },
    slots.picker,
    slots.controls,
    systemPrompt(model, signal),
    toolSettings(model),
  );
  disclose.addEventListener("click", () => toggle(disclose, panel));
  const show = () => {
    const tools = model.get("tools").length;
    const facts = ["System: ", h("b", { text: model.get("system") || "none" })];
    if (tools) facts.push(" · Tools: ", h("b", { text: model.get("tool_choice") === "none" ? "off" : String(tools) }));
    summary.replaceChildren(...facts);
  };
  for (const name of ["system", "tools", "tool_choice"]) model.on(`change:${name}`, show);
  show();
  const bar = h("div", { class: "wb-bar wb-chat-bar" }, summary, h("span", { class: "wb-spacer" }), buttons, disclose);
  return { slots, panel, bar };
}

/** @param {AnyModel<Settings>} model @param {AbortSignal} signal */
function systemPrompt(model, signal) {
  const { box, label } = traitBox(model, "system", signal, {
    text: "System prompt",
    kind: "wb-quiet",
    class: "wb-chat-system",
    placeholder: "None. The model's chat template may add its own.",
  });
  return h("div", { class: "wb-bar" }, label, box);
}

/** Whether tools may be called, and each of them with what the model is told of it. @param {AnyModel<Settings>} model */
function toolSettings(model) {
  const choice = segments({
    label: "Tool choice",
    options: CHOICES,
    onChange: (value) => {
      model.set("tool_choice", value);
      model.save_changes();
    },
  });
  const list = h("ul", { class: "wb-tools", "aria-label": "Tools" });
  const head = h(
    "div",
    { class: "wb-bar wb-tools-head" },
    h("span", { class: "wb-quiet", text: "Tools" }),
    choice.root,
  );
  const root = h("div", {}, head, list);
  const show = () => {
    root.hidden = model.get("tools").length === 0;
    choice.set(model.get("tool_choice"));
  };
  const fill = () => {
    list.replaceChildren(...model.get("tools").map(toolItem));
    show();
  };
  model.on("change:tools", fill);
  model.on("change:tool_choice", show);
  fill();
  return root;
}

/** @param {Tool} tool */
function toolItem({ name, description, parameters }) {
  const id = uniqueId("schema");
  const schema = h("pre", { class: "wb-tool-schema", id, tabindex: 0, text: parameters, hidden: true });
  const disclose = discloser("Parameters", id);
  disclose.setAttribute("aria-label", `Parameters of ${name}`);
  disclose.addEventListener("click", () => toggle(disclose, schema));
  return h(
    "li",
    {},
    h(
      "div",
      { class: "wb-tool" },
      h("code", { text: name }),
      h("span", { text: description }),
      h("span", { class: "wb-spacer" }),
      disclose,
    ),
    schema,
  );
}

/** @param {string} text @param {string} id  of what it opens */
function discloser(text, id) {
  return h("button", {
    type: "button",
    class: "wb-button wb-ghost",
    "aria-expanded": "false",
    "aria-controls": id,
    text,
  });
}

/** @param {HTMLElement} button @param {HTMLElement} panel */
function toggle(button, panel) {
  panel.hidden = !panel.hidden;
  button.setAttribute("aria-expanded", String(!panel.hidden));
}
