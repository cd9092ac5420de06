// A box of text whose content is a trait: sent after a pause in typing, and shown anew when Python sets it.

/** @import { AnyModel } from "@anywidget/types" */

const TYPING_MS = 300;

/**
 * Keep a box and a trait alike; returns what sends the text at once.
 * @template {string} Name
 * @param {HTMLTextAreaElement} box @param {AnyModel<Record<Name, string>>} model @param {Name} name
 * @param {AbortSignal} signal
 */
export function keepText(box, model, name, signal) {
  let timer = 0;
  const flush = () => {
    window.clearTimeout(timer);
    timer = 0;
    if (model.get(name) === box.value) return;
    model.set(name, box.value);
    model.save_changes();
  };
  const show = () => {
    const isTyped = timer !== 0; // what is being typed wins over what comes in the meantime
    if (!isTyped && box.value !== model.get(name)) box.value = model.get(name);
  };
  box.addEventListener("input", () => {
    window.clearTimeout(timer);
    timer = window.setTimeout(flush, TYPING_MS);
  });
  box.addEventListener("change", flush);
  model.on(`change:${name}`, show);
  show();
  signal.addEventListener("abort", () => window.clearTimeout(timer));
  return flush;
}
