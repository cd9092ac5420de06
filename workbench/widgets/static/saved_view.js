// A widget from a saved notebook, which shows its saved state and has no kernel.

import { keepDisabled } from "./disabling.js";
import { h } from "./dom.js";

/** @import { AnyModel } from "@anywidget/types" */

export const SAVED = "Saved view. Run the cell to continue.";

/** Parts whose controls need the kernel. */
const ASKING =
  ".wb-stream-form, .wb-picker, .wb-controls, .wb-compare-form, .wb-read-form, .wb-game, .wb-chat, .wb-attribution-ask, .wb-layers-lens, .wb-edit-form";
/** Controls in them that need no kernel. */
const LOCAL =
  ".wb-inspector *, .wb-scope *, .wb-given *, .wb-copy *, [aria-expanded], [aria-pressed], [role='tab'], [data-wb-local]";

/**
 * Return whether the widget was read from a notebook, so that no kernel has it until its cell is run.
 * @param {object} model
 */
export function isSaved(model) {
  // The layout is a model of Jupyter's own; hosts without one do not read widgets from notebooks.
  const { get } = /** @type {{get?: (name: string) => {comm_live?: boolean} | undefined}} */ (model);
  return get?.call(model, "layout")?.comm_live === false;
}

/**
 * Show a notice and disable the controls that need a kernel, including those that are drawn later.
 * @param {HTMLElement} el @param {AbortSignal} signal
 */
export function showSaved(el, signal) {
  el.setAttribute("data-wb-saved", "");
  el.prepend(h("p", { class: "wb-notice", text: SAVED }));
  keepDisabled(el, `:is(${ASKING}) :is(button, input, select, textarea):enabled:not(${LOCAL})`, signal);
}
