// The outermost element of a widget: its classes, the keys that stay inside it, its colours, and its end with the kernel.

import { followScheme } from "./color_scheme.js";
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
    if (!isPart()) disable(el, sentence);
  });
}

/**
 * Say that nothing answers any more. The content stays to be read; a fieldset disables every control in it.
 * @param {HTMLElement} el @param {string} sentence
 */
function disable(el, sentence) {
  const scrolled = [...el.querySelectorAll("*")].flatMap((part) =>
    part.scrollTop ? [{ part, top: part.scrollTop }] : [],
  );
  const content = h("fieldset", { class: "wb-disabled", disabled: true });
  content.append(...el.childNodes);
  el.append(h("p", { class: "wb-notice", role: "alert", text: sentence }), content);
  for (const { part, top } of scrolled) part.scrollTop = top;
}
