// The unit of surprisal, entropy and divergence, for all views of a run.

import { segments } from "./dom.js";

/** @import { Store } from "./run_feed.js" */

/**
 * @typedef {Pick<Store, "unit" | "measureIn"> & Heard} Measured
 * @typedef {{listen: (listener: (change: {kind: string}) => void, signal: AbortSignal) => void}} Heard
 *
 * @param {Measured[]} stores  all show the unit of the first @param {AbortSignal} signal
 */
export function unitChoice(stores, signal) {
  const choice = segments({
    label: "Unit",
    options: [
      { value: "bits", text: "bits", title: "Logarithms to base 2: one bit is the surprise of a coin toss" },
      { value: "nats", text: "nats", title: "Natural logarithms, as in Python: one nat is 1.44 bits" },
    ],
    onChange: (unit) => stores.forEach((store) => store.measureIn(unit)),
  });
  for (const input of choice.root.querySelectorAll("input")) input.toggleAttribute("data-wb-local", true);
  choice.root.classList.add("wb-segments-small");
  stores[0].listen((change) => change.kind === "unit" && choice.set(stores[0].unit), signal);
  choice.set(stores[0].unit);
  return choice.root;
}
