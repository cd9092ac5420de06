// A button that shows or hides a panel.

import { h, uniqueId } from "./dom.js";

/** @import { Props } from "./dom.js" */

/**
 * Return a button for a panel, which is hidden at first.
 * @param {HTMLElement} panel @param {Props} attributes  of the button
 */
export function disclosure(panel, { class: kind = "wb-ghost", ...attributes }) {
  panel.id ||= uniqueId("panel");
  panel.hidden = true;
  const button = h("button", {
    type: "button",
    class: `wb-button ${kind}`,
    "aria-expanded": "false",
    "aria-controls": panel.id,
    ...attributes,
  });
  button.addEventListener("click", () => {
    panel.hidden = !panel.hidden;
    button.setAttribute("aria-expanded", String(!panel.hidden));
  });
  return button;
}
