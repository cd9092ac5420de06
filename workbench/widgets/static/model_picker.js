// Which model answers, and what it is: one select, one line of facts, a card with the rest, and a form for one more.

import { requester } from "./asking.js";
import { h, uniqueId } from "./dom.js";
import { parameterCount } from "./format.js";
import { cardRows, memoryInWords } from "./model_facts.js";
import { openRoot } from "./root.js";

/**
 * @import { AnyModel, RenderProps } from "@anywidget/types"
 * @import { Ask } from "./asking.js"
 * @import { Card } from "./model_facts.js"
 *
 * @typedef {object} State of the widget model
 * @property {Card[]} cards
 * @property {string | null} value
 * @property {{provider_id: string, provider_type: string}[]} providers
 * @property {Registration} registration  the last change, and what came of it
 *
 * @typedef {{state: "idle" | "working" | "done" | "failed", said: string}} Registration
 * @typedef {AnyModel<State>} Model
 *
 * Messages to the kernel: `{kind: "register", id, source, name, provider_id}` and `{kind: "unregister", id, value}`; each is
 * answered by `{kind: "reply", id, error}` when it has begun, and `registration` tells the rest.
 */

/** @param {RenderProps<State>} context */
function render({ model, el, signal }) {
  openRoot({ model, el, signal }, "wb-picker");
  const cardId = uniqueId("card");
  const select = h("select", { class: "wb-field wb-model", "aria-label": "Model" });
  const facts = h("span", { class: "wb-quiet wb-number wb-model-facts" });
  const disclose = h("button", {
    type: "button",
    class: "wb-button wb-ghost",
    "aria-expanded": "false",
    "aria-controls": cardId,
    text: "Card",
  });
  const rows = h("dl", { class: "wb-card wb-number" });
  const outcome = outcomeLine(model);
  const request = requester(model, signal, outcome.refuse);
  const removal = removalButtons(model, request);
  const card = h("div", { id: cardId, hidden: true }, rows, removal.root);
  const form = registrationForm(model, request);
  el.append(
    h("div", { class: "wb-bar" }, select, facts, h("span", { class: "wb-spacer" }), disclose, form.opener),
    card,
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
  const showRegistration = () => {
    const { state } = model.get("registration");
    el.setAttribute("data-wb-registration", state);
    outcome.show();
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
    card.context_length === null ? null : [`${card.context_length.toLocaleString("en-US")} context`],
    memory === null ? null : [memory[0], h("b", { text: memory[1] }), memory[2]],
  ];
  return facts.filter((fact) => fact !== null).flatMap((fact, i) => (i ? [" · ", ...fact] : fact));
}

/** @param {Card} card */
function rowsOf(card) {
  return cardRows(card).map(({ term, value }) => h("div", {}, h("dt", { text: term }), h("dd", { text: value })));
}

/** What is going on, and what came of it; a refusal at once is said in the same place. @param {Model} model */
function outcomeLine(model) {
  const said = h("p", { class: "wb-quiet", role: "status" });
  const error = h("p", { class: "wb-message", role: "alert", hidden: true });
  const root = h("div", { class: "wb-outcome", hidden: true }, said, error);
  const tell = (/** @type {string} */ quiet, /** @type {string} */ loud) => {
    said.textContent = quiet;
    error.textContent = loud;
    error.hidden = !loud;
    root.hidden = !quiet && !loud;
  };
  const show = () => {
    const { state, said: words } = model.get("registration");
    tell(state === "failed" ? "" : words, state === "failed" ? words : "");
  };
  return { root, show, refuse: (/** @type {string | null} */ text) => (text ? tell("", text) : show()) };
}

/** Taking a model back asks once more. @param {Model} model @param {Ask} request */
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
    question.textContent = `Serve ${model.get("value")} no longer? Its files stay.`;
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

/** Source, name and provider of one more model. @param {Model} model @param {Ask} request */
function registrationForm(model, request) {
  const formId = uniqueId("register");
  const opener = h("button", {
    type: "button",
    class: "wb-button wb-ghost wb-register",
    "aria-expanded": "false",
    "aria-controls": formId,
    text: "Register…",
  });
  const source = field(
    "Source",
    h("input", {
      class: "wb-field",
      type: "text",
      spellcheck: "false",
      autocomplete: "off",
      placeholder: "catalog name, folder or hub id",
    }),
  );
  const name = field(
    "Name",
    h("input", {
      class: "wb-field",
      type: "text",
      spellcheck: "false",
      autocomplete: "off",
      placeholder: "the source's own",
    }),
  );
  const providers = model
    .get("providers")
    .map((one) => h("option", { value: one.provider_id, text: `${one.provider_id} (${one.provider_type})` }));
  const provider = field("Provider", h("select", { class: "wb-field" }, ...providers));
  const submit = h("button", { type: "button", class: "wb-button wb-primary", text: "Register" });
  const help = h("p", {
    class: "wb-quiet wb-register-help",
    text: "Weights that are not here yet are fetched. What could not fit this machine's memory is refused, with what would.",
  });
  const root = h(
    "div",
    { class: "wb-register-form", id: formId, role: "group", "aria-label": "Registration", hidden: true },
    source.root,
    name.root,
    provider.root,
    submit,
    help,
  );
  const open = (/** @type {boolean} */ isOpen) => {
    root.hidden = !isOpen;
    opener.setAttribute("aria-expanded", String(isOpen));
    (isOpen ? source.input : opener).focus();
  };
  const send = () => {
    if (!submit.disabled)
      request({
        kind: "register",
        source: source.input.value,
        name: name.input.value,
        provider_id: provider.input.value || null,
      });
  };
  opener.addEventListener("click", () => open(Boolean(root.hidden)));
  opener.hidden = providers.length === 0;
  submit.addEventListener("click", send);
  root.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Escape") open(false);
    else if (event.key === "Enter" && event.target !== submit) send();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  let before = model.get("registration").state;
  return {
    opener,
    root,
    show() {
      const { state } = model.get("registration");
      submit.disabled = state === "working";
      submit.textContent = state === "working" ? "Registering …" : "Register";
      if (before === "working" && state === "done" && !root.hidden) {
        source.input.value = name.input.value = "";
        open(false);
      }
      before = state;
    },
  };
}

/** @template {HTMLInputElement | HTMLSelectElement} Input @param {string} label @param {Input} input */
function field(label, input) {
  input.id = uniqueId("field");
  return {
    input,
    root: h(
      "div",
      { class: "wb-register-field" },
      h("label", { class: "wb-quiet", for: input.id, text: label }),
      input,
    ),
  };
}

export default { render };
