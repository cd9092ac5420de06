// Which model answers, and what it is: one select, one line of facts, and a card with the rest.

import { h, keepKeys, uniqueId } from "./dom.js";
import { byteSize, parameterCount } from "./format.js";

/**
 * @typedef {object} Card facts of one model; null where nobody knows
 * @property {string} value  what `value` becomes when it is chosen
 * @property {string} identifier
 * @property {string} provider_id
 * @property {string} provider_type
 * @property {string} source
 * @property {string} kind
 * @property {string | null} architecture
 * @property {number | null} parameters
 * @property {string | null} precision
 * @property {string | null} device
 * @property {number | null} context_length
 * @property {boolean} has_chat_template
 * @property {string | null} template_sha256
 * @property {string | null} tool_syntax
 * @property {string | null} licence
 * @property {boolean} loaded
 * @property {number | null} memory_bytes
 * @property {number | null} predicted_memory_bytes
 * @property {number | null} memory_limit_bytes
 *
 * @typedef {object} State of the widget model
 * @property {Card[]} cards
 * @property {string | null} value
 */

/** @param {{model: any, el: HTMLElement, signal: AbortSignal}} context */
function render({ model, el, signal }) {
  el.classList.add("wb-root", "wb-picker");
  keepKeys(el);
  const cardId = uniqueId("card");
  const select = h("select", { class: "wb-field wb-model", "aria-label": "Model" });
  const facts = h("span", { class: "wb-quiet wb-number wb-model-facts" });
  const disclose = h("button", { type: "button", class: "wb-button wb-ghost", "aria-expanded": "false", "aria-controls": cardId, text: "Card" });
  const card = h("dl", { class: "wb-card wb-number", id: cardId, hidden: true });
  el.append(h("div", { class: "wb-bar" }, select, facts, h("span", { class: "wb-spacer" }), disclose), card);

  const show = () => {
    const cards = /** @type {Card[]} */ (model.get("cards"));
    const value = model.get("value");
    select.replaceChildren(...groups(cards));
    select.value = value ?? "";
    select.disabled = cards.length === 0;
    const chosen = cards.find((item) => item.value === value);
    facts.replaceChildren(...(chosen ? factsLine(chosen) : ["No model is served."]));
    card.replaceChildren(...(chosen ? cardRows(chosen) : []));
    disclose.hidden = !chosen;
    el.setAttribute("data-wb-value", value ?? "");
  };
  select.addEventListener("change", () => {
    model.set("value", select.value);
    model.save_changes();
  });
  disclose.addEventListener("click", () => {
    card.hidden = !card.hidden;
    disclose.setAttribute("aria-expanded", String(!card.hidden));
  });
  model.on("change:cards", show);
  model.on("change:value", show);
  show();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** @param {Card[]} cards */
function groups(cards) {
  const byProvider = new Map();
  for (const card of cards) {
    if (!byProvider.has(card.provider_id)) byProvider.set(card.provider_id, h("optgroup", { label: card.provider_id }));
    byProvider.get(card.provider_id).append(h("option", { value: card.value, text: card.identifier }));
  }
  return [...byProvider.values()];
}

/** @param {Card} card @returns {(string | HTMLElement)[]} */
function factsLine(card) {
  const memory = card.loaded ? card.memory_bytes : card.predicted_memory_bytes;
  const facts = [
    card.parameters === null ? null : [strong(parameterCount(card.parameters))],
    card.precision === null ? null : [card.precision],
    card.context_length === null ? null : [`${card.context_length.toLocaleString("en-US")} context`],
    memory === null ? null : [card.loaded ? "" : "about ", strong(byteSize(memory)), limitOf(card)],
  ];
  const known = facts.filter((fact) => fact !== null);
  return known.flatMap((fact, i) => (i ? [" · ", ...fact] : fact));
}

/** @param {Card} card */
function limitOf(card) {
  const limit = card.memory_limit_bytes === null ? "" : ` of ${byteSize(card.memory_limit_bytes)}`;
  return card.loaded ? limit : `${limit} when loaded`;
}

/** @param {string} text */
function strong(text) {
  return h("b", { text });
}

/** @param {Card} card */
function cardRows(card) {
  const size = (/** @type {number | null} */ bytes) => (bytes === null ? null : byteSize(bytes));
  /** @type {[string, string | null][]} */
  const rows = [
    ["Provider", `${card.provider_id} (${card.provider_type})`],
    ["Weights from", card.source],
    ["Architecture", card.architecture],
    ["Parameters", card.parameters === null ? null : card.parameters.toLocaleString("en-US")],
    ["Precision", card.precision],
    ["Device", card.device],
    ["Context", card.context_length === null ? null : `${card.context_length.toLocaleString("en-US")} tokens`],
    ["Chat template", card.template_sha256 === null ? (card.has_chat_template ? "yes" : "no") : `SHA-256 ${card.template_sha256.slice(0, 12)}`],
    ["Tool calls", card.tool_syntax === "tool_prompt_format" ? "as the request asks" : card.tool_syntax],
    ["Licence", card.licence],
    ["Memory now", card.loaded ? size(card.memory_bytes) : "not loaded"],
    ["Memory predicted", size(card.predicted_memory_bytes)],
    ["Memory limit", size(card.memory_limit_bytes)],
  ];
  return rows.flatMap(([term, value]) => (value === null ? [] : [h("div", {}, h("dt", { text: term }), h("dd", { text: value }))]));
}

export default { render };
