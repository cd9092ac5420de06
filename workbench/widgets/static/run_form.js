// Text boxes with Run and Stop beside each other, for views that show several runs at once.

import { requester } from "./asking.js";
import { h } from "./dom.js";
import { errorLine } from "./error_line.js";
import { runKeys } from "./prompt_box.js";

/**
 * @import { Wire } from "./asking.js"
 * @import { Store } from "./run_feed.js"
 */

/** @param {Store[]} stores */
function anyActive(stores) {
  return stores.some((store) => store.active);
}

/**
 * The buttons, the keys, the error line and the requests of a form.
 * @param {Wire} model @param {HTMLElement} form @param {{flush: () => void}[]} boxes @param {string} name  of the Run button
 * @param {AbortSignal} signal
 */
export function runForm(model, form, boxes, name, signal) {
  const error = errorLine("wb-error");
  const ask = requester(model, signal, error.show);
  /** @type {Store[]} */ let stores = [];
  const run = () => {
    if (anyActive(stores)) return;
    for (const { flush } of boxes) flush();
    ask({ kind: "run" });
  };
  const stop = () => anyActive(stores) && ask({ kind: "stop" });
  const runButton = h(
    "button",
    { type: "button", class: "wb-button wb-primary wb-run", on: { click: run } },
    h("span", { text: name }),
    h("kbd", { text: "Ctrl ⏎" }),
  );
  const stopButton = h(
    "button",
    { type: "button", class: "wb-button wb-stop", disabled: true, on: { click: stop } },
    h("span", { text: "Stop" }),
    h("kbd", { text: "Esc" }),
  );
  runKeys(form, run, stop);
  return {
    ask,
    error: error.root,
    buttons: [runButton, stopButton],
    /** Follow other runs: while one goes on, only Stop is enabled. @param {Store[]} fresh @param {AbortSignal} until */
    follow(fresh, until) {
      stores = fresh;
      const show = () => {
        runButton.disabled = anyActive(fresh);
        stopButton.disabled = !anyActive(fresh);
      };
      for (const store of fresh) store.listen(show, until);
      show();
    },
  };
}
