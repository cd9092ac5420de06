// A column of tokens, each in a span of its own: it stays at its end while it grows, and a click chooses a token.

import { around, h } from "./dom.js";

/** Nearer to its end than this, a column scrolls on as it grows. */
const AT_END_PX = 24;

/**
 * @param {string} label @param {(position: number) => void} choose
 * @param {number} [margin]  between a token that is scrolled to and the edge, in pixels
 */
export function tokenColumn(label, choose, margin = 8) {
  const root = h("div", {
    class: "wb-output",
    tabindex: 0,
    role: "group",
    "aria-label": `${label}; arrow keys move between its tokens`,
    dir: "auto",
  });
  root.addEventListener("click", (event) => {
    const span = around(event, "[data-wb-position]");
    // A click that ends the selection of text with the mouse chooses no token.
    if (span && window.getSelection()?.isCollapsed !== false) choose(Number(span.getAttribute("data-wb-position")));
  });
  /** @type {HTMLElement[]} */ const spans = [];
  return {
    root,
    spans,
    /** @param {HTMLElement[]} fresh @param {() => void} mark  called before the column scrolls to its end */
    append(fresh, mark) {
      const isAtEnd = root.scrollHeight - root.scrollTop - root.clientHeight < AT_END_PX;
      spans.push(...fresh);
      root.append(...fresh);
      mark();
      if (isAtEnd) root.scrollTop = root.scrollHeight;
    },
    clear() {
      spans.length = 0;
      root.replaceChildren();
    },
    /** Scroll the column alone to a token, if there is one; scrollIntoView would move the notebook too. @param {number} position */
    reveal(position) {
      if (!spans[position]) return;
      const outer = root.getBoundingClientRect();
      const inner = spans[position].getBoundingClientRect();
      if (inner.top < outer.top + margin - 8) root.scrollTop -= outer.top - inner.top + margin;
      else if (inner.bottom > outer.bottom) root.scrollTop += inner.bottom - outer.bottom + margin;
    },
  };
}
