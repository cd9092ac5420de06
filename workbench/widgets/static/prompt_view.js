// The prompt as the model got it: a box per token with its id, control tokens framed, and one line per line of the text.

import { h } from "./dom.js";
import { visible } from "./format.js";
import { openRoot } from "./root.js";

/**
 * @import { RenderProps } from "@anywidget/types"
 *
 * @typedef {[number, string, boolean]} PromptToken  id, label, whether it is a control token
 *
 * @typedef {object} State of the widget model
 * @property {string} feed  reference of the run feed
 * @property {PromptToken[]} tokens
 * @property {string} message
 */

/** @param {RenderProps<State>} context */
function render({ model, el, signal }) {
  openRoot({ model, el, signal }, "wb-given");
  const said = h("p", { class: "wb-given-said wb-quiet wb-number" });
  const legend = h(
    "p",
    { class: "wb-given-legend wb-quiet" },
    box([0, "<|…|>", true], false),
    h("span", { text: "control token: added by the template; typed text never becomes one" }),
  );
  const lines = h("ol", { class: "wb-given-lines", tabindex: 0, "aria-label": "Tokens of the prompt, line by line" });
  el.append(said, legend, lines);
  const show = () => {
    const tokens = model.get("tokens");
    said.textContent = model.get("message");
    legend.hidden = !tokens.some(([, , isControl]) => isControl);
    lines.hidden = tokens.length === 0;
    lines.replaceChildren(...linesOf(tokens).map((line) => h("li", {}, ...line.map((token) => box(token, true)))));
    el.setAttribute("data-wb-tokens", String(tokens.length));
  };
  model.on("change:tokens", show);
  model.on("change:message", show);
  show();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** Split tokens into lines; a token that ends with a line break is the last of its line. @param {PromptToken[]} tokens */
function linesOf(tokens) {
  /** @type {PromptToken[][]} */ const lines = [];
  let isEnded = true;
  for (const token of tokens) {
    if (isEnded) lines.push([]);
    lines[lines.length - 1].push(token);
    isEnded = token[1].endsWith("\n");
  }
  return lines;
}

/** @param {PromptToken} token @param {boolean} hasId */
function box([id, label, isControl], hasId) {
  return h(
    "span",
    { class: isControl ? "wb-given-token wb-given-control" : "wb-given-token" },
    h("code", { text: visible(label) }),
    hasId && h("span", { class: "wb-given-id wb-quiet wb-number", text: String(id) }),
    hasId && isControl && h("span", { class: "wb-sr", text: "control token" }),
  );
}

export default { render };
