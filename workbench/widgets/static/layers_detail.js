// The chosen cell of a lens: its most probable tokens, and how the token that was said came up layer by layer.

import { h } from "./dom.js";
import { percent, visible } from "./format.js";
import { layersChart } from "./layers_chart.js";
import { LENS_NOTES, cellInWords, rankInWords } from "./layers_words.js";

/** @import { Cell, LayersStore, Word } from "./layers_store.js" */

/** @param {LayersStore} store @param {AbortSignal} signal */
export function layersDetail(store, signal) {
  const title = h("h3");
  const said = h("p", { class: "wb-layers-cell-said", role: "status" });
  const rows = h("tbody");
  const table = h(
    "table",
    { class: "wb-layers-words wb-number" },
    h("caption", { class: "wb-sr", text: "Most probable tokens after this layer" }),
    h("colgroup", {}, ...["wb-layers-rank", "", "wb-layers-share"].map((kind) => h("col", { class: kind }))),
    h(
      "thead",
      { class: "wb-sr" },
      h("tr", {}, ...["Rank", "Token", "Probability"].map((text) => h("th", { scope: "col", text }))),
    ),
    rows,
  );
  const note = h("p", { class: "wb-quiet wb-layers-note" });
  const chart = layersChart((layer) => store.current !== null && store.choose(store.current, layer));
  const content = h("div", {}, table, chart.root);
  let timer = 0;
  const show = () => {
    const position = store.current;
    const cells = position === null ? null : store.column(position);
    const token = position === null ? null : store.tokens[position];
    note.textContent = LENS_NOTES[store.kind];
    content.hidden = !cells;
    if (position === null || !token) {
      title.textContent = "No cell chosen";
      said.textContent = "Choose a cell: click it, or move with the arrow keys.";
      return;
    }
    const layer = store.layer;
    title.textContent = `Token ${position + 1}${cells ? `, after layer ${layer}` : ""}`;
    said.textContent = cells ? cellInWords(cells[layer], token) : "This column is not computed yet.";
    if (!cells) return;
    const words = store.words(position)?.[layer] ?? [cells[layer].top];
    rows.replaceChildren(...wordRows(cells[layer], words, { id: token.id, label: token.label }));
    chart.show(cells, layer, token.label);
  };
  // A held key chooses cells faster than they need to be described.
  const showSoon = () => {
    timer ||= window.requestAnimationFrame(() => {
      timer = 0;
      show();
    });
  };
  store.listen((change) => {
    const isHere = !change.positions || change.positions.includes(store.current ?? -1);
    if (change.kind !== "tokens" && isHere) showSoon();
  }, signal);
  signal.addEventListener("abort", () => window.cancelAnimationFrame(timer));
  show();
  return h("section", { class: "wb-layers-detail", "aria-label": "Chosen cell" }, title, said, content, note);
}

/** @param {Cell} cell @param {Word[]} words @param {{id: number, label: string}} token  that was said */
function wordRows(cell, words, token) {
  const ranked = words.map((word, i) => ({ ...word, rank: i + 1 }));
  const own = { ...token, probability: cell.probability, rank: cell.rank };
  const all = ranked.some(({ id }) => id === token.id) ? ranked : [...ranked, own];
  return all.map(({ id, label, probability, rank }) => {
    const fill = h("span", { class: "wb-fill" });
    fill.style.width = `${100 * probability}%`;
    return h(
      "tr",
      { class: id === token.id && "wb-layers-own", title: `id ${id}` },
      h("td", { text: rankInWords(rank) }),
      h(
        "td",
        {},
        h("code", { text: visible(label) }),
        id === token.id && h("span", { class: "wb-layers-tag", text: "said" }),
      ),
      h(
        "td",
        {},
        h("span", { class: "wb-track", "aria-hidden": "true" }, fill),
        h("span", { text: percent(probability) }),
      ),
    );
  });
}
