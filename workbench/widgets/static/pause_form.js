// The breakpoints of the next run: after an uncertain token, after a text, or at the start of a tool call.

import { setter } from "./asking.js";
import { disclosure } from "./disclosure.js";
import { h, uniqueId } from "./dom.js";
import { inUnit, information } from "./format.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 * @import { Store } from "./run_feed.js"
 *
 * @typedef {object} Pauses  the trait `pauses`; null or false for no breakpoint
 * @property {number | null} entropy_above  in nats
 * @property {string | null} text
 * @property {boolean} tool_call
 */

/**
 * A button and the form that it opens.
 * @param {AnyModel<{pauses: Pauses, no_pause: string}>} model @param {Store} store @param {AbortSignal} signal
 */
export function pauseForm(model, store, signal) {
  const id = uniqueId("pauses");
  const entropy = h("input", {
    class: "wb-field wb-pause-number",
    id: `${id}-entropy`,
    inputmode: "decimal",
    autocomplete: "off",
    placeholder: "off",
  });
  const unitName = h("span", { class: "wb-quiet" });
  const text = h("input", {
    class: "wb-field wb-pause-text",
    id: `${id}-text`,
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "off",
    title: "Pause after the token that completes this text in the answer",
  });
  const call = h("input", {
    type: "checkbox",
    id: `${id}-call`,
    title: "Pause after the token that begins a tool call; for requests with tools",
  });
  const label = (/** @type {HTMLElement} */ field, /** @type {string} */ words) =>
    h("label", { for: field.id, class: "wb-quiet", text: words });
  const reason = h("p", { class: "wb-quiet wb-pause-reason", role: "status", id: `${id}-reason` });
  const root = h(
    "div",
    {
      class: "wb-pauses",
      id,
      role: "group",
      "aria-label": "Where the next run pauses",
      "aria-describedby": reason.id,
    },
    h("span", { class: "wb-pause" }, label(entropy, "Entropy above"), entropy, unitName),
    h("span", { class: "wb-pause" }, label(text, "Text"), text),
    h("span", { class: "wb-pause" }, call, label(call, "Tool call")),
    reason,
  );
  const button = disclosure(root, { class: "wb-toggle" });

  const showReason = (/** @type {string} */ mistake) => {
    reason.textContent = mistake || model.get("no_pause");
    reason.hidden = !reason.textContent;
  };
  const set = setter(model, "pauses", signal);
  const change = (/** @type {Partial<Pauses>} */ part) => set({ ...model.get("pauses"), ...part });
  entropy.addEventListener("change", () => {
    const typed = entropy.value.trim().replace(",", ".");
    const isGood = typed === "" || (Number.isFinite(Number(typed)) && Number(typed) >= 0);
    entropy.setAttribute("aria-invalid", String(!isGood));
    showReason(isGood ? "" : `Enter an entropy in ${store.unit}, 0 or above.`);
    if (isGood) change({ entropy_above: typed === "" ? null : withDigits(Number(typed) / inUnit(1, store.unit)) });
  });
  text.addEventListener("change", () => change({ text: text.value || null }));
  call.addEventListener("change", () => change({ tool_call: call.checked }));
  const show = () => {
    const pauses = model.get("pauses");
    const count = [pauses.entropy_above !== null, pauses.text !== null, pauses.tool_call].filter(Boolean).length;
    if (document.activeElement !== entropy)
      entropy.value =
        pauses.entropy_above === null ? "" : String(withDigits(inUnit(pauses.entropy_above, store.unit), 5));
    entropy.title = `Pause after a token whose raw distribution had more entropy than this; a coin toss has ${information(Math.LN2, store.unit, 2)}`;
    unitName.textContent = store.unit;
    if (document.activeElement !== text) text.value = pauses.text ?? "";
    call.checked = pauses.tool_call;
    // A breakpoint that was set for another model can be removed.
    const isRefused = model.get("no_pause") !== "";
    entropy.disabled = isRefused && pauses.entropy_above === null;
    text.disabled = isRefused && pauses.text === null;
    call.disabled = isRefused && !pauses.tool_call;
    showReason("");
    button.textContent = count ? `Pause at … (${count})` : "Pause at …";
  };
  model.on("change:pauses", show);
  model.on("change:no_pause", show);
  store.listen((change) => change.kind === "unit" && show(), signal);
  show();
  return { button, root };
}

/** Round a number so that converting between units shows no rounding errors. @param {number} value */
function withDigits(value, digits = 7) {
  return Number(value.toPrecision(digits));
}
