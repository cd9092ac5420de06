// The text of a run as it comes: each token a span whose warmth is its surprisal.

import { h } from "./dom.js";
import { bits, fixed, heat, percentOf } from "./format.js";

/** The text of a run, whose tokens are chosen by mouse and arrow keys. @param {any} store @param {AbortSignal} signal */
export function tokenText(store, signal) {
  const output = h("div", { class: "wb-output", tabindex: 0, role: "group", "aria-label": "Generated text; arrow keys walk through its tokens", dir: "auto" });
  const empty = h("p", { class: "wb-quiet wb-empty" });
  /** @type {HTMLElement[]} */ const spans = [];
  /** @type {HTMLElement[]} */ let marked = [];

  const append = (/** @type {number} */ from) => {
    const follows = output.scrollHeight - output.scrollTop - output.clientHeight < 24;
    const fresh = store.tokens.slice(from).map((/** @type {any} */ token, /** @type {number} */ i) => tokenSpan(token, from + i));
    spans.push(...fresh);
    output.append(...fresh);
    if (follows) output.scrollTop = output.scrollHeight;
  };
  const showSelected = () => {
    for (const span of marked) span.classList.remove("wb-selected");
    marked = store.selected.map((/** @type {number} */ i) => spans[i]).filter(Boolean);
    for (const span of marked) span.classList.add("wb-selected");
    if (store.current !== null && spans[store.current]) scrollInto(output, spans[store.current]);
  };
  const showEmpty = () => {
    if (store.tokens.length) empty.remove();
    else output.replaceChildren(empty);
    empty.textContent = store.text || emptyText(store);
    empty.classList.toggle("wb-plain-text", Boolean(store.text));
  };
  const reset = () => {
    spans.length = 0;
    output.replaceChildren();
    append(0);
    showSelected();
  };
  store.listen((/** @type {any} */ change) => {
    if (change.kind === "reset") reset();
    else if (change.kind === "append") append(change.from);
    else if (change.kind === "selected") showSelected();
    showEmpty();
  }, signal);
  reset();
  showEmpty();
  walkTokens(output, store);
  return { root: output };
}

/** @param {any} store */
function emptyText(store) {
  if (store.state === "idle") return "The answer appears here, token by token.";
  if (store.active) return store.usage?.prompt ? "Reading the prompt …" : "Waiting for the model …";
  return store.state === "finished" ? "The model ended its turn without a token." : "";
}

/** @param {any} token @param {number} position */
function tokenSpan(token, position) {
  const span = h("span", { class: token.special ? "wb-special" : "wb-token", "data-wb-position": position, text: token.special ? token.label : token.piece });
  const strength = token.special ? 0 : heat(token.logprob);
  if (strength > 0) {
    span.style.setProperty("--wb-a", (0.52 * strength).toFixed(3));
    span.style.setProperty("--wb-u", `${(4 * strength).toFixed(1)}px`);
  }
  return span;
}

/** Mouse and keyboard select tokens. @param {HTMLElement} output @param {any} store */
function walkTokens(output, store) {
  const positionAt = (/** @type {any} */ target) => {
    const span = target.closest?.("[data-wb-position]");
    return span ? Number(span.getAttribute("data-wb-position")) : null;
  };
  output.addEventListener("click", (event) => {
    const position = positionAt(event.target);
    // Marking text with the mouse is not a click on a token.
    if (position !== null && window.getSelection()?.isCollapsed !== false) store.select([position]);
  });
  output.addEventListener("pointerover", (event) => {
    const position = positionAt(event.target);
    const token = position === null ? null : store.tokens[position];
    if (token && token.logprob !== null) {
      const rank = token.rank ? `, rank ${token.rank}` : "";
      /** @type {any} */ (event.target).title = `${percentOf(token.logprob)}${rank}, ${fixed(bits(token.logprob), 1)} bits`;
    }
  });
  output.addEventListener("keydown", (event) => {
    const current = store.current;
    const targets = {
      ArrowRight: current === null ? 0 : current + 1,
      ArrowLeft: current === null ? store.tokens.length - 1 : current - 1,
      Home: 0,
      End: store.tokens.length - 1,
    };
    const target = /** @type {Record<string, number>} */ (targets)[event.key];
    if (event.key === "Escape" && store.selected.length) store.select([]);
    else if (target !== undefined && !event.shiftKey && !event.ctrlKey && !event.metaKey) store.walkTo(target);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

/** Scroll the box alone; scrollIntoView would move the notebook too. @param {HTMLElement} box @param {HTMLElement} item */
export function scrollInto(box, item) {
  const outer = box.getBoundingClientRect();
  const inner = item.getBoundingClientRect();
  if (inner.top < outer.top) box.scrollTop -= outer.top - inner.top + 8;
  else if (inner.bottom > outer.bottom) box.scrollTop += inner.bottom - outer.bottom + 8;
}
