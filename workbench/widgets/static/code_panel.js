// The Python that gives what is shown, with a button that copies it.

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

/** The same below a line that unfolds it. @param {AnyModel<{code: string}>} model */
export function codeFold(model) {
  return h("details", { class: "wb-code-fold" }, h("summary", { class: "wb-quiet", text: "Code" }), codePanel(model));
}
