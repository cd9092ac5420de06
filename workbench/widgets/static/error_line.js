// A line for an error, which screen readers announce; it is hidden while there is none.

import { h } from "./dom.js";

/** @param {string} kind  class of the line */
export function errorLine(kind = "") {
  const root = h("p", { class: `wb-message ${kind}`.trim(), role: "alert", hidden: true });
  return {
    root,
    /** @param {string | null | undefined} text  null or empty for no error */
    show(text) {
      root.textContent = text ?? "";
      root.hidden = !text;
    },
  };
}
