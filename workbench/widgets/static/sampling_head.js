// The line above the sampling controls: a button that hides them, a summary while they are hidden, presets and code.

import { copyButton, h } from "./dom.js";
import { presetOf, recommendedInWords, settingsInWords } from "./sampling_fields.js";

/**
 * @import { Model } from "./sampling_controls.js"
 * @import { Params } from "./sampling_fields.js"
 */

/**
 * @param {Model} model @param {HTMLElement} body  the controls that are hidden
 * @param {(part: Partial<Params>) => void} change
 */
export function samplingHead(model, body, change) {
  const copy = copyButton("Copy as code", () => model.get("code"));
  const fold = foldButton(model, [body, copy]);
  const preset = presetControl(model, change);
  const own = ownButton(model, change);
  return {
    root: h(
      "div",
      { class: "wb-bar" },
      fold.root,
      fold.settings,
      h("span", { class: "wb-spacer" }),
      own.root,
      preset.root,
      copy,
    ),
    /** @param {Params} params */
    show(params) {
      fold.show(params);
      preset.show(params);
      own.show(params);
    },
  };
}

/**
 * Return the button that shows or hides the controls, and the summary of their settings while they are hidden.
 * @param {Model} model @param {[HTMLElement, HTMLElement]} folded
 */
function foldButton(model, folded) {
  const settings = h("span", { class: "wb-quiet wb-number wb-settings" });
  const root = h("button", {
    type: "button",
    class: "wb-button wb-ghost wb-fold",
    "aria-controls": folded[0].id,
    text: "Sampling",
    on: {
      click() {
        model.set("expanded", !model.get("expanded"));
        model.save_changes();
      },
    },
  });
  const showFold = () => {
    const isOpen = model.get("expanded");
    root.setAttribute("aria-expanded", String(isOpen));
    for (const part of folded) part.hidden = !isOpen;
    settings.hidden = isOpen;
  };
  model.on("change:expanded", showFold);
  showFold();
  return {
    root,
    settings,
    /** @param {Params} params */
    show(params) {
      settings.textContent = settingsInWords(params, model.get("fields"));
    },
  };
}

/**
 * Return the button that applies what the model's own files recommend; hidden if they recommend nothing.
 * @param {Model} model @param {(part: Partial<Params>) => void} change
 */
function ownButton(model, change) {
  const root = h("button", {
    type: "button",
    class: "wb-button wb-ghost wb-own",
    title: "Apply the sampling settings that the model's files recommend. They are never applied by themselves.",
    on: { click: () => change({ ...model.get("neutral"), ...model.get("recommended") }) },
  });
  const show = (/** @type {Params} */ params) => {
    const recommended = model.get("recommended");
    root.hidden = Object.keys(recommended).length === 0;
    root.textContent = `Model's own: ${recommendedInWords(recommended)}`;
    const applied = presetOf({ own: { ...model.get("neutral"), ...recommended } }, params);
    root.setAttribute("aria-pressed", String(applied === "own"));
  };
  model.on("change:recommended", () => show(model.get("params")));
  return { root, show };
}

/** @param {Model} model @param {(part: Partial<Params>) => void} change */
function presetControl(model, change) {
  const select = h("select", { class: "wb-field wb-ghost wb-preset", "aria-label": "Preset" });
  const presets = model.get("presets");
  select.append(
    h("option", { value: "", text: "Preset", disabled: true }),
    ...Object.keys(presets).map((name) => h("option", { value: name, text: name })),
  );
  select.addEventListener("change", () => change(presets[select.value]));
  return {
    root: select,
    /** @param {Params} params */
    show(params) {
      select.value = presetOf(presets, params);
    },
  };
}
