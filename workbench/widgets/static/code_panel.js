// The Python that gives what is shown, with a button that copies it.

import { copyButton, h, uniqueId } from "./dom.js";

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

/** The same below a button that unfolds it. @param {AnyModel<{code: string}>} model */
export function codeFold(model) {
  const panel = h("div", { id: uniqueId("code"), hidden: true }, codePanel(model));
  const button = h("button", {
    type: "button",
    class: "wb-button wb-ghost",
    "aria-expanded": "false",
    "aria-controls": panel.id,
    text: "Code",
    on: {
      click() {
        panel.hidden = !panel.hidden;
        button.setAttribute("aria-expanded", String(!panel.hidden));
      },
    },
  });
  return h("div", { class: "wb-code-fold" }, button, panel);
}
