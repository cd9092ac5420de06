// The outermost element of a widget: its classes, the keys that stay inside it, its colours, and its end with the kernel.

import { followScheme } from "./color_scheme.js";
import { keepDisabled } from "./disabling.js";
import { h, keepKeys } from "./dom.js";
import { onKernelGone } from "./kernel_life.js";
import { isSaved, showSaved } from "./saved_view.js";

/** @import { AnyModel } from "@anywidget/types" */

/**
 * Prepare the element that a widget draws in.
 * @template {Record<string, any>} State
 * @param {{model: AnyModel<State>, el: HTMLElement, signal: AbortSignal}} context
 * @param {string} kind  class of the widget
 */
export function openRoot({ model, el, signal }, kind) {
  el.classList.add("wb-root", kind);
  keepKeys(el);
  // A part leaves the rest to the widget around it.
  const isPart = () => Boolean(el.parentElement?.closest(".wb-root"));
  if (!isPart()) followScheme(el, signal);
  if (isSaved(model)) {
    if (!isPart()) showSaved(el, signal);
    return;
  }
  onKernelGone(model, signal, (sentence) => {
    if (!isPart()) disable(el, sentence, signal);
  });
}

/**
 * Say that nothing answers any more, and disable every control, also one that is drawn or enabled later. What the widget
 * shows stays to be read.
 * @param {HTMLElement} el @param {string} sentence @param {AbortSignal} signal
 */
function disable(el, sentence, signal) {
  el.classList.add("wb-disabled");
  el.prepend(h("p", { class: "wb-notice", role: "alert", text: sentence }));
  keepDisabled(el, ":is(button, input, select, textarea):enabled", signal);
}
