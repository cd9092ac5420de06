// The token inspector: probability and alternatives of the selected token, and its place in the text.

import { requester } from "./asking.js";
import { h } from "./dom.js";
import { errorLine } from "./error_line.js";
import { storeOf } from "./feed_store.js";
import { information, inWords, percent, tokenCount, visible } from "./format.js";
import { jump, uncertainPositions, walkedBy } from "./jumping.js";
import { listbox } from "./listbox.js";
import { openRoot } from "./root.js";
import { surprisalStrip } from "./surprisal_strip.js";
import { announcement, factsInWords, tokenExpression, tokenName, ranked, spoken, surprisals } from "./token_words.js";
import { unitChoice } from "./unit_choice.js";

/**
 * @import { RenderProps } from "@anywidget/types"
 * @import { Store } from "./run_feed.js"
 * @import { Candidate } from "./token_words.js"
 *
 * @typedef {object} State of the widget model
 * @property {string} feed  reference of the run feed
 *
 * Message to the kernel: `{kind: "branch", id, run, position, token_id}`.
 */

const MOST_SURPRISING = 6;

/** @param {RenderProps<State>} context */
async function render({ model, el, host, signal }) {
  const store = await storeOf(host, model.get("feed"));
  openRoot({ model, el, signal }, "wb-inspector");
  const title = h("h3");
  const jumps = jumpButtons(store);
  const big = h("p", { class: "wb-big" });
  const say = h("p", { class: "wb-say wb-quiet wb-number" });
  const list = listbox("Alternatives", (event) => onListKey(event, store));
  const rest = h("p", { class: "wb-rest wb-quiet wb-number" });
  const stripTitle = h("h3", { text: "Surprisal along the text" });
  const stripHead = h("div", { class: "wb-inspector-head" }, stripTitle, unitChoice([store], signal));
  const strip = surprisalStrip(store);
  const said = h("p", { class: "wb-sr", role: "status" });
  const message = errorLine();
  const ask = requester(model, signal, message.show);
  const startBranch = (/** @type {number} */ position, /** @type {Candidate} */ item) => {
    said.textContent = `Branching at token ${position + 1} with ${spoken(item)}.`;
    ask({ kind: "branch", run: store.run, position, token_id: item.id });
  };
  el.append(
    h("div", { class: "wb-inspector-head" }, title, jumps.root),
    big,
    say,
    list.root,
    message.root,
    rest,
    stripHead,
    strip.root,
    said,
  );

  let shown = /** @type {number | null} */ (null);
  const showFacts = () => {
    shown = store.current;
    el.setAttribute("data-wb-token", shown === null ? "none" : String(shown));
    if (shown !== null) store.want(shown, shown + 1);
    const facts = shown === null ? runFacts(store) : tokenFacts(store, shown, startBranch);
    title.textContent = facts.title;
    title.title = shown === null ? "" : tokenExpression(store, shown);
    big.textContent = facts.big;
    say.textContent = facts.say;
    list.name(facts.listed);
    // The alternatives that were requested will need about as much room as the previous ones.
    list.root.style.minHeight =
      shown !== null && store.alternatives(shown) === null ? `${list.root.offsetHeight}px` : "";
    list.fill(facts.options);
    list.root.hidden = facts.options.length === 0;
    rest.textContent = facts.rest;
  };
  const showStrip = () => {
    stripHead.hidden = store.steps.length === 0;
    strip.draw();
    jumps.show();
  };
  store.listen((change) => {
    if (change.kind === "focus") return change.place === "token" && list.root.focus();
    // While tokens arrive, the facts of the selected token do not change.
    if (change.kind !== "append" || store.current === null || store.current !== shown) showFacts();
    if (change.kind === "selected") {
      strip.point();
      said.textContent = shown === null ? "" : announcement(store, shown);
    } else if (change.kind !== "alternatives") showStrip();
  }, signal);
  showFacts();
  showStrip();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** Buttons for the previous and next uncertain token, and for forks if there are any. @param {Store} store */
function jumpButtons(store) {
  const group = (
    /** @type {string} */ name,
    /** @type {string} */ what,
    /** @type {string} */ keys,
    /** @type {() => number[]} */ positions,
  ) => {
    const button = (/** @type {1 | -1} */ step) =>
      h("button", {
        type: "button",
        class: "wb-button",
        text: step > 0 ? "›" : "‹",
        "aria-label": `${step > 0 ? "Next" : "Previous"} ${what}`,
        title: `${step > 0 ? "Next" : "Previous"} ${what}: ${keys.split(" ")[step > 0 ? 0 : 1]}`,
        on: { click: () => jump(store, positions(), step) },
      });
    return h("span", { class: "wb-jump" }, button(-1), h("span", { text: name }), button(1));
  };
  const uncertain = group("uncertain", "token below 25 %", "n p", () => uncertainPositions(store));
  const fork = group("fork", "fork", "f F", () => store.forks);
  return {
    root: h("span", { class: "wb-jumps" }, uncertain, fork),
    show() {
      uncertain.hidden = store.steps.length === 0;
      fork.hidden = store.forks.length === 0;
    },
  };
}

/** @param {KeyboardEvent} event @param {Store} store */
function onListKey(event, store) {
  if (event.key !== "Escape") return walkedBy(event, store);
  store.focus("text");
  return true;
}

/** Return the facts shown without a selection: the most surprising tokens. @param {Store} store */
function runFacts(store) {
  const count = store.tokens.length;
  const { mean, worst } = surprisals(store.tokens, MOST_SURPRISING);
  const options = worst.map(({ position, nats }) => ({
    key: `position-${position}`,
    kind: "wb-alternative wb-improbable",
    title: `token ${position + 1}`,
    isChosen: false,
    parts: row(store.tokens[position].label, nats / worst[0].nats, information(nats, store.unit, 1)),
    choose: () => store.select([position]),
  }));
  return {
    title: count ? tokenCount(count) : "Token",
    big: worst.length ? `${information(mean, store.unit, 2)} per token` : "",
    say: count
      ? "Select a token to see its alternatives. The most surprising tokens:"
      : "The probability and alternatives of each token appear here.",
    listed: "The most surprising tokens",
    options,
    rest: "",
  };
}

/** @param {Store} store @param {number} position @param {(position: number, item: Candidate) => void} startBranch */
function tokenFacts(store, position, startBranch) {
  const token = store.steps[position];
  const alternatives = store.alternatives(position);
  const isKnown = token.logprob !== null && (alternatives === null || alternatives.length > 0);
  const candidates = isKnown ? ranked(token, alternatives ?? []) : [];
  const covered = candidates.reduce((sum, item) => sum + item.probability, 0);
  const covers = `These ${inWords(candidates.length)} cover ${percent(Math.min(1, covered))}.`;
  let rest = store.reads ? covers : `${covers} Choose another to branch from it.`;
  if (alternatives === null) rest = "…";
  else if (store.reads && token.logprob === null)
    rest = "The first token has no probability, because no text comes before it.";
  else if (!candidates.length) rest = "No alternatives were recorded for this run.";
  return {
    title: tokenName(store, position),
    big: visible(token.label),
    say: factsInWords(token, store.unit),
    listed: "The sampled token and its alternatives",
    options: candidates.map((item) =>
      alternativeOption(item, candidates[0].probability, store.reads ? null : () => startBranch(position, item)),
    ),
    rest,
  };
}

/** @param {Candidate} item @param {number} most @param {(() => void) | null} startBranch  null if it cannot be chosen */
function alternativeOption(item, most, startBranch) {
  return {
    key: `id-${item.id}`,
    kind: item.isSelf ? "wb-alternative wb-sampled" : "wb-alternative",
    title: item.isSelf || !startBranch ? `id ${item.id}` : `id ${item.id}; branch from here`,
    isChosen: item.isSelf,
    parts: [
      ...row(item.label, item.probability / most, percent(item.probability)),
      item.isSelf && h("span", { class: "wb-sr", text: "sampled" }),
    ],
    choose: item.isSelf ? null : startBranch,
  };
}

/** @param {string} label @param {number} length of the bar, 0 to 1 @param {string} share */
function row(label, length, share) {
  const fill = h("span", { class: "wb-fill" });
  fill.style.width = `${100 * length}%`;
  return [
    h("code", { text: visible(label) }),
    h("span", { class: "wb-track", "aria-hidden": "true" }, fill),
    h("span", { class: "wb-share wb-number", text: share }),
  ];
}

export default { render };
