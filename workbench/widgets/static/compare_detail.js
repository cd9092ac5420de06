// The details below a comparison's texts: the KL divergence along the tokens, and the candidates at one position.

import { firstDifference, peaksOf } from "./compare_differences.js";
import { around, h } from "./dom.js";
import { divergence, percent, percentOf, visible } from "./format.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 * @import { Differences, Known, Pair } from "./compare_differences.js"
 * @import { Unit } from "./format.js"
 * @import { Store } from "./run_feed.js"
 * @import { Alternative, Token } from "./run_wire.js"
 *
 * @typedef {{letter: string, model: string, settings: string, beside?: boolean}} Side  one that is beside has no text
 * @typedef {{token: Token, alternatives: Alternative[]}} Held  what a side held possible at a position
 *
 * @typedef {object} Comparison  what all parts of the view are made of
 * @property {AnyModel<{position: number | null, differences: Differences, common: string}>} model
 * @property {Store[]} stores
 * @property {Side[]} sides
 * @property {Known} differences
 * @property {(position: number | null) => void} look
 * @property {(event: string, listener: () => void) => void} on  of the model, until the signal
 * @property {AbortSignal} signal
 */

/** The KL divergence along the tokens, one strip for each side but the first. @param {Comparison} comparison */
export function strips({ stores, sides, model, differences, look, on, signal }) {
  const root = h("div", { class: "wb-compare-strips" });
  const show = () => {
    const { pairs } = differences.value;
    const most = Math.max(0, ...pairs.flatMap((pair) => pair.kl.map((value) => value ?? 0)));
    const position = model.get("position");
    const rows = pairs.flatMap((pair, i) =>
      most > 0 && pair.kl.length > 1
        ? [strip(pair, `KL(${sides[0].letter}‖${sides[i + 1].letter})`, most, position, stores[0].unit, look)]
        : [],
    );
    root.replaceChildren(...rows);
    root.hidden = rows.length === 0;
  };
  differences.listen(show, signal);
  on("change:position", show);
  stores[0].listen((change) => change.kind === "unit" && show(), signal);
  show();
  return root;
}

/**
 * One bar per token, or the maximum of each group of neighbors if there are more tokens than room.
 * @param {Pair} pair @param {string} name @param {number} most
 * @param {number | null} position @param {Unit} unit @param {Comparison["look"]} look
 */
function strip(pair, name, most, position, unit, look) {
  const peaks = peaksOf(pair.kl);
  const stretchOf = (/** @type {number | null | undefined} */ at) =>
    at === null || at === undefined ? null : Math.floor((at * peaks.length) / pair.kl.length);
  const slots = peaks.map((at, i) => {
    const kind =
      i === stretchOf(position) ? " wb-compare-here" : i === stretchOf(pair.at?.[0]) ? " wb-compare-last" : "";
    const bar = h("span", { class: `wb-compare-bar${kind}` });
    bar.style.height = `${Math.max(2, (100 * (pair.kl[at] ?? 0)) / most)}%`;
    return h(
      "span",
      { class: "wb-compare-slot", "data-wb-at": at, title: `token ${at + 1}: ${divergence(pair.kl[at], unit)}` },
      bar,
    );
  });
  const plane = h(
    "div",
    {
      class: "wb-compare-plane",
      role: "img",
      "aria-label": `${name} over ${pair.kl.length} tokens, from left to right, maximum ${divergence(most, unit)}`,
    },
    ...slots,
  );
  plane.addEventListener("click", (event) => {
    const slot = around(event, "[data-wb-at]");
    if (slot) look(Number(slot.getAttribute("data-wb-at")));
  });
  return h(
    "div",
    { class: "wb-compare-strip" },
    h("span", { class: "wb-quiet wb-number", text: name }),
    plane,
    h("span", { class: "wb-quiet wb-number", text: divergence(most, unit) }),
  );
}

/** The candidates of each side at the selected position. @param {Comparison} comparison */
export function candidates({ stores, sides, model, differences, on, signal }) {
  const root = h("div", { class: "wb-compare-candidates" });
  const said = h("p", { class: "wb-sr", role: "status" });
  const holder = h("div", {}, root, said);
  const show = () => {
    const position = model.get("position");
    const here = position === null ? [] : stores.map((store) => sideAt(store, position));
    root.hidden = here.every((one) => one === null);
    if (root.hidden || position === null) return;
    for (const store of stores) store.want(position, position + 1);
    const { pairs } = differences.value;
    const kl = pairs.flatMap((pair, i) =>
      pair.kl[position] === undefined
        ? []
        : [`KL(${sides[0].letter}‖${sides[i + 1].letter}) ${divergence(pair.kl[position], stores[0].unit)}`],
    );
    const parted = firstDifference(pairs);
    const after =
      parted !== null && position > parted ? ["after the first difference, so the texts before it differ"] : [];
    root.replaceChildren(
      h("h3", { text: [`Token ${position + 1}`, ...kl, ...after].join(" · ") }),
      h("div", { class: "wb-compare-scroller" }, candidateTable(here, sides)),
    );
    said.textContent = [
      `Token ${position + 1}`,
      ...here.map(
        (one, i) =>
          `${sides[i].letter}: ${one ? `${visible(one.token.label)} ${percentOf(one.token.logprob)}` : "ended"}`,
      ),
      ...kl,
    ].join(". ");
  };
  on("change:position", show);
  differences.listen(show, signal);
  for (const store of stores)
    store.listen((change) => ["alternatives", "reset", "unit"].includes(change.kind) && show(), signal);
  show();
  return holder;
}

/** @param {Store} store @param {number} position @returns {Held | null} */
function sideAt(store, position) {
  const token = store.tokens[position];
  return token ? { token, alternatives: store.alternatives(position) ?? [] } : null;
}

/**
 * Return one row per candidate of any side, the most probable first.
 * @param {(Held | null)[]} here @param {Side[]} sides
 */
function candidateTable(here, sides) {
  /** @type {Map<string, {label: string, shares: (number | null)[], picked: boolean[]}>} */ const rows = new Map();
  here.forEach((one, i) => {
    if (!one) return;
    for (const item of [one.token, ...one.alternatives]) {
      const row = rows.get(item.label) ?? {
        label: item.label,
        shares: sides.map(() => null),
        picked: sides.map(() => false),
      };
      row.shares[i] = item.logprob === null ? null : Math.exp(item.logprob);
      row.picked[i] = row.picked[i] || item === one.token;
      rows.set(item.label, row);
    }
  });
  const most = (/** @type {{shares: (number | null)[]}} */ row) => Math.max(...row.shares.map((share) => share ?? 0));
  const sorted = [...rows.values()].sort((a, b) => most(b) - most(a));
  const head = h(
    "tr",
    {},
    h("th", { scope: "col", text: "token" }),
    ...sides.map((side) => h("th", { scope: "col", text: side.letter })),
  );
  const body = sorted.map((row) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, h("code", { text: visible(row.label) })),
      ...row.shares.map((share, i) => shareCell(share, row.picked[i])),
    ),
  );
  return h("table", {}, h("thead", {}, head), h("tbody", {}, ...body));
}

/** @param {number | null} share @param {boolean} isPicked */
function shareCell(share, isPicked) {
  if (share === null) return h("td", { class: "wb-quiet", text: isPicked ? "picked" : "–" });
  const fill = h("span", { class: "wb-fill" });
  fill.style.width = `${100 * share}%`;
  const track = h("span", { class: "wb-track", "aria-hidden": "true" }, fill);
  return h(
    "td",
    { class: isPicked ? "wb-compare-picked" : false },
    h(
      "span",
      { class: "wb-compare-share" },
      track,
      h("span", { class: "wb-number", text: percent(share) }),
      isPicked && h("span", { class: "wb-sr", text: "picked" }),
    ),
  );
}
