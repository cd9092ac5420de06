// The metrics of a run on one line: speed, reused tokens and state.

import { h } from "./dom.js";
import { duration, tokenCount } from "./format.js";
import { perplexityOf, speed, stateInWords } from "./run_words.js";

/** @import { Store } from "./run_feed.js" */

/** The line, whose changes of state are announced. @param {Store} store @param {AbortSignal} signal */
export function metricsLine(store, signal) {
  const parts = h("div", { class: "wb-metrics-parts" });
  const said = h("span", { class: "wb-sr", role: "status" });
  let last = stateInWords(store);
  const show = () => {
    parts.replaceChildren(...metrics(store));
    const words = stateInWords(store);
    if (words !== last) {
      last = words;
      said.textContent = `${words}${store.active ? "" : `, ${tokenCount(store.tokens.length)}`}`;
    }
  };
  store.listen((change) => ["reset", "append", "state", "unit"].includes(change.kind) && show(), signal);
  show();
  return h("div", { class: "wb-metrics wb-number" }, parts, said);
}

/** @param {Store} store @returns {HTMLElement[]} */
function metrics(store) {
  const usage = store.usage;
  // There are no counts before the prompt has been read.
  if (!usage || (store.progress && !usage.prompt)) return [metric(["", stateInWords(store), ""])];
  const perplexity = perplexityOf(store.tokens);
  if (store.reads) {
    const measured = store.tokens.length || usage.prompt;
    return [
      metric(["", String(measured), measured === 1 ? " token" : " tokens"]),
      perplexity !== null && metric(["perplexity ", perplexity.toFixed(2), ""]),
      metric(["", stateInWords(store), ""]),
    ].filter((part) => part !== false);
  }
  return [
    usage.tokensPerS !== null && metric(["", speed(usage.tokensPerS), " tokens/s"]),
    usage.firstTokenS !== null && metric(["first token ", duration(usage.firstTokenS), ""]),
    metric(
      ["", String(usage.prompt), ` prompt ${usage.prompt === 1 ? "token" : "tokens"}`],
      usage.kept > 0 && [" and ", String(usage.kept), " kept"],
      usage.reused > 0 && [" (", String(usage.reused), " cached)"],
    ),
    metric(["", String(usage.generated || store.tokens.length), " generated"]),
    perplexity !== null && metric(["perplexity ", perplexity.toFixed(2), ""]),
    metric(
      store.stopReason && store.state === "finished"
        ? ["stopped: ", stateInWords(store), ""]
        : ["", stateInWords(store), ""],
    ),
  ].filter((part) => part !== false);
}

/** @param {(string[] | false)[]} groups each: quiet text, strong text, quiet text */
function metric(...groups) {
  const span = h("span", { class: "wb-metric" });
  for (const group of groups) if (group) span.append(group[0], h("b", { text: group[1] }), group[2]);
  return span;
}
