// The choices for the next run of a comparison: model, precision and sampling settings of each side.

import { h } from "./dom.js";

/**
 * @import { AnyModel, Host } from "@anywidget/types"
 * @import { Ask } from "./asking.js"
 *
 * @typedef {{value: string, provider_id: string, precision: string | null, precisions: string[]}} Choosable
 * @typedef {{model: string, precision: string}} Choice  precision "" is the one in which the model is served
 *
 * @typedef {object} SetupState
 * @property {Choosable[]} models
 * @property {Choice[]} choices
 * @property {string[]} controls  references of the sampling controls, one for each side
 *
 * @typedef {{root: HTMLElement, show: (index: number) => void, end: () => void}} Row
 */

const LETTERS = "ABCDEF";
const MOST_SIDES = 4;

/**
 * @param {AnyModel<any>} anyModel  with a `SetupState` @param {Host} host @param {AbortSignal} signal @param {Ask} ask
 */
export function sidesSetup(anyModel, host, signal, ask) {
  const model = /** @type {AnyModel<SetupState>} */ (anyModel);
  /** By the reference of their controls, so that a row stays when others are added or removed. @type {Map<string, Row>} */
  const rows = new Map();
  const list = h("div", { class: "wb-compare-choices" });
  const add = h("button", {
    type: "button",
    class: "wb-button wb-toggle wb-compare-add",
    text: "Add side",
    on: { click: () => ask({ kind: "add" }) },
  });
  const indexOf = (/** @type {string} */ ref) => model.get("controls").indexOf(ref);
  const show = () => {
    const refs = model.get("controls");
    if (refs.length !== model.get("choices").length) return; // the update of the other list follows
    for (const [ref, row] of rows) {
      if (refs.includes(ref)) continue;
      row.end();
      rows.delete(ref);
    }
    refs.forEach((ref, i) => {
      if (!rows.has(ref)) {
        const row = sideRow(model, host, ref, signal, { index: () => indexOf(ref), ask });
        rows.set(ref, row);
        list.append(row.root);
      }
      rows.get(ref)?.show(i);
    });
    add.disabled = refs.length >= MOST_SIDES;
    add.title = add.disabled ? `At most ${MOST_SIDES} sides` : "Adds a side with the choices of the last one";
  };
  for (const name of /** @type {const} */ (["controls", "choices", "models"])) model.on(`change:${name}`, show);
  show();
  return h("div", { class: "wb-compare-setup", role: "group", "aria-label": "Sides of the next run" }, list, add);
}

/**
 * @param {AnyModel<SetupState>} model @param {Host} host @param {string} ref  of the side's controls
 * @param {AbortSignal} signal @param {{index: () => number, ask: Ask}} spec
 * @returns {Row}
 */
function sideRow(model, host, ref, signal, { index, ask }) {
  const choose = (/** @type {Partial<Choice>} */ part) =>
    ask({ kind: "choose", side: index(), ...model.get("choices")[index()], ...part });
  const letter = h("span", { class: "wb-compare-letter" });
  const select = h("select", { class: "wb-field wb-compare-model" });
  select.addEventListener("change", () => choose({ model: select.value, precision: "" }));
  const precision = h("select", { class: "wb-field wb-compare-precision" });
  precision.addEventListener("change", () => choose({ precision: precision.value }));
  const remove = h("button", {
    type: "button",
    class: "wb-button wb-ghost wb-compare-remove",
    text: "Remove",
    on: { click: () => ask({ kind: "remove", side: index() }) },
  });
  const settings = h("div", { class: "wb-slot wb-compare-sampling" });
  const root = h("div", { class: "wb-compare-choice", role: "group" }, letter, select, precision, settings, remove);
  const controller = new AbortController();
  signal.addEventListener("abort", () => controller.abort(), { signal: controller.signal });
  void host.getWidget(ref).then((part) => {
    if (!controller.signal.aborted) return part.render({ el: settings, signal: controller.signal });
  });
  return {
    root,
    /** @param {number} at */
    show(at) {
      const choice = model.get("choices")[at];
      const served = model.get("models").find(({ value }) => value === choice.model);
      const name = `Side ${LETTERS[at]}`;
      letter.textContent = LETTERS[at];
      root.setAttribute("aria-label", name);
      select.setAttribute("aria-label", `Model of ${name.toLowerCase()}`);
      fill(
        select,
        model.get("models").map(({ value }) => ({ value, text: value })),
        choice.model,
      );
      precision.setAttribute("aria-label", `Precision of ${name.toLowerCase()}`);
      const others = (served?.precisions ?? []).map((value) => ({ value, text: value }));
      fill(precision, [{ value: "", text: served?.precision ?? "as served" }, ...others], choice.precision);
      precision.disabled = others.length === 0;
      remove.setAttribute("aria-label", `Remove ${name.toLowerCase()}`);
      remove.hidden = model.get("choices").length <= 2;
    },
    end() {
      controller.abort();
      root.remove();
    },
  };
}

/** @param {HTMLSelectElement} select @param {{value: string, text: string}[]} options @param {string} value */
function fill(select, options, value) {
  select.replaceChildren(...options.map((option) => h("option", option)));
  select.value = value;
}
