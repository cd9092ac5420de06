// Run and Stop beside each other, for views that show several runs at once.

import { h } from "./dom.js";

/** @import { Store } from "./run_feed.js" */

/** @param {Store[]} stores */
export function anyActive(stores) {
  return stores.some((store) => store.active);
}

/** @param {{name: string, run: () => unknown, stop: () => unknown}} spec */
export function runButtons({ name, run, stop }) {
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
  return {
    roots: [runButton, stopButton],
    /** Show whether any of these runs goes on. @param {Store[]} stores @param {AbortSignal} signal */
    follow(stores, signal) {
      const show = () => {
        runButton.disabled = anyActive(stores);
        stopButton.disabled = !anyActive(stores);
      };
      for (const store of stores) store.listen(show, signal);
      show();
    },
  };
}
