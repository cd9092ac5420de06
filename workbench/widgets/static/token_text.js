// The text of a run: each token is a span whose color and underline show its surprisal or another quantity.

import { h, keepKeys } from "./dom.js";
import { strength } from "./format.js";
import { walkedBy } from "./jumping.js";
import { inNextLine, middleOf } from "./token_lines.js";
import { progressInWords } from "./run_words.js";
import { tokenColumn } from "./token_column.js";
import { tokenTip } from "./token_tip.js";
import { factsInWords } from "./token_words.js";

/**
 * @import { Store } from "./run_feed.js"
 * @import { Token } from "./run_wire.js"
 * @import { ColorBy, Unit } from "./format.js"
 * @import { Walked } from "./jumping.js"
 *
 * @typedef {Walked & Pick<Store, "selected" | "focus">} Walker
 *
 * @typedef {object} Look
 * @property {ColorBy} colorBy
 * @property {boolean} whitespace  whether white space and invisible characters are marked
 * @property {boolean} special  whether control tokens are shown
 */

/** @type {Look} */
export const PLAIN_LOOK = { colorBy: "surprisal", whitespace: false, special: true };

/**
 * @param {Store} store of a run feed
 * @param {AbortSignal} signal
 * @param {{label?: string, look?: Look, emptyText?: (store: Store) => string}} [options]
 */
export function tokenText(store, signal, { label = "Generated text", look = PLAIN_LOOK, emptyText = whyEmpty } = {}) {
  const { root: output, spans, ...column } = tokenColumn(label, (position) => store.select([position]));
  keepKeys(output);
  const empty = h("p", { class: "wb-quiet wb-empty" });
  const prompt = h("span", { class: "wb-given", role: "group", "aria-label": "Prompt" });
  /** @type {HTMLElement[]} */ let marked = [];
  let shown = look;
  let timer = 0;

  const append = (/** @type {number} */ from) => {
    const fresh = store.steps.slice(from).map((token, i) => tokenSpan(token, from + i, shown));
    column.append(fresh, () => {
      showForks();
      // A branch selects its first token before that token arrives.
      if (store.selected.some((position) => position >= from)) showSelected();
    });
  };
  const showSelected = () => {
    for (const span of marked) select(span, false);
    marked = store.selected.map((i) => spans[i]).filter(Boolean);
    for (const span of marked) select(span, true);
    if (store.current !== null) column.reveal(store.current);
  };
  const showForks = () => {
    for (const span of output.querySelectorAll(".wb-fork")) span.classList.remove("wb-fork");
    for (const position of store.forks) spans[position]?.classList.add("wb-fork");
  };
  const showPrompt = () => {
    if (prompt.childElementCount !== store.prompt.length)
      prompt.replaceChildren(...store.prompt.map((token) => promptSpan(token, shown, store.unit)));
    if (store.prompt.length) output.prepend(prompt);
    else prompt.remove();
  };
  const showState = () => {
    if (store.tokens.length) empty.remove();
    else output.prepend(empty);
    showPrompt();
    empty.textContent = store.text || emptyText(store);
    empty.classList.toggle("wb-plain-text", Boolean(store.text));
    output.setAttribute("data-wb-state", store.state);
    // The elapsed seconds of loading and compiling are updated without messages from the kernel.
    window.clearTimeout(timer);
    if (store.active && store.progress && store.progress.stage !== "reading")
      timer = window.setTimeout(showState, 1000);
  };
  signal.addEventListener("abort", () => window.clearTimeout(timer));
  const reset = () => {
    column.clear();
    prompt.replaceChildren();
    output.setAttribute("data-wb-color", shown.colorBy);
    output.classList.toggle("wb-no-special", !shown.special);
    append(0);
    showSelected();
    showState();
  };
  store.listen((change) => {
    if (change.kind === "focus") change.place === "text" && output.focus();
    else if (change.kind === "selected") showSelected();
    else if (change.kind === "forks") showForks();
    else if (change.kind === "reset") reset();
    else if (change.kind === "append") append(change.from);
    else if (change.kind === "unit") {
      prompt.replaceChildren();
      showPrompt();
    }
    if (change.kind === "append" || change.kind === "state") showState();
  }, signal);
  reset();
  walkTokens(output, store, spans);
  tokenTip(output, store, (position) => {
    const fork = store.forks.includes(position) ? "; branches fork here" : "";
    return `${factsInWords(store.steps[position], store.unit)}${fork}`;
  });
  return {
    root: output,
    /** @param {Look} fresh */
    show(fresh) {
      const top = output.scrollTop;
      shown = fresh;
      reset();
      output.scrollTop = top;
    },
  };
}

/** @param {Store} store */
function whyEmpty(store) {
  if (store.state === "idle") return "The answer appears here, token by token.";
  if (store.active) return progressInWords(store, "prompt", Date.now());
  return store.state === "finished" ? "The model ended its turn without generating a token." : "";
}

/** A token of the prompt, which cannot be selected. @param {Token} token @param {Look} look @param {Unit} unit */
function promptSpan(token, look, unit) {
  const span = tokenSpan(token, null, look);
  span.title = token.logprob === null ? "" : factsInWords(token, unit);
  return span;
}

/** @param {Token} token @param {number | null} position @param {Look} look */
export function tokenSpan(token, position, look) {
  const span = h("span", { class: token.special ? "wb-special" : "wb-token", "data-wb-position": position });
  if (token.special) span.textContent = token.label;
  else if (look.whitespace) span.append(...withMarks(token.piece));
  else span.append(...framed(token.piece));
  // The space before a word may be at the end of the previous line, where its color would be a sliver.
  (span.querySelector(".wb-word") ?? span).classList.add("wb-ink");
  const amount = token.special ? 0 : strength(token.logprob, token.entropy, look.colorBy);
  if (amount > 0) {
    span.style.setProperty("--wb-a", (0.52 * amount).toFixed(3));
    span.style.setProperty("--wb-u", `${(4 * amount).toFixed(1)}px`);
  }
  return span;
}

/** @param {HTMLElement} span @param {boolean} isSelected */
export function select(span, isSelected) {
  span.classList.toggle("wb-selected", isSelected);
  (span.querySelector(".wb-word") ?? span).classList.toggle("wb-frame", isSelected);
}

/**
 * Return a token's text with its word in an element of its own. The frame of a selected token surrounds the word, because
 * the space before it may be at the end of the previous line. Adding the element later would lay out the text again.
 * @param {string} text
 */
function framed(text) {
  return /^ \S/.test(text) ? [" ", h("span", { class: "wb-word", text: text.slice(1) })] : [text];
}

/** Return the text with marks that are drawn but not copied. @param {string} text */
function withMarks(text) {
  return text
    .split(/([\s\p{Cc}\p{Cf}])/u)
    .filter(Boolean)
    .map((part) => {
      if (!/^[\s\p{Cc}\p{Cf}]$/u.test(part)) return part;
      const code = /** @type {number} */ (part.codePointAt(0));
      const mark =
        /** @type {Record<string, string>} */ ({ " ": "·", "\n": "⏎", "\t": "⇥" })[part] ??
        `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
      return h("span", { class: part === " " ? "wb-mark wb-mark-space" : "wb-mark", "data-wb-mark": mark, text: part });
    });
}

/**
 * Select tokens with the keyboard.
 * @param {HTMLElement} output @param {Walker} store @param {HTMLElement[]} spans
 * @param {(store: Walked) => number[]} [notable]  returns the positions for n and p
 */
export function walkTokens(output, store, spans, notable) {
  // The last position reached with the up or down key, and the column: short lines on the way do not change the column.
  let reached = { position: -1, x: 0 };
  const walkLine = (/** @type {1 | -1} */ step) => {
    const current = store.current;
    if (current === null) return store.walkTo(step > 0 ? 0 : store.steps.length - 1);
    const x = reached.position === current ? reached.x : middleOf(spans[current]);
    const position = inNextLine(spans, current, step, x);
    if (position === null) return;
    reached = { position, x };
    store.select([position]);
  };
  output.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && store.selected.length) store.select([]);
    else if (event.key === "Enter" && !event.ctrlKey && !event.metaKey && store.current !== null) store.focus("token");
    else if (/^Arrow(Up|Down)$/.test(event.key) && !event.ctrlKey && !event.metaKey && !event.altKey && !event.shiftKey)
      walkLine(event.key === "ArrowDown" ? 1 : -1);
    else if (!walkedBy(event, store, notable)) return;
    event.preventDefault();
    event.stopPropagation();
  });
}
