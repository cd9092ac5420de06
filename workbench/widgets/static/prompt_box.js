// The box in which a person writes a prompt, a message or any other text: a text area with its label, the trait that
// holds its text, and its keys.

import { setter } from "./asking.js";
import { h, uniqueId } from "./dom.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 * @import { Props } from "./dom.js"
 */

const TYPING_MS = 300;

/**
 * A text area with its label.
 * @param {string} text  of the label
 * @param {Props} attributes  of the text area
 * @param {string} kind  class of the label; only screen readers show one of class `wb-sr`
 */
export function labelledBox(text, { class: kindOfBox, ...attributes }, kind = "wb-sr") {
  const box = h("textarea", { class: `wb-field ${kindOfBox}`, id: uniqueId("text"), rows: 2, ...attributes });
  return { box, label: h("label", { class: kind, for: box.id, text }) };
}

/**
 * A labelled text area whose text is a trait: it is sent after a pause in typing, and shown again when Python sets it.
 * `flush` sends it at once.
 * @template {string} Name
 * @param {AnyModel<Record<Name, string>>} model @param {Name} name @param {AbortSignal} signal
 * @param {{text: string, kind?: string} & Props} spec  the label, its class, and the attributes of the text area
 */
export function traitBox(model, name, signal, { text, kind, ...attributes }) {
  const { box, label } = labelledBox(text, attributes, kind);
  const set = setter(model, name, signal);
  let timer = 0;
  const flush = () => {
    window.clearTimeout(timer);
    timer = 0;
    if (model.get(name) !== box.value) set(box.value);
  };
  const show = () => {
    const isTyped = timer !== 0; // an update from Python does not replace what is being typed
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
  return { box, label, flush };
}

/**
 * Send with Enter in the box, and leave with Escape anywhere in the root; Shift+Enter makes a new line.
 * @param {HTMLElement} root @param {HTMLElement} box @param {() => unknown} send @param {() => unknown} leave
 */
export function sendKeys(root, box, send, leave) {
  root.addEventListener("keydown", (event) => {
    // The Enter that ends the composition of a character in an input method does not send.
    if (event.key === "Enter" && event.target === box && !event.shiftKey && !event.isComposing) send();
    else if (event.key === "Escape") leave();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

/**
 * Run with Ctrl+Enter and stop with Escape, anywhere in a form.
 * @param {HTMLElement} form @param {() => unknown} run @param {() => unknown} stop
 */
export function runKeys(form, run, stop) {
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run();
    else if (event.key === "Escape") stop();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}
