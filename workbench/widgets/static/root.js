// The outermost element of a widget: classes, keys, color scheme, and the notice at the end of the kernel.

import { followScheme } from "./color_scheme.js";
import { keepDisabled } from "./disabling.js";
import { h, keepKeys } from "./dom.js";
import { onKernelGone } from "./kernel_life.js";
import { isSaved, showSaved } from "./saved_view.js";

/** @import { AnyModel } from "@anywidget/types" */

/**
 * Prepare the element in which a widget draws.
 * @template {Record<string, any>} State
 * @param {{model: AnyModel<State>, el: HTMLElement, signal: AbortSignal}} context
 * @param {string} kind  class of the widget
 */
export function openRoot({ model, el, signal }, kind) {
  el.classList.add("wb-root", kind);
  keepKeys(el);
  // The rest is for the outermost widget alone.
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
 * Show a notice and disable every control, including those that are drawn or enabled later. The content stays readable.
 * @param {HTMLElement} el @param {string} sentence @param {AbortSignal} signal
 */
function disable(el, sentence, signal) {
  el.classList.add("wb-disabled");
  el.prepend(h("p", { class: "wb-notice", role: "alert", text: sentence }));
  keepDisabled(el, ":is(button, input, select, textarea):enabled", signal);
}
