// The sampling controls. One that the strategy ignores is disabled, and its help text gives the reason; an invalid
// value is explained beside its field, and the last valid one still applies.

import { setter } from "./asking.js";
import { h, segments, uniqueId } from "./dom.js";
import { openRoot } from "./root.js";
import {
  STRATEGIES,
  biasIn,
  biasWritten,
  isAllowed,
  numberIn,
  rounded,
  seedIn,
  stopError,
  stopIn,
  written,
} from "./sampling_fields.js";
import { samplingHead } from "./sampling_head.js";

/**
 * @import { AnyModel, RenderProps } from "@anywidget/types"
 * @import { Field, Limits, Params } from "./sampling_fields.js"
 *
 * @typedef {object} State of the widget model
 * @property {Params} params
 * @property {Record<string, Partial<Params>>} presets  by name
 * @property {Partial<Params>} recommended  by the files of the model; empty for none
 * @property {Partial<Params>} neutral  the values of abilities that are off, for what the model recommends nothing for
 * @property {string} code  the Python expression for the params
 * @property {Field[]} fields
 * @property {Limits} limits
 * @property {boolean} expanded  whether the controls are shown instead of a summary
 *
 * @typedef {AnyModel<State>} Model
 */

const STRATEGY_NAMES = { greedy: "greedy", top_p: "top-p", top_k: "top-k" };

/** @param {RenderProps<State>} context */
function render({ model, el, signal }) {
  openRoot({ model, el, signal }, "wb-controls");
  const set = setter(model, "params", signal);
  const change = (/** @type {Partial<Params>} */ part) => set({ ...model.get("params"), ...part });
  const strategy = segments({
    label: "Strategy",
    options: STRATEGIES,
    onChange: (value) => change({ strategy: value }),
  });
  const fields = model.get("fields").map((field) => {
    const control = field.range.max_entries === undefined ? numberControl : biasControl;
    return control(field, (/** @type {unknown} */ value) => change({ [field.name]: value }));
  });
  const seed = seedControl(model.get("limits"), change);
  const stop = stopControl(model.get("limits"), () => model.get("params").stop, change);
  const body = h(
    "div",
    { class: "wb-bar wb-sampling", id: uniqueId("sampling"), role: "group", "aria-label": "Sampling" },
    strategy.root,
    ...fields.map((field) => field.root),
    seed.root,
    stop.root,
  );
  const head = samplingHead(model, body, change);
  el.append(head.root, body);
  const show = () => {
    const params = model.get("params");
    strategy.set(params.strategy);
    for (const part of [...fields, seed, stop]) part.show(params);
    head.show(params);
    el.setAttribute("data-wb-strategy", params.strategy);
  };
  model.on("change:params", show);
  show();
  signal.addEventListener("abort", () => el.replaceChildren());
}

/**
 * Return the elements that all controls have: a label, a help text and an error message.
 * @param {string} label @param {string} help
 */
function control(label, help) {
  const inputId = uniqueId("input");
  const helpId = uniqueId("help");
  const errorId = uniqueId("error");
  const message = h("span", { class: "wb-message", id: errorId, role: "alert" });
  const helpText = h("span", { class: "wb-sr", id: helpId, text: help });
  const name = h("label", { class: "wb-quiet", for: inputId, text: label });
  const root = h("div", { class: "wb-control", title: help }, name, helpText);
  return {
    root,
    message,
    attributes: { id: inputId, "aria-describedby": `${helpId} ${errorId}` },
    /** @param {string} text */
    setHelp(text) {
      helpText.textContent = text;
      root.title = text;
    },
    /** @param {HTMLElement} input @param {string} text */
    setError(input, text) {
      message.textContent = text;
      if (text) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    },
  };
}

/** @param {Field} field @param {(value: number) => void} onChange */
function numberControl(field, onChange) {
  const { root, message, attributes, setHelp, setError } = control(field.label, field.help);
  const input = h("input", {
    ...attributes,
    type: "text",
    inputmode: field.decimals ? "decimal" : "numeric",
    class: "wb-field wb-amount",
    autocomplete: "off",
  });
  const slider = field.slider
    ? h("input", {
        type: "range",
        class: "wb-slider",
        "aria-label": `${field.label}, slider`,
        min: field.slider[0],
        max: field.slider[1],
        step: "any",
      })
    : null;
  root.append(...[slider, input, message].filter((part) => part !== null));
  let good = 0;

  const set = (/** @type {number} */ value) => {
    setError(input, "");
    if (value !== good) onChange(value);
  };
  input.addEventListener("input", () => {
    const value = numberIn(input.value);
    if (value !== null && isAllowed(value, field)) set(value);
    else setError(input, `Enter ${field.allowed}. Keeping ${good}.`);
  });
  input.addEventListener("change", () => !input.hasAttribute("aria-invalid") && (input.value = written(good, field)));
  input.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const next = rounded(good + (event.key === "ArrowUp" ? field.step : -field.step));
      if (isAllowed(next, field)) {
        set(next);
        input.value = written(next, field);
      }
    } else if (event.key === "Escape" && input.hasAttribute("aria-invalid")) {
      setError(input, "");
      input.value = written(good, field);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  slider?.addEventListener("input", () => set(rounded(Number(slider.value), field.decimals)));

  return {
    root,
    /** @param {Params} params */
    show(params) {
      const value = params[field.name];
      const isNew = value !== good;
      good = value;
      // Do not replace text that has the same value while the user types ("0." on the way to "0.5").
      if (isNew || input.value === "") {
        if (numberIn(input.value) !== value) input.value = written(value, field);
        setError(input, "");
      }
      if (slider) slider.value = String(value);
      const isUsed = field.usedBy.includes(params.strategy);
      root.classList.toggle("wb-off", !isUsed);
      input.disabled = !isUsed;
      if (slider) slider.disabled = !isUsed;
      setHelp(isUsed ? field.help : `Not used by ${STRATEGY_NAMES[params.strategy]}. ${field.help}`);
    },
  };
}

/** @param {Field} field @param {(value: Record<string, number>) => void} onChange */
function biasControl(field, onChange) {
  return textControl({
    ...field,
    help: `${field.help} Such as 50: -100, 7: 2.5.`,
    input: { class: "wb-field wb-stop-text wb-bias", placeholder: "id: number, …" },
    parse: (text) => biasIn(text, field),
    write: (params) => biasWritten(params[field.name]),
    explain: (good) => `Enter ${field.allowed}, such as 50: -100, 7: 2.5. Keeping ${good || "none"}.`,
    onChange,
  });
}

/** @param {Limits} limits @param {(part: Partial<Params>) => void} change */
function seedControl(limits, change) {
  return textControl({
    name: "seed",
    label: "Seed",
    help: "The same request with the same seed gives the same tokens. Empty: a random seed for each run.",
    input: { class: "wb-field wb-amount", placeholder: "random", inputmode: "numeric" },
    parse: (text) => seedIn(text, limits),
    write: (params) => params.seed ?? "",
    explain: (good) => `Enter a whole number, 0 or above, or leave it empty. Keeping ${good || "it empty"}.`,
    onChange: (seed) => change({ seed }),
  });
}

/**
 * Return the control of a value that is written as text.
 * @template Value
 * @param {object} options
 * @param {string} options.name  name of the parameter
 * @param {string} options.label
 * @param {string} options.help
 * @param {Record<string, string>} options.input  attributes of the text field
 * @param {(text: string) => Value | undefined} options.parse  returns undefined for an invalid text
 * @param {(params: Params) => string} options.write
 * @param {(good: string) => string} options.explain  returns the error message
 * @param {(value: Value) => void} options.onChange
 */
function textControl({ name, label, help, input: look, parse, write, explain, onChange }) {
  const { root, message, attributes, setError } = control(label, help);
  const input = h("input", { ...attributes, ...look, type: "text", autocomplete: "off" });
  root.append(input, message);
  let good = "";
  input.addEventListener("input", () => {
    const value = parse(input.value);
    setError(input, value === undefined ? explain(good) : "");
    if (value !== undefined) onChange(value);
  });
  return {
    root,
    /** @param {Params} params */
    show(params) {
      const next = write(params);
      if (next === good) return;
      // Do not replace text that has the same value while the user types.
      const typed = parse(input.value);
      if (typed === undefined || write({ ...params, [name]: typed }) !== next) input.value = next;
      setError(input, "");
      good = next;
    },
  };
}

/** @param {Limits} limits @param {() => string[]} current @param {(part: Partial<Params>) => void} change */
function stopControl(limits, current, change) {
  const help = "Generation ends before the first of these texts. Type one and press Enter; \\n is a new line.";
  const { root, message, attributes, setError } = control("Stop strings", help);
  const chips = h("span", { class: "wb-chips", role: "list", "aria-label": "Stop strings" });
  const input = h("input", {
    ...attributes,
    type: "text",
    class: "wb-field wb-stop-text",
    placeholder: "text, Enter",
    autocomplete: "off",
  });
  root.append(chips, input, message);
  const add = () => {
    const text = stopIn(input.value);
    const stops = current();
    const error = stopError(text, stops, limits);
    setError(input, error);
    if (error || text === "") return;
    input.value = "";
    if (!stops.includes(text)) change({ stop: [...stops, text] });
  };
  input.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter") {
      add();
      event.preventDefault();
    } else if (event.key === "Backspace" && input.value === "" && current().length)
      change({ stop: current().slice(0, -1) });
  });
  input.addEventListener("change", add);
  return {
    root,
    /** @param {Params} params */
    show(params) {
      chips.hidden = params.stop.length === 0;
      chips.replaceChildren(
        ...params.stop.map((text, i) => {
          const quoted = JSON.stringify(text);
          const remove = h("button", {
            type: "button",
            class: "wb-remove",
            "aria-label": `Remove ${quoted}`,
            text: "×",
            on: { click: () => change({ stop: params.stop.filter((_, k) => k !== i) }) },
          });
          return h("span", { class: "wb-chip", role: "listitem" }, h("code", { text: quoted }), remove);
        }),
      );
    },
  };
}

export default { render };
