// Runs side by side: what they have in common is quiet, the first difference is marked, and below stands what each of
// them held possible at one position.

import { requester } from "./asking.js";
import { candidates, strips } from "./compare_detail.js";
import { differencesOf, firstDifference, markedIn } from "./compare_differences.js";
import { around, h, runKeys, uniqueId } from "./dom.js";
import { storeOf } from "./feed_store.js";
import { duration } from "./format.js";
import { openRoot } from "./root.js";
import { speed, stateInWords } from "./run_words.js";
import { scrollInto } from "./token_text.js";
import { unitChoice } from "./unit_choice.js";

/**
 * @import { AnyModel, RenderProps } from "@anywidget/types"
 * @import { Comparison, Side } from "./compare_detail.js"
 * @import { Differences, Known } from "./compare_differences.js"
 * @import { Store } from "./run_feed.js"
 *
 * @typedef {object} State of the widget model
 * @property {string[]} feeds  references of the run feeds, the reference run's first
 * @property {Side[]} sides
 * @property {string} common  sampling parameters that all sides share, in words
 * @property {string} prompt
 * @property {Differences} differences
 * @property {number | null} position  the token that is looked at
 *
 * @typedef {AnyModel<State>} Model
 *
 * Messages to the kernel: `{kind: "run", id, prompt}` and `{kind: "stop", id}`, answered by `{kind: "reply", id, error}`;
 * `{kind: "look", id}`, answered by `{kind: "whole", id, differences}`. From it: `{kind: "differences", number, pairs}`.
 */

/** @param {RenderProps<State>} context */
async function render({ model, el, host, signal }) {
  const stores = await Promise.all(model.get("feeds").map((ref) => storeOf(host, ref)));
  if (signal.aborted) return;
  openRoot({ model, el, signal }, "wb-compare");
  const differences = differencesOf(model, signal);
  const look = (/** @type {number | null} */ position) => {
    const longest = Math.max(...stores.map((store) => store.tokens.length));
    model.set("position", position === null || !longest ? null : Math.max(0, Math.min(longest - 1, position)));
    model.save_changes();
  };
  const sides = model.get("sides");
  const comparison = { stores, sides, model, differences, look, signal };
  const columns = stores.map((store, i) => column({ ...comparison, store, side: sides[i], index: i }));
  const grid = h("div", { class: "wb-compare-columns" }, ...columns.map((one) => one.root));
  grid.style.setProperty("--wb-sides", String(sides.length));
  el.append(promptForm(model, stores, signal), grid, summary(comparison), strips(comparison), candidates(comparison));

  const showState = () => {
    const { state, pairs } = differences.value;
    el.setAttribute("data-wb-state", state);
    el.setAttribute("data-wb-divergence", String(firstDifference(pairs) ?? "none"));
    el.setAttribute("data-wb-position", String(model.get("position") ?? "none"));
  };
  differences.listen(showState);
  model.on("change:position", showState);
  showState();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** @param {Model} model @param {Store[]} stores @param {AbortSignal} signal */
function promptForm(model, stores, signal) {
  const promptId = uniqueId("prompt");
  const prompt = h("textarea", {
    class: "wb-field wb-prompt",
    id: promptId,
    rows: 2,
    spellcheck: "false",
    placeholder: "Ask them all the same",
  });
  const runButton = h(
    "button",
    { type: "button", class: "wb-button wb-primary wb-run" },
    h("span", { text: "Run" }),
    h("kbd", { text: "Ctrl ⏎" }),
  );
  const stopButton = h(
    "button",
    { type: "button", class: "wb-button wb-stop" },
    h("span", { text: "Stop" }),
    h("kbd", { text: "Esc" }),
  );
  const message = h("p", { class: "wb-message wb-error", role: "alert", hidden: true });
  const request = requester(model, signal, (text) => {
    message.textContent = text ?? "";
    message.hidden = !text;
  });
  const active = () => stores.some((store) => store.active);
  const flush = () => {
    if (model.get("prompt") !== prompt.value) {
      model.set("prompt", prompt.value);
      model.save_changes();
    }
  };
  const run = () => {
    if (active()) return;
    flush();
    request({ kind: "run", prompt: prompt.value });
  };
  const stop = () => active() && request({ kind: "stop" });
  prompt.addEventListener("change", flush);
  runButton.addEventListener("click", run);
  stopButton.addEventListener("click", stop);
  const showPrompt = () => {
    if (prompt.value !== model.get("prompt")) prompt.value = model.get("prompt");
  };
  const showButtons = () => {
    runButton.disabled = active();
    stopButton.disabled = !active();
  };
  model.on("change:prompt", showPrompt);
  for (const store of stores) store.listen(showButtons, signal);
  showPrompt();
  showButtons();
  const form = h(
    "div",
    { class: "wb-compare-form" },
    h("label", { class: "wb-sr", for: promptId, text: "Prompt" }),
    prompt,
    h(
      "div",
      { class: "wb-row" },
      runButton,
      stopButton,
      h("span", { class: "wb-quiet wb-compare-common", text: model.get("common") }),
      h("span", { class: "wb-spacer" }),
      legend(),
    ),
    message,
  );
  runKeys(form, run, stop);
  return form;
}

function legend() {
  return h(
    "div",
    { class: "wb-legend" },
    h("span", { class: "wb-compare-same", text: "the same" }),
    h("span", { class: "wb-compare-parted", text: "first difference" }),
  );
}

/**
 * One side: its name, its text, and how it went.
 * @param {Comparison & {store: Store, side: Side, index: number}} spec
 */
function column({ store, side, index, model, differences, look, signal }) {
  const titleId = uniqueId("side");
  const title = h(
    "h3",
    { id: titleId },
    h("span", { class: "wb-compare-letter", text: side.letter }),
    h("span", { text: side.model }),
  );
  const output = h("div", {
    class: "wb-output",
    tabindex: 0,
    role: "group",
    "aria-label": `Text of ${side.letter}; arrow keys walk through its tokens`,
    dir: "auto",
  });
  const foot = h("p", { class: "wb-quiet wb-number wb-compare-foot" });
  const error = h("p", { class: "wb-message wb-compare-error", role: "alert", hidden: true });
  /** @type {HTMLElement[]} */ const spans = [];
  /** What is drawn: for which first difference, up to which token. */
  let drawn = { at: /** @type {number | null} */ (null), count: 0 };
  let selected = -1;

  const append = (/** @type {number} */ from) => {
    const follows = output.scrollHeight - output.scrollTop - output.clientHeight < 24;
    const fresh = store.tokens.slice(from).map((token, i) =>
      h("span", {
        class: token.special ? "wb-special" : "wb-token",
        "data-wb-position": from + i,
        text: token.special ? token.label : token.piece,
      }),
    );
    spans.push(...fresh);
    output.append(...fresh);
    if (follows) output.scrollTop = output.scrollHeight;
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
    if (position !== null && spans[position]) scrollInto(output, spans[position]);
  };
  const showFoot = () => {
    foot.textContent = footOf(store);
    error.textContent = store.error ?? "";
    error.hidden = !store.error;
  };
  const reset = () => {
    spans.length = 0;
    drawn = { at: null, count: 0 };
    output.replaceChildren();
    append(0);
    showMarks();
    showPosition();
  };
  store.listen((change) => {
    if (change.kind === "reset") reset();
    else if (change.kind === "append") {
      append(change.from);
      showMarks();
    }
    showFoot();
  }, signal);
  differences.listen(showMarks);
  model.on("change:position", showPosition);
  output.addEventListener("click", (event) => {
    const span = around(event, "[data-wb-position]");
    if (span && window.getSelection()?.isCollapsed !== false) look(Number(span.getAttribute("data-wb-position")));
  });
  walk(output, { position: () => model.get("position"), count: () => store.tokens.length, look });
  reset();
  showFoot();
  const root = h(
    "section",
    { class: "wb-compare-side", "aria-labelledby": titleId, "data-wb-side": side.letter },
    title,
    h("p", { class: "wb-quiet wb-compare-settings", text: side.settings }),
    output,
    error,
    foot,
  );
  return { root };
}

/** @param {Store} store */
function footOf(store) {
  const { tokens, usage } = store;
  const pace = usage && usage.tokensPerS !== null ? `${speed(usage.tokensPerS)} tokens/s` : null;
  const first = usage && usage.firstTokenS !== null ? `first token ${duration(usage.firstTokenS)}` : null;
  return [tokens.length ? `${tokens.length} tokens` : null, pace, first, stateInWords(store)]
    .filter(Boolean)
    .join(" · ");
}

/**
 * Arrow keys, Home, End and Escape.
 * @param {HTMLElement} box
 * @param {{position: () => number | null, count: () => number, look: Comparison["look"]}} spec
 */
function walk(box, { position, count, look }) {
  box.addEventListener("keydown", (event) => {
    const at = position();
    /** @type {Record<string, number>} */
    const targets = {
      ArrowRight: at === null ? 0 : at + 1,
      ArrowLeft: at === null ? count() - 1 : at - 1,
      Home: 0,
      End: count() - 1,
    };
    const target = targets[event.key];
    if (event.key === "Escape" && at !== null) look(null);
    else if (target !== undefined && !event.shiftKey && !event.ctrlKey && !event.metaKey) look(target);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

/** The sentences, and the way to the first difference. @param {Comparison} comparison */
function summary({ differences, stores, look, signal }) {
  const list = h("div", { class: "wb-compare-said", role: "status" });
  const button = h("button", { type: "button", class: "wb-button wb-compare-jump", text: "Show the first difference" });
  button.addEventListener("click", () => look(firstDifference(differences.value.pairs) ?? 0));
  const show = () => {
    const { pairs, state } = differences.value;
    // What grows is not read aloud at every step; the end is.
    list.setAttribute("aria-busy", String(state === "running"));
    list.replaceChildren(...pairs.map((pair) => h("p", { text: pair.said[stores[0].unit] })));
    button.hidden = firstDifference(pairs) === null;
  };
  differences.listen(show);
  stores[0].listen((change) => change.kind === "unit" && show(), signal);
  show();
  return h("div", { class: "wb-compare-summary" }, list, button, unitChoice(stores, signal));
}

export default { render };
