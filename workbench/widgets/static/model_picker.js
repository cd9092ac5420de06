// The model picker: a select, a line of facts, a card with all facts, the models on this machine, and a form that
// registers another model.

import { requester, setter } from "./asking.js";
import { disclosure } from "./disclosure.js";
import { h } from "./dom.js";
import { errorLine } from "./error_line.js";
import { foundModels } from "./found_models.js";
import { parameterCount } from "./format.js";
import { cardRows, downloadInWords, memoryInWords } from "./model_facts.js";
import { registrationForm } from "./registration_form.js";
import { openRoot } from "./root.js";

/**
 * @import { AnyModel, RenderProps } from "@anywidget/types"
 * @import { Ask, Action } from "./asking.js"
 * @import { Card } from "./model_facts.js"
 *
 * @typedef {object} State of the widget model
 * @property {Card[]} cards
 * @property {string | null} value
 * @property {Provider[]} providers
 * @property {Registration} registration  state and text of the last change
 *
 * @typedef {object} Provider
 * @property {string} provider_id
 * @property {string} provider_type
 * @property {{value: string, text: string}[]} precisions  the default first; empty for a remote provider
 * @property {{value: string, text: string}[]} devices  the default first; empty where there is only the CPU
 *
 * @typedef {object} Registration
 * @property {"idle" | "working" | "done" | "failed"} state
 * @property {string} said
 * @property {string} [stage]  what is being done with the files of a model that is fetched
 * @property {number} [done]  bytes
 * @property {number | null} [total]  bytes; null if unknown
 *
 * @typedef {AnyModel<State>} Model
 *
 * Messages to the kernel: `{kind: "register", id, source, name, provider_id, precision, device}` and
 * `{kind: "unregister", id, value}`; each is answered by `{kind: "reply", id, error}` when it has started, and
 * `registration` has its progress. `{kind: "find", id}` is answered by `{kind: "found", models}` and a reply.
 */

/** @param {RenderProps<State>} context */
function render({ model, el, signal }) {
  openRoot({ model, el, signal }, "wb-picker");
  const select = h("select", { class: "wb-field wb-model", "aria-label": "Model" });
  const facts = h("span", { class: "wb-quiet wb-number wb-model-facts" });
  const rows = h("dl", { class: "wb-card wb-number" });
  const outcome = outcomeLine(model);
  const send = requester(model, signal, outcome.refuse);
  const request = (/** @type {Action} */ wish) => {
    outcome.dismiss();
    send(wish);
  };
  const removal = removalButtons(model, request);
  const card = h("div", {}, rows, removal.root);
  const disclose = disclosure(card, { "aria-label": "Model card", text: "Card" });
  const found = foundModels(model, request);
  const form = registrationForm(model, request, outcome.dismiss);
  el.append(
    h(
      "div",
      { class: "wb-bar" },
      select,
      facts,
      h("span", { class: "wb-picker-ends" }, disclose, found.opener, form.opener),
    ),
    card,
    found.root,
    form.root,
    outcome.root,
  );

  const show = () => {
    const cards = model.get("cards");
    const value = model.get("value");
    select.replaceChildren(...groups(cards));
    select.value = value ?? "";
    select.disabled = cards.length === 0;
    const chosen = cards.find((item) => item.value === value);
    facts.replaceChildren(...(chosen ? factsLine(chosen) : ["No model is served."]));
    rows.replaceChildren(...(chosen ? rowsOf(chosen) : []));
    disclose.hidden = !chosen;
    if (!chosen) card.hidden = true;
    removal.reset();
    el.setAttribute("data-wb-value", value ?? "");
  };
  const choose = setter(model, "value", signal);
  select.addEventListener("change", () => choose(select.value));
  model.on("change:cards", show);
  model.on("change:value", show);
  show();
  const showRegistration = () => {
    const { state } = model.get("registration");
    el.setAttribute("data-wb-registration", state);
    outcome.show();
    found.show();
    form.show();
    removal.show();
  };
  model.on("change:registration", showRegistration);
  showRegistration();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/** @param {Card[]} cards */
function groups(cards) {
  /** @type {Map<string, HTMLOptGroupElement>} */ const byProvider = new Map();
  for (const card of cards) {
    const group = byProvider.get(card.provider_id) ?? h("optgroup", { label: card.provider_id });
    group.append(h("option", { value: card.value, text: card.identifier }));
    byProvider.set(card.provider_id, group);
  }
  return [...byProvider.values()];
}

/** @param {Card} card @returns {(string | HTMLElement)[]} */
function factsLine(card) {
  const memory = memoryInWords(card);
  const facts = [
    card.parameters === null ? null : [h("b", { text: parameterCount(card.parameters) })],
    card.precision === null ? null : [card.precision],
    card.device === null || card.device === "cpu" ? null : [`on ${card.device}`],
    card.context_length === null ? null : [`${card.context_length.toLocaleString("en-US")}-token context`],
    memory === null ? null : [memory[0], h("b", { text: memory[1] }), memory[2]],
  ];
  return facts.filter((fact) => fact !== null).flatMap((fact, i) => (i ? [" · ", ...fact] : fact));
}

/** @param {Card} card */
function rowsOf(card) {
  return cardRows(card).map(({ term, value }) =>
    h("div", { class: term === "Notes" ? "wb-card-notes" : "" }, h("dt", { text: term }), h("dd", { text: value })),
  );
}

/** A line with the progress and the result of the last change, or the error of a request. @param {Model} model */
function outcomeLine(model) {
  const said = h("p", { class: "wb-quiet", role: "status" });
  const error = errorLine();
  const bar = h("progress", { class: "wb-download-bar", "aria-label": "Download" });
  const amount = h("span", { class: "wb-quiet wb-number" }); // outside of the status, which is read out at each change
  const download = h("div", { class: "wb-download", hidden: true }, bar, amount);
  const root = h("div", { class: "wb-outcome", hidden: true }, said, download, error.root);
  const showTexts = (/** @type {string} */ quiet, /** @type {string} */ loud) => {
    if (said.textContent !== quiet) said.textContent = quiet;
    error.show(loud);
    root.hidden = !quiet && !loud;
  };
  const show = () => {
    const registration = model.get("registration");
    const { state, said: words } = registration;
    showTexts(state === "failed" ? "" : words, state === "failed" ? words : "");
    download.hidden = state !== "working" || registration.stage === undefined;
    amount.textContent = downloadInWords(registration);
    if (registration.total) {
      bar.max = registration.total;
      bar.value = registration.done ?? 0;
    } else bar.removeAttribute("value");
  };
  return {
    root,
    show,
    refuse: (/** @type {string | null} */ text) => (text ? showTexts("", text) : show()),
    /** Remove the result of the last change; the progress of one that is running stays. */
    dismiss() {
      if (model.get("registration").state === "working") return;
      model.set("registration", { state: "idle", said: "" });
      model.save_changes();
      showTexts("", "");
    },
  };
}

/** A button that unregisters the model, with a confirmation. @param {Model} model @param {Ask} request */
function removalButtons(model, request) {
  const begin = h("button", { type: "button", class: "wb-button wb-ghost wb-unregister", text: "Unregister…" });
  const question = h("span", { class: "wb-quiet" });
  const confirm = h("button", { type: "button", class: "wb-button wb-confirm", text: "Unregister" });
  const keep = h("button", { type: "button", class: "wb-button wb-ghost", text: "Keep" });
  const asking = h("span", { class: "wb-asking", hidden: true }, question, confirm, keep);
  const ask = (/** @type {boolean} */ isOpen) => {
    asking.hidden = !isOpen;
    begin.hidden = isOpen;
  };
  begin.addEventListener("click", () => {
    question.textContent = `Unregister ${model.get("value")}? Its files stay.`;
    ask(true);
    keep.focus();
  });
  keep.addEventListener("click", () => {
    ask(false);
    begin.focus();
  });
  confirm.addEventListener("click", () => {
    request({ kind: "unregister", value: model.get("value") });
    ask(false);
    begin.focus();
  });
  return {
    root: h("div", { class: "wb-removal" }, begin, asking),
    reset: () => ask(false),
    show: () => {
      begin.disabled = model.get("registration").state === "working";
    },
  };
}

export default { render };
