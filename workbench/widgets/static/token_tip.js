// The tooltip of the token under the pointer.

import { around, h } from "./dom.js";
import { spoken } from "./token_words.js";

/** @import { Store } from "./run_feed.js" */

/**
 * Show a tip at the token that the pointer rests on.
 * @param {HTMLElement} output @param {Pick<Store, "steps">} store
 * @param {(position: number) => string} describe  returns what is said of a token
 */
export function tokenTip(output, store, describe) {
  const name = h("code");
  const facts = h("span", { class: "wb-number" });
  // In the top layer, because the widget would clip it.
  const tip = h("div", { class: "wb-tip", role: "tooltip", popover: "manual" }, name, " ", facts);
  if (!tip.showPopover) return;
  const hide = () => tip.isConnected && tip.matches(":popover-open") && tip.hidePopover();
  output.addEventListener("pointerover", (event) => {
    const span = around(event, "[data-wb-position]");
    const position = Number(span?.getAttribute("data-wb-position"));
    const token = span ? store.steps[position] : undefined;
    if (!span || !token) {
      hide();
      return;
    }
    name.textContent = spoken(token);
    facts.textContent = describe(position);
    if (tip.previousElementSibling !== output) output.after(tip);
    if (!tip.matches(":popover-open")) tip.showPopover();
    placeAt(tip, lineAt(span, event.clientY));
  });
  for (const event of ["pointerleave", "pointerdown", "scroll", "keydown"]) output.addEventListener(event, hide);
}

/** Return the box of a token in the line of the pointer. @param {Element} span @param {number} y */
function lineAt(span, y) {
  const lines = [...span.getClientRects()];
  return lines.find((line) => line.top <= y && y <= line.bottom) ?? span.getBoundingClientRect();
}

/** Place the tooltip below a line, or above it if there is no room. @param {HTMLElement} tip @param {DOMRect} line */
function placeAt(tip, line) {
  const left = Math.min(line.left, window.innerWidth - tip.offsetWidth - 8);
  const below = line.bottom + 4;
  const top = below + tip.offsetHeight < window.innerHeight ? below : line.top - 4 - tip.offsetHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${top}px`;
}
