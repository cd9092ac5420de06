// Virtual scrolling of a table: only the visible rows exist, and two spacers have the height of the others.

import { h, setChildren, uniqueId } from "./dom.js";
import { fixed, inUnit, percentOf, surprisal, visible } from "./format.js";
import { tableRows } from "./table_order.js";

export const ROW_HEIGHT = 26;
const OVERSCAN = 8;
const SHOWN_ALTERNATIVES = 3;

/**
 * @import { Unit } from "./format.js"
 * @import { Store } from "./run_feed.js"
 * @import { Alternative, Token } from "./run_wire.js"
 * @import { Request } from "./table_order.js"
 *
 * @typedef {{root: HTMLElement, token: Token, alternatives: Alternative[] | null, at: number, unit: Unit}} Row  the values from which it was made
 * @typedef {{scroller: HTMLElement, table: HTMLElement, body: HTMLElement, columns: number}} Parts
 */

/** Draw the visible rows. @param {Store} store @param {Parts} parts @param {AbortSignal} signal */
export function tableWindow(store, { scroller, table, body, columns }, signal) {
  const idPrefix = uniqueId("row");
  const above = spacer(columns);
  const below = spacer(columns);
  const none = h("tr", { class: "wb-none" }, h("td", { colspan: columns }));
  /** @type {number[]} */ let rows = [];
  /** @type {Map<number, Row>} */ let drawn = new Map();
  let frame = 0;
  const draw = () => {
    frame = 0;
    const height = scroller.clientHeight || 220;
    const first = Math.max(0, Math.floor(scroller.scrollTop / ROW_HEIGHT) - OVERSCAN);
    const last = Math.min(rows.length, Math.ceil((scroller.scrollTop + height) / ROW_HEIGHT) + OVERSCAN);
    const seen = rows.slice(first, last);
    const selected = new Set(store.selected);
    for (const position of seen) store.want(position, position + 1);
    if (!rows.length)
      none.firstElementChild?.replaceChildren(store.steps.length ? "No tokens match." : "No tokens yet.");
    above.stand(first);
    below.stand(rows.length - last);
    drawn = new Map(seen.map((position, i) => [position, keptOrNew(position, first + i)]));
    for (const [position, row] of drawn) mark(row.root, selected.has(position));
    setChildren(body, [above.root, ...(rows.length ? [...drawn.values()].map((row) => row.root) : [none]), below.root]);
    table.setAttribute("aria-rowcount", String(rows.length + 1));
    const current = store.current;
    if (current !== null && seen.includes(current))
      table.setAttribute("aria-activedescendant", `${idPrefix}-${current}`);
    else table.removeAttribute("aria-activedescendant");
  };
  const keptOrNew = (/** @type {number} */ position, /** @type {number} */ at) => {
    const token = store.steps[position];
    const alternatives = store.alternatives(position);
    const unit = store.unit;
    const kept = drawn.get(position);
    if (kept?.token === token && kept.alternatives === alternatives && kept.at === at && kept.unit === unit)
      return kept;
    const name = position < store.tokens.length ? String(position + 1) : "end";
    const place = { position, at, id: `${idPrefix}-${position}` };
    return { root: rowOf(token, alternatives, name, unit, place), token, alternatives, at, unit };
  };
  const drawSoon = () => {
    frame ||= window.requestAnimationFrame(draw);
  };
  scroller.addEventListener("scroll", drawSoon);
  // A hidden table gets its height when it is shown, and a page may move it without a scroll event, as when a theme is
  // loaded: a visible spacer means that rows are missing.
  const sizes = new ResizeObserver(drawSoon);
  const gaps = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && drawSoon(), {
    root: scroller,
  });
  sizes.observe(scroller);
  gaps.observe(above.root);
  gaps.observe(below.root);
  signal.addEventListener("abort", () => {
    sizes.disconnect();
    gaps.disconnect();
    window.cancelAnimationFrame(frame);
  });
  return {
    get rows() {
      return rows;
    },
    draw,
    /** @param {Request} request */
    arrange(request) {
      rows = tableRows(store.steps, request);
      draw();
    },
    showCurrent() {
      const at = store.current === null ? -1 : rows.indexOf(store.current);
      if (at >= 0) showRow(scroller, at);
    },
    /** Return the number of rows per page. */
    get page() {
      return Math.max(1, Math.floor(scroller.clientHeight / ROW_HEIGHT) - 2);
    },
  };
}

/** A spacer with the height of rows outside the window. @param {number} columns */
function spacer(columns) {
  const cell = h("td", { colspan: columns, class: "wb-spacer-cell" });
  const root = h("tr", { class: "wb-spacer-row", "aria-hidden": "true" }, cell);
  return {
    root,
    /** @param {number} rows */
    stand(rows) {
      root.hidden = rows <= 0;
      cell.style.height = `${Math.max(0, rows) * ROW_HEIGHT}px`;
    },
  };
}

/**
 * @param {Token} token @param {Alternative[] | null} alternatives @param {string} name @param {Unit} unit
 * @param {{position: number, at: number, id: string}} place
 */
function rowOf(token, alternatives, name, unit, { position, at, id }) {
  const instead = alternatives?.slice(0, SHOWN_ALTERNATIVES) ?? [];
  const cell = (/** @type {string} */ text) => h("td", { text });
  return h(
    "tr",
    { id, "aria-rowindex": at + 2, "data-wb-position": position },
    cell(name),
    h("td", {}, h("code", { text: visible(token.label) })),
    cell(String(token.id)),
    cell(percentOf(token.logprob)),
    cell(fixed(inUnit(surprisal(token.logprob), unit), 2)),
    cell(token.rank ? String(token.rank) : "–"),
    cell(fixed(inUnit(token.entropy, unit), 2)),
    h(
      "td",
      { class: "wb-instead" },
      ...instead.map((item) => h("code", { text: `${visible(item.label)} ${percentOf(item.logprob)}` })),
    ),
  );
}

/** @param {HTMLElement} row @param {boolean} isSelected */
function mark(row, isSelected) {
  row.classList.toggle("wb-selected", isSelected);
  row.setAttribute("aria-selected", String(isSelected));
}

/** @param {HTMLElement} scroller @param {number} at */
function showRow(scroller, at) {
  const top = at * ROW_HEIGHT;
  const room = scroller.clientHeight - 2 * ROW_HEIGHT;
  const isFar = top < scroller.scrollTop - room || top > scroller.scrollTop + 2 * room;
  // A step scrolls by a row; a jump centers the row.
  if (isFar) scroller.scrollTop = top - room / 2;
  else if (top < scroller.scrollTop) scroller.scrollTop = top;
  else if (top > scroller.scrollTop + room) scroller.scrollTop = top - room;
}
