// The weights of the chosen token as a table: the tokens that it attends to most.

import { restWords, strongest } from "./attention_words.js";
import { h } from "./dom.js";
import { percent, visible } from "./format.js";

/** @import { AttentionStore } from "./attention_store.js" */

/** @param {AttentionStore} store @param {AbortSignal} signal */
export function attentionTable(store, signal) {
  const title = h("h3");
  const body = h("tbody");
  const head = h("tr", {}, ...["#", "token", "weight"].map((text) => h("th", { scope: "col", text })));
  const table = h("table", {}, h("thead", {}, head), body);
  const scroller = h(
    "div",
    { class: "wb-weights-scroller", role: "region", tabindex: 0, "aria-label": "Attention weights" },
    table,
  );
  const rest = h("p", { class: "wb-quiet wb-number" });
  const root = h("div", { class: "wb-weights" }, title, scroller, rest);
  const show = () => {
    const { row } = store;
    root.hidden = row === null;
    if (!row) return;
    const keys = strongest(row.weights);
    title.textContent = `What token ${row.position + 1} attends to`;
    body.replaceChildren(...keys.map((key) => weightRow(store, key, row.weights[key] ?? 0)));
    rest.textContent = restWords(row.weights, keys);
  };
  store.listen(show, signal);
  show();
  return root;
}

/** @param {AttentionStore} store @param {number} key @param {number} weight */
function weightRow(store, key, weight) {
  const fill = h("span", { class: "wb-fill" });
  fill.style.width = `${100 * weight}%`;
  return h(
    "tr",
    {},
    h("td", { text: String(key + 1) }),
    h("td", {}, h("code", { text: visible(store.label(key)) })),
    h(
      "td",
      {},
      h(
        "span",
        { class: "wb-weight" },
        h("span", { class: "wb-track", "aria-hidden": "true" }, fill),
        h("span", { text: percent(weight) }),
      ),
    ),
  );
}
