// The results of a comparison: runs side by side with their common beginning in gray and the first difference marked, and
// below them the candidates of each at one position.

import { candidates, strips } from "./compare_detail.js";
import { differencesOf, firstDifference, markedIn } from "./compare_differences.js";
import { h, uniqueId } from "./dom.js";
import { errorLine } from "./error_line.js";
import { storeOf } from "./feed_store.js";
import { duration, tokenCount } from "./format.js";
import { keyTarget } from "./jumping.js";
import { speed, stateInWords } from "./run_words.js";
import { tokenColumn } from "./token_column.js";
import { unitChoice } from "./unit_choice.js";

/**
 * @import { AnyModel, Host } from "@anywidget/types"
 * @import { Comparison, Side } from "./compare_detail.js"
 * @import { Differences } from "./compare_differences.js"
 * @import { Store } from "./run_feed.js"
 *
 * @typedef {object} ResultsState of the widget model
 * @property {string[]} feeds  references of the run feeds, the reference run's first
 * @property {Side[]} sides  sides shown
 * @property {string} common  what is said of all sides
 * @property {Differences} differences
 * @property {number | null} position  the selected position
 *
 * Message to the kernel: `{kind: "look", id}`, answered by `{kind: "whole", id, differences}`. From the kernel:
 * `{kind: "differences", number, pairs}`.
 */

/**
 * Draw the runs of a comparison, and draw them again whenever its sides change.
 * @param {AnyModel<any>} anyModel  with a `ResultsState` @param {HTMLElement} el  of the widget @param {Host} host
 * @param {AbortSignal} signal @param {(stores: Store[], signal: AbortSignal) => void} [follow]  called with each new set of runs
 */
export async function compareResults(anyModel, el, host, signal, follow) {
  const model = /** @type {AnyModel<ResultsState>} */ (anyModel);
  const results = h("div", { class: "wb-compare-results" });
  el.append(results);
  const differences = differencesOf(model, signal);
  let shown = new AbortController();
  const showResults = async () => {
    shown.abort();
    const round = new AbortController();
    shown = round;
    const stores = await Promise.all(model.get("feeds").map((ref) => storeOf(host, ref)));
    if (round.signal.aborted) return;
    const sides = model.get("sides");
    /** @type {Comparison["on"]} */
    const on = (event, listener) => {
      model.on(event, listener);
      round.signal.addEventListener("abort", () => model.off(event, listener));
    };
    const look = (/** @type {number | null} */ position) => {
      const longest = Math.max(...stores.map((store) => store.tokens.length));
      model.set("position", position === null || !longest ? null : Math.max(0, Math.min(longest - 1, position)));
      model.save_changes();
    };
    const comparison = { stores, sides, model, differences, look, on, signal: round.signal };
    if (stores.length) results.replaceChildren(...parts(comparison));
    else results.replaceChildren();
    follow?.(stores, round.signal);
  };
  // Feeds and sides arrive together, and the sides change whenever the feeds do.
  model.on("change:sides", showResults);
  signal.addEventListener("abort", () => shown.abort());

  const showState = () => {
    const { state, pairs } = differences.value;
    el.setAttribute("data-wb-state", state);
    el.setAttribute("data-wb-divergence", String(firstDifference(pairs) ?? "none"));
    el.setAttribute("data-wb-position", String(model.get("position") ?? "none"));
  };
  differences.listen(showState, signal);
  model.on("change:position", showState);
  showState();
  await showResults();
}

/** @param {Comparison} comparison */
function parts(comparison) {
  const { stores, sides } = comparison;
  const columns = stores.flatMap((store, index) =>
    sides[index].beside ? [] : [column({ ...comparison, store, side: sides[index], index }).root],
  );
  const grid = h("div", { class: "wb-compare-columns" }, ...columns);
  grid.style.setProperty("--wb-sides", String(columns.length));
  return [resultsHead(comparison), grid, summary(comparison), strips(comparison), candidates(comparison)];
}

/** The settings that all sides share, and the legend of the marks. @param {Comparison} comparison */
function resultsHead({ model, on }) {
  const common = h("span", { class: "wb-quiet wb-compare-common" });
  const show = () => {
    common.textContent = model.get("common");
  };
  on("change:common", show);
  show();
  const legend = h(
    "div",
    { class: "wb-legend" },
    h("span", { class: "wb-compare-same", text: "the same" }),
    h("span", { class: "wb-compare-parted", text: "first difference" }),
  );
  return h("div", { class: "wb-compare-head" }, common, h("span", { class: "wb-spacer" }), legend);
}

/**
 * One side: its title, its text and its metrics.
 * @param {Comparison & {store: Store, side: Side, index: number}} spec
 */
function column({ store, side, index, model, differences, look, on, signal }) {
  const titleId = uniqueId("side");
  const title = h(
    "h3",
    { id: titleId },
    h("span", { class: "wb-compare-letter", text: side.letter }),
    h("span", { text: side.model }),
  );
  const { root: output, spans, ...text } = tokenColumn(`Text of ${side.letter}`, look);
  const foot = h("p", { class: "wb-quiet wb-number wb-compare-foot" });
  const error = errorLine("wb-compare-error");
  /** The first difference for which marks were drawn, and the number of tokens that have them. */
  let drawn = { at: /** @type {number | null} */ (null), count: 0 };
  let selected = -1;

  const append = (/** @type {number} */ from) => {
    const fresh = store.tokens.slice(from).map((token, i) =>
      h("span", {
        class: token.special ? "wb-special" : "wb-token",
        "data-wb-position": from + i,
        text: token.special ? token.label : token.piece,
      }),
    );
    text.append(fresh, showMarks);
  };
  const showMarks = () => {
    const { pairs } = differences.value;
    const at = markedIn(pairs, index);
    for (let i = at === drawn.at ? drawn.count : 0; i < spans.length; i += 1) {
      spans[i].classList.toggle("wb-compare-same", at === null || i < at);
      spans[i].classList.toggle("wb-compare-parted", i === at);
    }
    drawn = { at, count: spans.length };
  };
  const showPosition = () => {
    const position = model.get("position");
    spans[selected]?.classList.remove("wb-selected");
    selected = position ?? -1;
    spans[selected]?.classList.add("wb-selected");
    if (position !== null) text.reveal(position);
  };
  const showFoot = () => {
    foot.textContent = footOf(store);
    error.show(store.error);
  };
  const reset = () => {
    drawn = { at: null, count: 0 };
    text.clear();
    append(0);
    showPosition();
  };
  store.listen((change) => {
    if (change.kind === "reset") reset();
    else if (change.kind === "append") append(change.from);
    showFoot();
  }, signal);
  differences.listen(showMarks, signal);
  on("change:position", showPosition);
  walk(output, { position: () => model.get("position"), count: () => store.tokens.length, look });
  reset();
  showFoot();
  const root = h(
    "section",
    { class: "wb-compare-side", "aria-labelledby": titleId, "data-wb-side": side.letter },
    title,
    h("p", { class: "wb-quiet wb-compare-settings", text: side.settings }),
    output,
    error.root,
    foot,
  );
  return { root };
}

/** @param {Store} store */
function footOf(store) {
  const { tokens, usage } = store;
  const pace = usage && usage.tokensPerS !== null ? `${speed(usage.tokensPerS)} tokens/s` : null;
  const first = usage && usage.firstTokenS !== null ? `first token ${duration(usage.firstTokenS)}` : null;
  return [tokens.length ? tokenCount(tokens.length) : null, pace, first, stateInWords(store)]
    .filter(Boolean)
    .join(" · ");
}

/**
 * Select positions with the arrow keys, Home, End and Escape.
 * @param {HTMLElement} box
 * @param {{position: () => number | null, count: () => number, look: Comparison["look"]}} spec
 */
function walk(box, { position, count, look }) {
  box.addEventListener("keydown", (event) => {
    const at = position();
    const target = keyTarget(event.key, at, count() - 1);
    if (event.key === "Escape" && at !== null) look(null);
    else if (target !== undefined && !event.shiftKey && !event.ctrlKey && !event.metaKey) look(target);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

/** A sentence for each pair, and a button that selects the first difference. @param {Comparison} comparison */
function summary({ differences, stores, look, signal }) {
  const list = h("div", { class: "wb-compare-said", role: "status" });
  const button = h("button", { type: "button", class: "wb-button wb-compare-jump", text: "Show first difference" });
  button.addEventListener("click", () => look(firstDifference(differences.value.pairs) ?? 0));
  const show = () => {
    const { pairs, state } = differences.value;
    // Screen readers announce only the final sentences.
    list.setAttribute("aria-busy", String(state === "running"));
    list.replaceChildren(...pairs.map((pair) => h("p", { text: pair.said[stores[0].unit] })));
    button.hidden = firstDifference(pairs) === null;
  };
  differences.listen(show, signal);
  stores[0].listen((change) => change.kind === "unit" && show(), signal);
  show();
  return h("div", { class: "wb-compare-summary" }, list, button, unitChoice(stores, signal));
}
