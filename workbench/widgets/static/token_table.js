// The token table: one row per token. Only the visible rows exist, so that long tables scroll as fast as short ones.

import { around, h, uniqueId } from "./dom.js";
import { storeOf } from "./feed_store.js";
import { openRoot } from "./root.js";
import { COLUMNS, orderAfter, sortedAs, stretch } from "./table_columns.js";
import { misreadIn } from "./table_order.js";
import { ROW_HEIGHT, tableWindow } from "./table_window.js";

/**
 * @import { AnyModel, RenderProps } from "@anywidget/types"
 * @import { Store } from "./run_feed.js"
 * @import { Order, SortField } from "./table_columns.js"
 *
 * @typedef {object} State of the widget model
 * @property {string} feed  reference of the run feed, which holds the selection too
 * @property {number} height  height of the scrolling area in pixels
 * @property {SortField} sort_by
 * @property {boolean} descending
 * @property {string} query  words and comparisons that all rows shown match
 *
 * @typedef {AnyModel<State>} Model
 */

/** @param {RenderProps<State>} context */
async function render({ model, el, host, signal }) {
  const store = await storeOf(host, model.get("feed"));
  openRoot({ model, el, signal }, "wb-table");
  const body = h("tbody");
  const head = tableHead(model, store);
  const table = h(
    "table",
    { role: "grid", "aria-label": "Tokens", "aria-multiselectable": "true", tabindex: 0 },
    h("colgroup", {}, ...COLUMNS.map((column) => h("col", column.width ? { style: `width:${column.width}px` } : {}))),
    h("thead", {}, head.root),
    body,
  );
  const scroller = h("div", { class: "wb-scroller" }, table);
  const filter = filterBar(model, signal);
  el.append(filter.root, scroller);
  const view = tableWindow(store, { scroller, table, body, columns: COLUMNS.length }, signal);
  const arrange = () => {
    head.show();
    view.arrange({ ...orderOf(model), query: model.get("query"), unit: store.unit });
    filter.show(view.rows.length, store.steps.length);
  };

  let followed = true;
  scroller.addEventListener("scroll", () => {
    followed = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < ROW_HEIGHT;
  });
  store.listen((change) => {
    if (change.kind === "reset") followed = true;
    const follow = followed && (change.kind === "append" || (change.kind === "reset" && store.active));
    if (change.kind === "selected") view.showCurrent();
    if (["selected", "alternatives"].includes(change.kind)) view.draw();
    else arrange();
    if (follow) scroller.scrollTop = scroller.scrollHeight;
  }, signal);
  const showHeight = () => {
    scroller.style.maxHeight = `${model.get("height")}px`;
    view.draw();
  };
  for (const name of ["sort_by", "descending", "query"]) {
    model.on(`change:${name}`, () => {
      scroller.scrollTop = 0; // a new order is shown from its top
      arrange();
      view.showCurrent();
    });
  }
  model.on("change:height", showHeight);
  arrange();
  showHeight();
  view.showCurrent();
  chooseRows(table, store, view);
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** The column headers, which sort the table. @param {Model} model @param {Store} store */
function tableHead(model, store) {
  const heads = COLUMNS.map(({ name, field, help }) => {
    if (!field) return h("th", { scope: "col", title: help, text: name });
    const button = h(
      "button",
      { type: "button", class: "wb-sort", title: `${help}. Click to sort.`, on: { click: () => sortBy(model, field) } },
      h("span", { class: "wb-sort-name", text: name }),
      h("span", { class: "wb-sort-mark", "aria-hidden": "true" }),
    );
    return h("th", { scope: "col" }, button);
  });
  return {
    root: h("tr", { "aria-rowindex": 1 }, ...heads),
    show() {
      COLUMNS.forEach(({ name, field, hasUnit }, i) => {
        const label = heads[i].querySelector(".wb-sort-name");
        if (label && hasUnit) label.textContent = `${name}, ${store.unit}`;
        const direction = sortedAs(orderOf(model), field);
        if (direction) heads[i].setAttribute("aria-sort", direction);
        else heads[i].removeAttribute("aria-sort");
        const mark = heads[i].querySelector(".wb-sort-mark");
        if (mark) mark.textContent = direction === null ? "" : direction === "descending" ? "▾" : "▴";
      });
    },
  };
}

/** @param {Model} model @returns {Order} */
function orderOf(model) {
  return { sortBy: model.get("sort_by"), descending: model.get("descending") };
}

/** @param {Model} model @param {SortField} field */
function sortBy(model, field) {
  const order = orderAfter(orderOf(model), field);
  model.set("sort_by", order.sortBy);
  model.set("descending", order.descending);
  model.save_changes();
}

/** @param {Model} model @param {AbortSignal} signal */
function filterBar(model, signal) {
  const id = uniqueId("filter");
  const field = h("input", {
    class: "wb-field wb-query",
    id,
    type: "search",
    spellcheck: "false",
    autocomplete: "off",
    placeholder: "word   rank>3   probability<10%",
  });
  const count = h("span", { class: "wb-quiet wb-number", role: "status" });
  let timer = 0;
  const show = () => {
    if (field.value !== model.get("query")) field.value = model.get("query");
  };
  field.addEventListener("input", () => {
    window.clearTimeout(timer);
    timer = window.setTimeout(() => {
      model.set("query", field.value);
      model.save_changes();
    }, 150);
  });
  model.on("change:query", show);
  signal.addEventListener("abort", () => window.clearTimeout(timer));
  show();
  return {
    root: h("div", { class: "wb-table-bar" }, h("label", { for: id, class: "wb-quiet", text: "Filter" }), field, count),
    /** @param {number} shown @param {number} all */
    show(shown, all) {
      const query = model.get("query");
      // A word that looks like a comparison may be part of the text.
      const misread = shown === 0 && all > 0 ? misreadIn(query) : "";
      const names = "position (from 0, as in Python), id, probability, surprisal, logprob, rank or entropy";
      const text = misread
        ? `${misread} is not a comparison. Write a name, an operator and a number, such as rank>3. Names: ${names}.`
        : query.trim()
          ? `${shown} of ${all} tokens`
          : "";
      field.setAttribute("aria-invalid", String(misread !== ""));
      if (count.textContent !== text) count.textContent = text;
    },
  };
}

/**
 * Select rows with mouse and keyboard: one, with Shift a range, with Ctrl an additional one.
 * @param {HTMLElement} table @param {Store} store @param {ReturnType<typeof tableWindow>} view
 */
function chooseRows(table, store, view) {
  let anchor = 0;
  const choose = (/** @type {number} */ target, /** @type {MouseEvent | KeyboardEvent} */ event) => {
    const at = Math.max(0, Math.min(view.rows.length - 1, target));
    if (event.shiftKey)
      store.select(
        stretch(anchor, at)
          .map((i) => view.rows[i])
          .filter((position) => position !== undefined),
      );
    else {
      anchor = at;
      store.select([view.rows[at]]);
    }
  };
  table.addEventListener("click", (event) => {
    const row = around(event, "[data-wb-position]");
    if (!row || window.getSelection()?.isCollapsed === false) return;
    const position = Number(row.getAttribute("data-wb-position"));
    if (event.ctrlKey || event.metaKey) {
      anchor = view.rows.indexOf(position);
      const others = store.selected.filter((i) => i !== position);
      store.select(others.length < store.selected.length ? others : [...others, position]);
    } else choose(view.rows.indexOf(position), event);
  });
  table.addEventListener("mousedown", (event) => event.shiftKey && event.preventDefault());
  table.addEventListener("keydown", (event) => {
    if (event.target !== table) return;
    const at = store.current === null ? -1 : view.rows.indexOf(store.current);
    const last = view.rows.length - 1;
    /** @type {Record<string, number>} */
    const targets = {
      ArrowDown: at + 1,
      ArrowUp: at < 0 ? last : at - 1,
      PageDown: Math.max(0, at) + view.page,
      PageUp: Math.max(0, at) - view.page,
      Home: 0,
      End: last,
    };
    const target = targets[event.key];
    if (event.key === "Escape" && store.selected.length) store.select([]);
    else if (target !== undefined && last >= 0) choose(target, event);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

export default { render };
