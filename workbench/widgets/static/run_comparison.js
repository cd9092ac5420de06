// Runs that were started elsewhere, side by side, with the first difference marked.

import { compareResults } from "./compare_results.js";
import { openRoot } from "./root.js";

/**
 * @import { RenderProps } from "@anywidget/types"
 * @import { ResultsState } from "./compare_results.js"
 */

/** @param {RenderProps<ResultsState>} context */
async function render({ model, el, host, signal }) {
  openRoot({ model, el, signal }, "wb-compare");
  signal.addEventListener("abort", () => el.replaceChildren());
  await compareResults(model, el, host, signal);
}

export default { render };
