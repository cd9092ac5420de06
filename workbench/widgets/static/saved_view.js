// A widget that was read from a saved notebook: it shows what it showed, and nothing answers it.

import { keepDisabled } from "./disabling.js";
import { h } from "./dom.js";

/** @import { AnyModel } from "@anywidget/types" */

export const SAVED = "Saved view. Run the cell to continue.";

/** Parts whose controls ask the kernel for something. */
const ASKING = ".wb-stream-form, .wb-picker, .wb-controls, .wb-compare-form, .wb-read-form, .wb-game, .wb-chat";
/** Controls in them that work in the page alone. */
const LOCAL =
  ".wb-inspector *, .wb-scope *, .wb-given *, .wb-copy *, [aria-expanded], [aria-pressed], [role='tab'], [data-wb-local]";

/**
 * Whether the widget was read from a notebook, so that no kernel has it. It stays so until its cell is run.
 * @param {object} model
 */
export function isSaved(model) {
  // The layout is the one part of the state that is Jupyter's own model; hosts without one read nothing from notebooks.
  const { get } = /** @type {{get?: (name: string) => {comm_live?: boolean} | undefined}} */ (model);
  return get?.call(model, "layout")?.comm_live === false;
}

/**
 * Put the notice on top and turn off what needs a kernel; what is drawn later is turned off as it comes.
 * @param {HTMLElement} el @param {AbortSignal} signal
 */
export function showSaved(el, signal) {
  el.setAttribute("data-wb-saved", "");
  el.prepend(h("p", { class: "wb-notice", text: SAVED }));
  keepDisabled(el, `:is(${ASKING}) :is(button, input, select, textarea):enabled:not(${LOCAL})`, signal);
}
