// One line about a run: how fast, how much was reused, how it stands.

import { h } from "./dom.js";
import { duration, fixed } from "./format.js";

const STOPPED = { end_of_turn: "end of turn", end_of_message: "end of message", out_of_tokens: "length limit" };
const STATES = {
  idle: "ready",
  queued: "waiting for the model",
  running: "running",
  cancelled: "stopped by you",
  failed: "failed",
};

/** The line, whose changes of state are spoken. @param {any} store @param {AbortSignal} signal */
export function metricsLine(store, signal) {
  const parts = h("div", { class: "wb-metrics-parts" });
  const said = h("span", { class: "wb-sr", role: "status" });
  let lastState = store.state;
  const show = () => {
    parts.replaceChildren(...metrics(store));
    if (store.state !== lastState) {
      lastState = store.state;
      said.textContent = `${stateInWords(store)}${store.active ? "" : `, ${store.tokens.length} tokens`}`;
    }
  };
  store.listen((/** @type {any} */ change) => ["reset", "append", "state"].includes(change.kind) && show(), signal);
  show();
  return h("div", { class: "wb-metrics wb-number" }, parts, said);
}

/** @param {any} store @returns {HTMLElement[]} */
export function metrics(store) {
  const usage = store.usage;
  if (!usage) return [metric(["", stateInWords(store), ""])];
  const perplexity = perplexityOf(store.tokens);
  return [
    usage.tokensPerS !== null && metric(["", fixed(usage.tokensPerS, usage.tokensPerS < 10 ? 1 : 0), " tokens/s"]),
    usage.firstTokenS !== null && metric(["first token ", duration(usage.firstTokenS), ""]),
    metric(["prompt ", String(usage.prompt), ""], reusedOf(usage)),
    metric(["generated ", String(usage.generated || store.tokens.length), ""]),
    perplexity !== null && metric(["perplexity ", perplexity.toFixed(2), ""]),
    metric(
      store.stopReason && store.state === "finished"
        ? ["stopped: ", stateInWords(store), ""]
        : ["", stateInWords(store), ""],
    ),
  ].filter(Boolean);
}

/** A branch has the kept tokens of its answer besides the prompt. @param {any} usage @returns {string[] | false} */
function reusedOf({ prompt, reused }) {
  if (reused > prompt) return [", reused with ", String(reused - prompt), " tokens more"];
  return reused > 0 && [", ", String(reused), " reused"];
}

/** @param {any} store */
export function stateInWords(store) {
  if (store.state === "paused") return store.pausedBy ? `paused: ${store.pausedBy}` : "paused";
  if (store.state === "finished") return /** @type {any} */ (STOPPED)[store.stopReason] ?? "finished";
  return /** @type {any} */ (STATES)[store.state] ?? store.state;
}

/** @param {(string[] | false)[]} groups each: quiet text, strong text, quiet text */
function metric(...groups) {
  const span = h("span", { class: "wb-metric" });
  for (const group of groups) if (group) span.append(group[0], h("b", { text: group[1] }), group[2]);
  return span;
}

/** Inverse geometric mean of the probabilities. @param {any[]} tokens */
function perplexityOf(tokens) {
  const known = tokens.filter((token) => token.logprob !== null);
  if (!known.length) return null;
  return Math.exp(-known.reduce((sum, token) => sum + token.logprob, 0) / known.length);
}
