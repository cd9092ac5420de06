// Below the texts of a comparison: how far apart the distributions are along the tokens, and at one of them.

import { h } from "./dom.js";
import { nats, percent, percentOf, visible } from "./format.js";

/**
 * @typedef {{letter: string, model: string, settings: string}} Side
 * @typedef {{from: number, kl: (number | null)[], at: [number, number] | null, why: string | null, said: string}} Pair
 *   `kl` from position `from` on; `at`: the first difference in the reference and in the other run
 */

// As many as have room at 320 pixels, with a gap between each two.
const MOST_BARS = 64;

/** Where the reference is first left. @param {Pair[]} pairs @returns {number | null} */
export function firstDifference(pairs) {
  const found = pairs.flatMap((pair) => (pair.at ? [pair.at[0]] : []));
  return found.length ? Math.min(...found) : null;
}

/**
 * KL along the tokens, one strip for each side but the first.
 * @param {{stores: any[], sides: Side[], model: any, differences: any, look: (position: number) => void, signal: AbortSignal}} spec
 */
export function strips({ sides, model, differences, look }) {
  const root = h("div", { class: "wb-compare-strips" });
  const show = () => {
    const { pairs } = differences.value;
    const most = Math.max(0, ...pairs.flatMap((/** @type {Pair} */ pair) => pair.kl.map((value) => value ?? 0)));
    const position = model.get("position");
    const rows = pairs.flatMap((/** @type {Pair} */ pair, /** @type {number} */ i) =>
      most > 0 && pair.kl.length > 1
        ? [strip(pair, `KL(${sides[0].letter}‖${sides[i + 1].letter})`, most, position, look)]
        : [],
    );
    root.replaceChildren(...rows);
    root.hidden = rows.length === 0;
  };
  differences.listen(show);
  model.on("change:position", show);
  show();
  return root;
}

/** Bars, the largest of a stretch where there are more tokens than room. @param {Pair} pair @param {string} name @param {number} most @param {number | null} position @param {(position: number) => void} look */
function strip(pair, name, most, position, look) {
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
      { class: "wb-compare-slot", "data-wb-at": at, title: `token ${at}: ${nats(pair.kl[at])} nat` },
      bar,
    );
  });
  const plane = h(
    "div",
    {
      class: "wb-compare-plane",
      role: "img",
      "aria-label": `${name} of ${pair.kl.length} tokens, from left to right, at most ${nats(most)} nat`,
    },
    ...slots,
  );
  plane.addEventListener("click", (event) => {
    const slot = /** @type {any} */ (event.target).closest("[data-wb-at]");
    if (slot) look(Number(slot.getAttribute("data-wb-at")));
  });
  return h(
    "div",
    { class: "wb-compare-strip" },
    h("span", { class: "wb-quiet wb-number", text: name }),
    plane,
    h("span", { class: "wb-quiet wb-number", text: `${nats(most)} nat` }),
  );
}

/** Position of the largest value of every stretch. @param {(number | null)[]} values */
function peaksOf(values) {
  /** @type {number[]} */ const peaks = [];
  const count = Math.min(values.length, MOST_BARS);
  values.forEach((value, at) => {
    const stretch = Math.floor((at * count) / values.length);
    if (peaks[stretch] === undefined || (value ?? 0) > (values[peaks[stretch]] ?? 0)) peaks[stretch] = at;
  });
  return peaks;
}

/**
 * What each side held possible at the position that is looked at.
 * @param {{stores: any[], sides: Side[], model: any, differences: any, signal: AbortSignal}} spec
 */
export function candidates({ stores, sides, model, differences, signal }) {
  const root = h("div", { class: "wb-compare-candidates" });
  const said = h("p", { class: "wb-sr", role: "status" });
  const holder = h("div", {}, root, said);
  const show = () => {
    const position = model.get("position");
    const here = position === null ? [] : stores.map((store) => sideAt(store, position));
    root.hidden = here.every((one) => one === null);
    if (root.hidden) return;
    for (const store of stores) store.want(position, position + 1);
    const { pairs } = differences.value;
    const kl = pairs.flatMap((/** @type {Pair} */ pair, /** @type {number} */ i) =>
      pair.kl[position] === undefined
        ? []
        : [`KL(${sides[0].letter}‖${sides[i + 1].letter}) ${nats(pair.kl[position])} nat`],
    );
    const parted = firstDifference(pairs);
    const after =
      parted !== null && position > parted ? ["after the first difference: the texts before it are not the same"] : [];
    root.replaceChildren(
      h("h3", { text: [`Token ${position}`, ...kl, ...after].join(" · ") }),
      h("div", { class: "wb-compare-scroller" }, candidateTable(here, sides)),
    );
    said.textContent = [
      `Token ${position}`,
      ...here.map(
        (one, i) =>
          `${sides[i].letter}: ${one ? `${visible(one.token.label)} ${percentOf(one.token.logprob)}` : "ended"}`,
      ),
      ...kl,
    ].join(". ");
  };
  model.on("change:position", show);
  differences.listen(show);
  for (const store of stores)
    store.listen(
      (/** @type {any} */ change) => (change.kind === "alternatives" || change.kind === "reset") && show(),
      signal,
    );
  show();
  return holder;
}

/** @param {any} store @param {number} position */
function sideAt(store, position) {
  const token = store.tokens[position];
  return token ? { token, alternatives: store.alternatives(position) ?? [] } : null;
}

/** One row for each token that any side told of, the most probable first. @param {any[]} here @param {Side[]} sides */
function candidateTable(here, sides) {
  /** @type {Map<string, {label: string, shares: (number | null)[], picked: boolean[]}>} */ const rows = new Map();
  here.forEach((one, i) => {
    for (const item of one ? [one.token, ...one.alternatives] : []) {
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
