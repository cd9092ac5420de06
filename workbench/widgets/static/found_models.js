// The models on this machine that other programs have downloaded: a list from which each can be served.

import { disclosure } from "./disclosure.js";
import { h } from "./dom.js";
import { byteSize, parameterCount } from "./format.js";

/**
 * @import { Ask } from "./asking.js"
 * @import { Model } from "./model_picker.js"
 *
 * @typedef {object} Found  a model on the disk; null where unknown
 * @property {string} name
 * @property {string} place
 * @property {"gguf" | "safetensors"} format
 * @property {string} path
 * @property {string | null} architecture
 * @property {number | null} parameters
 * @property {string | null} precision
 * @property {number} size_bytes
 * @property {string | null} fits_in
 * @property {number | null} memory_bytes
 * @property {string} problem  why it cannot be served, or ""
 */

/**
 * The list, and the button that opens it; the models are looked for each time it is opened.
 * @param {Model} model @param {Ask} request
 */
export function foundModels(model, request) {
  const said = h("p", { class: "wb-quiet", role: "status" });
  const list = h("ul", { class: "wb-found", tabindex: "0", "aria-label": "Models on this machine" });
  const root = h("div", { class: "wb-found-panel", role: "group", "aria-label": "On this machine" }, said, list);
  const opener = disclosure(root, { class: "wb-ghost wb-find", text: "On this machine…" });
  const local = model.get("providers").find((one) => one.precisions.length > 0);
  opener.hidden = local === undefined;
  /** @type {HTMLButtonElement[]} */ let buttons = [];

  opener.addEventListener("click", () => {
    if (root.hidden) return;
    said.textContent = "Looking for models …";
    request({ kind: "find" });
  });
  const serve = (/** @type {Found} */ found) =>
    request({
      kind: "register",
      ...registered(found),
      provider_id: local?.provider_id ?? null,
    });
  const show = () => {
    const isBusy = model.get("registration").state === "working";
    for (const button of buttons) button.disabled = isBusy;
  };
  model.on("msg:custom", (/** @type {{kind: string, models: Found[]}} */ message) => {
    if (message.kind !== "found") return;
    buttons = [];
    list.replaceChildren(
      ...servableFirst(message.models).map((found) => {
        const action = h("button", { type: "button", class: "wb-button", text: "Serve" });
        action.setAttribute("aria-label", `Serve ${found.name}`);
        action.disabled = found.problem !== "";
        if (!found.problem) buttons.push(action);
        action.addEventListener("click", () => serve(found));
        return row(found, action);
      }),
    );
    said.textContent = summary(message.models);
    show();
  });
  return { opener, root, show };
}

/**
 * Source, name and precision to register a model with: a GGUF file keeps its own precision, and a file of Ollama, which
 * is named by its digest, its name there.
 *
 * @param {Found} found
 */
export function registered(found) {
  if (found.format !== "gguf") {
    return { source: found.name, name: "", precision: found.fits_in === "float32" ? null : found.fits_in };
  }
  return { source: found.place === "Ollama" ? found.name : found.path, name: "", precision: null };
}

/** @param {Found} found @param {HTMLElement} action */
function row(found, action) {
  const text = h(
    "div",
    { class: "wb-found-text" },
    h("b", { text: found.name }),
    h("span", { class: "wb-quiet wb-number", text: factsInWords(found) }),
    found.problem && h("span", { class: "wb-found-problem", text: found.problem }),
  );
  return h("li", {}, text, action);
}

/** Return the facts of a model in one line. @param {Found} found */
export function factsInWords({ place, architecture, parameters, precision, size_bytes, fits_in, memory_bytes }) {
  const facts = [
    place === "model_folders" ? "your folders" : place,
    architecture,
    parameters === null ? null : parameterCount(parameters),
    precision,
    byteSize(size_bytes),
    memory_bytes === null ? null : fitInWords(fits_in, precision, memory_bytes),
  ];
  return facts.filter((fact) => fact !== null).join(" · ");
}

/** @param {string | null} fitsIn @param {string | null} precision @param {number} memory */
function fitInWords(fitsIn, precision, memory) {
  if (fitsIn === null) return "too large for this machine's memory";
  return fitsIn === precision ? "fits in memory" : `about ${byteSize(memory)} in ${fitsIn}`;
}

/** @param {Found[]} models */
function servableFirst(models) {
  return [...models].sort((one, other) => Number(one.problem !== "") - Number(other.problem !== ""));
}

/** @param {Found[]} models */
function summary(models) {
  if (models.length === 0) return "No models of Ollama, LM Studio, Hugging Face or llama.cpp were found.";
  const servable = models.filter((found) => !found.problem).length;
  return `${models.length} found, ${servable} of which can be served.`;
}
