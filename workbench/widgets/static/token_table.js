// One row a token. Only the rows on the screen exist, so five thousand tokens scroll like fifty.

import { h, keepKeys, uniqueId } from "./dom.js";
import { fixed, percentOf, visible } from "./format.js";

/**
 * @typedef {object} State of the widget model
 * @property {string} feed  reference of the run feed, which holds the selection too
 * @property {number} height  of the scrolled area, in pixels
 */

const ROW_HEIGHT = 26;
const OVERSCAN = 8;
const SHOWN_ALTERNATIVES = 3;

const COLUMNS = [
  { name: "#", width: 56, help: "Position among the generated tokens, from 0" },
  { name: "token", width: 132, help: "The token alone, with white space made visible" },
  { name: "id", width: 72, help: "Its number in the vocabulary" },
  { name: "probability", width: 108, help: "Under the model's raw distribution, before temperature and cuts" },
  { name: "logprob", width: 84, help: "Natural logarithm of the probability" },
  { name: "rank", width: 60, help: "1 is the most probable token of the vocabulary" },
  { name: "entropy", width: 80, help: "Of the raw distribution at this position, in nats, as in run.to_frame()" },
  { name: "instead", width: 0, help: "The most probable other tokens" },
];

/** @param {{model: any, el: HTMLElement, host: any, signal: AbortSignal}} context */
async function render({ model, el, host, signal }) {
  const { store } = (await host.getWidget(model.get("feed"))).exports;
  el.classList.add("wb-root", "wb-table");
  keepKeys(el);
  const idPrefix = uniqueId("row");
  const body = h("tbody");
  const table = h(
    "table",
    { role: "grid", "aria-label": "Generated tokens", "aria-multiselectable": "true", tabindex: 0 },
    h("colgroup", {}, ...COLUMNS.map((column) => h("col", column.width ? { style: `width:${column.width}px` } : {}))),
    h("thead", {}, h("tr", { "aria-rowindex": 1 }, ...COLUMNS.map((column) => h("th", { scope: "col", title: column.help, text: column.name })))),
    body,
  );
  const scroller = h("div", { class: "wb-scroller" }, table);
  el.append(scroller);

  let frame = 0;
  const draw = () => {
    frame = 0;
    drawWindow(store, scroller, table, body, idPrefix);
  };
  const drawSoon = () => {
    frame ||= window.requestAnimationFrame(draw);
  };
  let followed = true;
  scroller.addEventListener("scroll", () => {
    followed = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < ROW_HEIGHT;
    drawSoon();
  });
  store.listen((/** @type {any} */ change) => {
    if (change.kind === "reset") followed = true;
    const follow = followed && (change.kind === "append" || (change.kind === "reset" && store.active));
    draw();
    if (change.kind === "selected" && store.current !== null) showRow(scroller, store.current);
    else if (follow) scroller.scrollTop = scroller.scrollHeight;
  }, signal);
  const showHeight = () => {
    scroller.style.maxHeight = `${model.get("height")}px`;
    drawSoon();
  };
  model.on("change:height", showHeight);
  showHeight();
  draw();
  if (store.current !== null) showRow(scroller, store.current);
  // A table that was drawn in a hidden tab learns its height when it is shown.
  const observer = new ResizeObserver(drawSoon);
  observer.observe(scroller);
  chooseRows(table, store, () => Math.max(1, Math.floor(scroller.clientHeight / ROW_HEIGHT) - 2));
  signal.addEventListener("abort", () => {
    observer.disconnect();
    window.cancelAnimationFrame(frame);
    el.replaceChildren();
  });
}

/** @param {any} store @param {HTMLElement} scroller @param {HTMLElement} table @param {HTMLElement} body @param {string} idPrefix */
function drawWindow(store, scroller, table, body, idPrefix) {
  const count = store.tokens.length;
  const height = scroller.clientHeight || 220;
  const first = Math.max(0, Math.floor(scroller.scrollTop / ROW_HEIGHT) - OVERSCAN);
  const last = Math.min(count, Math.ceil((scroller.scrollTop + height) / ROW_HEIGHT) + OVERSCAN);
  store.want(first, last);
  const selected = new Set(store.selected);
  const rows = [];
  for (let i = first; i < last; i += 1) rows.push(rowOf(store, i, selected.has(i), `${idPrefix}-${i}`));
  if (count === 0) rows.push(h("tr", { class: "wb-none" }, h("td", { colspan: COLUMNS.length, text: "No tokens yet." })));
  body.replaceChildren(spacer(first), ...rows, spacer(count - last));
  table.setAttribute("aria-rowcount", String(count + 1));
  const current = store.current;
  if (current !== null && current >= first && current < last) table.setAttribute("aria-activedescendant", `${idPrefix}-${current}`);
  else table.removeAttribute("aria-activedescendant");
}

/** Stands for rows that are off the screen. @param {number} rows */
function spacer(rows) {
  const cell = h("td", { colspan: COLUMNS.length, class: "wb-spacer-cell" });
  cell.style.height = `${Math.max(0, rows) * ROW_HEIGHT}px`;
  return h("tr", { class: "wb-spacer-row", "aria-hidden": "true", hidden: rows <= 0 }, cell);
}

/** @param {any} store @param {number} position @param {boolean} isSelected @param {string} id */
function rowOf(store, position, isSelected, id) {
  const token = store.tokens[position];
  const alternatives = store.alternatives(position);
  const instead = alternatives ? alternatives.slice(0, SHOWN_ALTERNATIVES) : [];
  return h(
    "tr",
    { id, class: isSelected && "wb-selected", "aria-rowindex": position + 2, "aria-selected": String(isSelected), "data-wb-position": position },
    cell(String(position)),
    h("td", {}, h("code", { text: visible(token.label) })),
    cell(String(token.id)),
    cell(percentOf(token.logprob)),
    cell(fixed(token.logprob, 2)),
    cell(token.rank ? String(token.rank) : "–"),
    cell(fixed(token.entropy, 2)),
    h("td", { class: "wb-instead" }, ...instead.map((/** @type {any} */ item) => h("code", { text: `${visible(item.label)} ${percentOf(item.logprob)}` }))),
  );
}

/** @param {string} text */
function cell(text) {
  return h("td", { text });
}

/** @param {HTMLElement} scroller @param {number} position */
function showRow(scroller, position) {
  const top = position * ROW_HEIGHT;
  const room = scroller.clientHeight - 2 * ROW_HEIGHT;
  const isFar = top < scroller.scrollTop - room || top > scroller.scrollTop + 2 * room;
  // A step scrolls by a row; a jump shows what stands around it.
  if (isFar) scroller.scrollTop = top - room / 2;
  else if (top < scroller.scrollTop) scroller.scrollTop = top;
  else if (top > scroller.scrollTop + room) scroller.scrollTop = top - room;
}

/** Mouse and keys select rows: plain, with Shift a stretch, with Ctrl one more. @param {HTMLElement} table @param {any} store @param {() => number} page */
function chooseRows(table, store, page) {
  let anchor = 0;
  const choose = (/** @type {number} */ target, /** @type {MouseEvent | KeyboardEvent} */ event) => {
    const position = Math.max(0, Math.min(store.tokens.length - 1, target));
    if (event.shiftKey) store.select(stretch(anchor, position));
    else {
      anchor = position;
      store.select([position]);
    }
  };
  table.addEventListener("click", (event) => {
    const row = /** @type {HTMLElement} */ (event.target).closest("[data-wb-position]");
    if (!row || window.getSelection()?.isCollapsed === false) return;
    const position = Number(row.getAttribute("data-wb-position"));
    if (event.ctrlKey || event.metaKey) {
      anchor = position;
      const others = store.selected.filter((/** @type {number} */ i) => i !== position);
      store.select(others.length < store.selected.length ? others : [...others, position]);
    } else choose(position, event);
  });
  table.addEventListener("mousedown", (event) => event.shiftKey && event.preventDefault());
  table.addEventListener("keydown", (event) => {
    const current = store.current;
    const last = store.tokens.length - 1;
    const targets = {
      ArrowDown: current === null ? 0 : current + 1,
      ArrowUp: current === null ? last : current - 1,
      PageDown: (current ?? 0) + page(),
      PageUp: (current ?? 0) - page(),
      Home: 0,
      End: last,
    };
    const target = /** @type {Record<string, number>} */ (targets)[event.key];
    if (event.key === "Escape" && store.selected.length) store.select([]);
    else if (target !== undefined && last >= 0) choose(target, event);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

/** Positions from one to the other, the other last. @param {number} from @param {number} to */
function stretch(from, to) {
  const step = from <= to ? 1 : -1;
  return Array.from({ length: Math.abs(to - from) + 1 }, (_, i) => from + i * step);
}

export default { render };
