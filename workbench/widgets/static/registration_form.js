// The form that registers a model.

import { h, uniqueId } from "./dom.js";

/**
 * @import { Ask } from "./asking.js"
 * @import { Model } from "./model_picker.js"
 */

/**
 * The form with source, name, provider, precision and device, and the button that opens it.
 * @param {Model} model @param {Ask} request @param {() => void} dismiss
 */
export function registrationForm(model, request, dismiss) {
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
      placeholder: "folder, file or hub id",
    }),
  );
  const name = field(
    "Name",
    h("input", {
      class: "wb-field",
      type: "text",
      spellcheck: "false",
      autocomplete: "off",
      placeholder: "optional",
    }),
  );
  const providers = model
    .get("providers")
    .map((one) => h("option", { value: one.provider_id, text: `${one.provider_id} (${one.provider_type})` }));
  const provider = field("Provider", h("select", { class: "wb-field" }, ...providers));
  const precision = field("Precision", h("select", { class: "wb-field" }));
  const device = field("Device", h("select", { class: "wb-field" }));
  const showChoices = () => {
    const chosen = model.get("providers").find((one) => one.provider_id === provider.input.value);
    offer(precision, chosen?.precisions);
    offer(device, chosen?.devices);
  };
  provider.input.addEventListener("change", showChoices);
  showChoices();
  const submit = h("button", { type: "button", class: "wb-button wb-primary", text: "Register" });
  const help = h("p", {
    class: "wb-quiet wb-register-help",
    text: "The source is a catalog name, a folder, a GGUF file or a hub id; +./adapter after it adds a LoRA adapter. Missing weights are downloaded. float32 keeps the weights exact; the other precisions are smaller and faster but round them. Too large for this machine? You will see what fits.",
  });
  const root = h(
    "div",
    { class: "wb-register-form", id: formId, role: "group", "aria-label": "Register a model", hidden: true },
    source.root,
    name.root,
    provider.root,
    precision.root,
    device.root,
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
        precision: precision.input.value || null,
        device: device.input.value || null,
      });
  };
  const openByHand = (/** @type {boolean} */ isOpen) => {
    dismiss();
    open(isOpen);
  };
  opener.addEventListener("click", () => openByHand(Boolean(root.hidden)));
  opener.hidden = providers.length === 0;
  submit.addEventListener("click", send);
  root.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Escape") openByHand(false);
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

/**
 * Show the choices of a select, or hide it where there are none.
 * @param {{root: HTMLElement, input: HTMLSelectElement}} field @param {{value: string, text: string}[]} [choices]
 */
function offer({ root, input }, choices = []) {
  input.replaceChildren(...choices.map(({ value, text }) => h("option", { value, text })));
  root.hidden = choices.length === 0;
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
