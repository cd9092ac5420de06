// Detection of a kernel that has ended, from the signals of Jupyter's widget managers.

/**
 * @import { AnyModel } from "@anywidget/types"
 *
 * @typedef {{connect: (slot: Slot) => unknown, disconnect: (slot: Slot) => unknown}} Signal
 * @typedef {(sender: unknown, status: string) => void} Slot
 * @typedef {{statusChanged?: Signal, disposed?: Signal}} Kernel  JupyterLab's connection to it
 */

export const RESTARTED = "The kernel was restarted. Run this cell again.";
export const ENDED = "The kernel was shut down or has died. Run this cell again.";

/**
 * Call a listener once, with a sentence to show, when the kernel of a widget restarts or ends.
 *
 * In hosts whose manager has no such signals, such as marimo, it is never called.
 * @template {Record<string, unknown>} State
 * @param {Pick<AnyModel<State>, "on"> & {widget_manager?: unknown}} model
 * @param {AbortSignal} signal
 * @param {(sentence: string) => void} listener
 */
export function onKernelGone(model, signal, listener) {
  let isGone = false;
  const leave = (/** @type {string} */ sentence) => {
    if (isGone || signal.aborted) return;
    isGone = true;
    listener(sentence);
  };
  // A manager disconnects every model when its kernel restarts, by hand or after a crash.
  model.on("comm_live_update", () => leave(RESTARTED));
  // A shutdown disconnects no model; only the kernel's own signals report it.
  const kernel = /** @type {{kernel?: Kernel | null} | undefined} */ (model.widget_manager)?.kernel;
  const onStatus = (/** @type {unknown} */ _, /** @type {string} */ status) => {
    if (status === "dead" || status === "terminating") leave(ENDED);
  };
  const onDisposed = () => leave(ENDED);
  kernel?.statusChanged?.connect(onStatus);
  kernel?.disposed?.connect(onDisposed);
  signal.addEventListener("abort", () => {
    kernel?.statusChanged?.disconnect(onStatus);
    kernel?.disposed?.disconnect(onDisposed);
  });
}
