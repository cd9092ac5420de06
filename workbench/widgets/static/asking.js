// Messages to the kernel with a reply: `{kind, id, ...}` is answered by `{kind: "reply", id, error}`, `error` text or null.
// Ahead of each, every widget with a trait that was set in the page since the last one sends `{kind: "state", state}`.

import { onKernelGone } from "./kernel_life.js";
import { SAVED, isSaved } from "./saved_view.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 *
 * @typedef {Pick<AnyModel, "on" | "send"> & {widget_manager?: unknown}} Wire  the connection to the kernel
 * @typedef {{kind: string} & Record<string, unknown>} Action  a message without its id
 * @typedef {(action: Action) => void} Ask
 */

const PATIENCE_MS = 1500;
const BEFORE_REQUEST = "workbench-before-request";

/**
 * @param {Wire} model @param {AbortSignal} signal
 * @param {(text: string | null) => void} show  shows an error, or null for none
 * @returns {Ask}
 */
export function requester(model, signal, show) {
  let id = 0;
  let timer = 0;
  model.on("msg:custom", (/** @type {{kind: string, id: number, error: string | null}} */ reply) => {
    if (reply.kind !== "reply" || reply.id !== id) return;
    window.clearTimeout(timer);
    show(reply.error);
  });
  signal.addEventListener("abort", () => window.clearTimeout(timer));
  // Without a kernel the widget shows a notice, and no reply will come.
  onKernelGone(model, signal, () => {
    window.clearTimeout(timer);
    show(null);
  });
  return (action) => {
    id += 1;
    show(null);
    window.clearTimeout(timer);
    if (isSaved(model)) return show(SAVED);
    timer = window.setTimeout(
      () => show("The kernel is busy: this takes effect when the running cell ends."),
      PATIENCE_MS,
    );
    document.dispatchEvent(new Event(BEFORE_REQUEST));
    model.send({ id, ...action });
  };
}

/**
 * Return a function that sets a trait on which a request of this or of another widget may depend.
 *
 * ipywidgets holds back an update until the kernel has answered the previous one, but not a message. Without a message
 * that repeats the value shown, the next request would start with an earlier value.
 * @template {Record<string, any>} State @template {keyof State & string} Name
 * @param {AnyModel<State>} model @param {Name} name @param {AbortSignal} signal
 * @returns {(value: State[Name]) => void}
 */
export function setter(model, name, signal) {
  const resend = () => model.send({ kind: "state", state: { [name]: model.get(name) } });
  return (value) => {
    model.set(name, value);
    model.save_changes();
    document.addEventListener(BEFORE_REQUEST, resend, { once: true, signal });
  };
}
