// The Python code that reproduces what is shown, with a button that copies it.

import { disclosure } from "./disclosure.js";
import { copyButton, h } from "./dom.js";

/** @import { AnyModel } from "@anywidget/types" */

/** @param {AnyModel<{code: string}>} model */
export function codePanel(model) {
  const code = h("code");
  const show = () => {
    code.textContent = model.get("code");
  };
  model.on("change:code", show);
  show();
  return h(
    "div",
    { class: "wb-code" },
    copyButton("Copy", () => model.get("code")),
    h("pre", { tabindex: 0, "aria-label": "Python code" }, code),
  );
}

/** The code panel below a button that opens it. @param {AnyModel<{code: string}>} model */
export function codeFold(model) {
  const panel = h("div", {}, codePanel(model));
  return h("div", { class: "wb-code-fold" }, disclosure(panel, { text: "Code" }), panel);
}
