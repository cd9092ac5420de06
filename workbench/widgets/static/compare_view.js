// The comparison view: the prompt and the sides of the next run, and the results of the runs shown.

import { codeFold } from "./code_panel.js";
import { compareResults } from "./compare_results.js";
import { sidesSetup } from "./compare_setup.js";
import { h } from "./dom.js";
import { traitBox } from "./prompt_box.js";
import { openRoot } from "./root.js";
import { runForm } from "./run_form.js";

/**
 * @import { AnyModel, Host, RenderProps } from "@anywidget/types"
 * @import { Choice, Choosable } from "./compare_setup.js"
 * @import { Side } from "./compare_detail.js"
 * @import { Differences } from "./compare_differences.js"
 *
 * @typedef {object} State of the widget model
 * @property {string[]} feeds  references of the run feeds, the reference run's first
 * @property {Side[]} sides  sides shown
 * @property {Choosable[]} models
 * @property {Choice[]} choices  choices for the next run
 * @property {string[]} controls  references of their sampling controls
 * @property {string} code  the Python call that reproduces what is shown
 * @property {string} common  sampling parameters that all sides share, in words
 * @property {string} prompt
 * @property {Differences} differences
 * @property {number | null} position  the selected position
 *
 * @typedef {AnyModel<State>} Model
 *
 * Messages to the kernel: `{kind: "run", id}`, `{kind: "stop", id}`, `{kind: "add", id}`,
 * `{kind: "remove", id, side}` and `{kind: "choose", id, side, model, precision}`, answered by `{kind: "reply", id, error}`.
 */

/** @param {RenderProps<State>} context */
async function render({ model, el, host, signal }) {
  openRoot({ model, el, signal }, "wb-compare");
  const form = h("div", { class: "wb-compare-form" });
  el.append(form);
  const prompt = fillForm(model, host, form, signal);
  signal.addEventListener("abort", () => el.replaceChildren());
  const drawn = compareResults(model, el, host, signal, prompt.follow);
  el.append(codeFold(model));
  await drawn;
}

/**
 * Fill the form: the prompt, the sides of the next run, and the buttons that start and stop.
 * @param {Model} model @param {Host} host @param {HTMLElement} form @param {AbortSignal} signal
 */
function fillForm(model, host, form, signal) {
  const prompt = traitBox(model, "prompt", signal, {
    text: "Prompt",
    class: "wb-prompt",
    spellcheck: "false",
    placeholder: "One prompt for all sides",
  });
  const runs = runForm(model, form, [prompt], "Run", signal);
  form.append(
    prompt.label,
    prompt.box,
    sidesSetup(model, host, signal, runs.ask),
    h("div", { class: "wb-row" }, ...runs.buttons),
    runs.error,
  );
  return runs;
}

export default { render };
