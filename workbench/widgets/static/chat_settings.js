// The settings of a chat: a line that summarizes them, and a panel with model, sampling, system prompt and tools.

import { setter } from "./asking.js";
import { disclosure } from "./disclosure.js";
import { h, segments } from "./dom.js";
import { traitBox } from "./prompt_box.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 *
 * @typedef {{name: string, description: string, parameters: string}} Tool  `parameters`: a JSON schema as text
 * @typedef {"auto" | "required" | "none"} ToolChoice
 * @typedef {{system: string, tools: Tool[], tool_choice: ToolChoice, shields: string[]}} Settings
 */

/** @type {{value: ToolChoice, text: string, title: string}[]} */
const CHOICES = [
  { value: "auto", text: "Auto", title: "The model decides whether to call a tool" },
  { value: "required", text: "Required", title: "The first answer to each message must be a tool call" },
  { value: "none", text: "None", title: "The model answers without tools" },
];

/**
 * @param {AnyModel<Settings>} model @param {AbortSignal} signal
 * @param {HTMLElement} buttons  shown beside the one that opens the panel
 */
export function chatSettings(model, signal, buttons) {
  const slots = { picker: h("div", { class: "wb-slot-bar" }), controls: h("div", { class: "wb-slot-bar" }) };
  const summary = h("p", { class: "wb-chat-summary wb-quiet" });
  const panel = h(
    "div",
    { class: "wb-chat-settings" },
    slots.picker,
    slots.controls,
    systemPrompt(model, signal),
    toolSettings(model, signal),
  );
  const disclose = disclosure(panel, { text: "Settings" });
  const show = () => {
    const tools = model.get("tools").length;
    const facts = ["System: ", h("b", { text: model.get("system") || "none" })];
    if (tools) facts.push(" · Tools: ", h("b", { text: model.get("tool_choice") === "none" ? "off" : String(tools) }));
    const shields = model.get("shields") ?? []; // absent from views that were saved before there were shields
    if (shields.length) facts.push(" · Shields: ", h("b", { text: shields.join(", ") }));
    summary.replaceChildren(...facts);
  };
  for (const name of ["system", "tools", "tool_choice", "shields"]) model.on(`change:${name}`, show);
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

/** The tool choice, and a list of the tools as they are described to the model. @param {AnyModel<Settings>} model @param {AbortSignal} signal */
function toolSettings(model, signal) {
  const choice = segments({
    label: "Tool choice",
    options: CHOICES,
    onChange: setter(model, "tool_choice", signal),
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
  const schema = h("pre", { class: "wb-tool-schema", tabindex: 0, text: parameters });
  const disclose = disclosure(schema, { text: "Parameters", "aria-label": `Parameters of ${name}` });
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
