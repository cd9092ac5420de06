// One row a token. Only the rows on the screen exist, so five thousand tokens scroll like fifty.

import { h, keepKeys, uniqueId } from "./dom.js";
import { ROW_HEIGHT, tableWindow } from "./table_window.js";

/**
 * @typedef {object} State of the widget model
 * @property {string} feed  reference of the run feed, which holds the selection too
 * @property {number} height  of the scrolled area, in pixels
 * @property {string} sort_by  field of a column
 * @property {boolean} descending
 * @property {string} query  words and comparisons that the rows must meet
 */

// `first` is the direction that shows the interesting end: what was improbable, what was uncertain.
const COLUMNS = [
  { name: "#", field: "position", first: "ascending", width: 56, help: "Position among the generated tokens, from 0" },
  {
    name: "token",
    field: "text",
    first: "ascending",
    width: 132,
    help: "The token alone, with white space made visible",
  },
  { name: "id", field: "token_id", first: "ascending", width: 72, help: "Its number in the vocabulary" },
  {
    name: "probability",
    field: "probability",
    first: "ascending",
    width: 112,
    help: "Under the model's raw distribution, before temperature and cuts",
  },
  { name: "logprob", field: "logprob", first: "ascending", width: 88, help: "Natural logarithm of the probability" },
  {
    name: "rank",
    field: "rank",
    first: "descending",
    width: 64,
    help: "1 is the most probable token of the vocabulary",
  },
  {
    name: "entropy",
    field: "entropy",
    first: "descending",
    width: 84,
    help: "Of the raw distribution at this position, in nats, as in run.to_frame()",
  },
  { name: "instead", field: null, first: "", width: 0, help: "The most probable other tokens" },
];

/** @param {{model: any, el: HTMLElement, host: any, signal: AbortSignal}} context */
async function render({ model, el, host, signal }) {
  const { store } = (await host.getWidget(model.get("feed"))).exports;
  el.classList.add("wb-root", "wb-table");
  keepKeys(el);
  const body = h("tbody");
  const head = tableHead(model);
  const table = h(
    "table",
    { role: "grid", "aria-label": "Generated tokens", "aria-multiselectable": "true", tabindex: 0 },
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
    view.arrange({ sortBy: model.get("sort_by"), descending: model.get("descending"), query: model.get("query") });
    filter.show(view.rows.length, store.tokens.length);
  };

  let followed = true;
  scroller.addEventListener("scroll", () => {
    followed = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < ROW_HEIGHT;
  });
  store.listen((/** @type {any} */ change) => {
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
      scroller.scrollTop = 0; // another order begins at its top
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

/** The heads of the columns; one press sorts, a second turns the order round, a third gives it up. @param {any} model */
function tableHead(model) {
  const heads = COLUMNS.map(({ name, field, help }) => {
    if (!field) return h("th", { scope: "col", title: help, text: name });
    const button = h(
      "button",
      { type: "button", class: "wb-sort", title: `${help}. Sorts.`, on: { click: () => sortBy(model, field) } },
      h("span", { text: name }),
      h("span", { class: "wb-sort-mark", "aria-hidden": "true" }),
    );
    return h("th", { scope: "col" }, button);
  });
  return {
    root: h("tr", { "aria-rowindex": 1 }, ...heads),
    show() {
      COLUMNS.forEach(({ field }, i) => {
        const isSorted =
          field !== null && field === model.get("sort_by") && !(field === "position" && !model.get("descending"));
        const direction = model.get("descending") ? "descending" : "ascending";
        if (isSorted) heads[i].setAttribute("aria-sort", direction);
        else heads[i].removeAttribute("aria-sort");
        const mark = heads[i].querySelector(".wb-sort-mark");
        if (mark) mark.textContent = isSorted ? (model.get("descending") ? "▾" : "▴") : "";
      });
    },
  };
}

/** @param {any} model @param {string} field */
function sortBy(model, field) {
  const descendsFirst =
    COLUMNS.find((column) => column.field === field)?.first === "descending" || field === "position";
  const isSame = model.get("sort_by") === field;
  const isTurned = isSame && model.get("descending") !== descendsFirst && field !== "position";
  model.set("sort_by", isTurned ? "position" : field);
  model.set("descending", isTurned ? false : isSame ? !model.get("descending") : descendsFirst);
  model.save_changes();
}

/** @param {any} model @param {AbortSignal} signal */
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
      const text = model.get("query").trim() ? `${shown} of ${all} tokens` : "";
      if (count.textContent !== text) count.textContent = text;
    },
  };
}

/** Mouse and keys select rows: plain, with Shift a stretch, with Ctrl one more. @param {HTMLElement} table @param {any} store @param {any} view */
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
    const row = /** @type {HTMLElement} */ (event.target).closest("[data-wb-position]");
    if (!row || window.getSelection()?.isCollapsed === false) return;
    const position = Number(row.getAttribute("data-wb-position"));
    if (event.ctrlKey || event.metaKey) {
      anchor = view.rows.indexOf(position);
      const others = store.selected.filter((/** @type {number} */ i) => i !== position);
      store.select(others.length < store.selected.length ? others : [...others, position]);
    } else choose(view.rows.indexOf(position), event);
  });
  table.addEventListener("mousedown", (event) => event.shiftKey && event.preventDefault());
  table.addEventListener("keydown", (event) => {
    if (event.target !== table) return;
    const at = store.current === null ? -1 : view.rows.indexOf(store.current);
    const last = view.rows.length - 1;
    const targets = {
      ArrowDown: at + 1,
      ArrowUp: at < 0 ? last : at - 1,
      PageDown: Math.max(0, at) + view.page,
      PageUp: Math.max(0, at) - view.page,
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

/** From one to the other, the other last. @param {number} from @param {number} to */
function stretch(from, to) {
  const step = from <= to ? 1 : -1;
  return Array.from({ length: Math.abs(to - from) + 1 }, (_, i) => from + i * step);
}

export default { render };
