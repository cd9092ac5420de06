// One tool call: its parse status, its state, and Approve and Decline while it waits for a decision.

import { callSteps, resultTitle } from "./call_words.js";
import { h } from "./dom.js";
import { labelledBox } from "./prompt_box.js";

/**
 * @import { Ask } from "./asking.js"
 * @import { CallState, ParseState } from "./call_words.js"
 *
 * @typedef {{approved: boolean, result?: string}} Decision
 *
 * @typedef {object} Call
 * @property {ParseState} status
 * @property {string} text  as the model wrote it
 * @property {string | null} name
 * @property {string | null} arguments  as JSON
 * @property {number | null} [place]  index among the calls of its answer
 * @property {CallState | null} state  null if there is nothing to decide, as for an incomplete call
 * @property {boolean} [can_run]  false if there is no function, so that a person enters the result
 * @property {string | null} [result]
 */

/** @param {Call} call @param {{request: Ask}} context */
export function callCard(call, { request }) {
  const decide = (/** @type {Decision} */ decision) => request({ kind: "decide", place: call.place, ...decision });
  const name = call.name ?? "call";
  return h(
    "section",
    {
      class: "wb-call",
      "aria-label": `Call to ${name}`,
      "data-wb-status": call.status,
      "data-wb-call": call.state ?? "none",
    },
    h(
      "div",
      { class: "wb-call-head" },
      h("code", { class: "wb-call-name", text: call.name ?? "…" }),
      h("span", { class: "wb-spacer" }),
      stepList(call),
    ),
    call.name === null ? h("pre", { class: "wb-call-text", text: call.text }) : argumentList(call),
    call.state === "waiting" ? decision(call, decide) : null,
    call.state === "running" ? h("p", { class: "wb-quiet wb-call-running", text: "Running …" }) : null,
    call.state !== null && typeof call.result === "string"
      ? h(
          "div",
          { class: "wb-call-result" },
          h("span", { class: "wb-quiet", text: resultTitle(call.state) }),
          h("pre", { dir: "auto", text: call.result }),
        )
      : null,
  );
}

/** @param {Call} call */
function stepList({ status, state }) {
  const items = callSteps(status, state).map(({ text, isReached, isCurrent }) =>
    h("li", { class: isReached && "wb-reached", "aria-current": isCurrent ? "step" : null, text }),
  );
  return h("ol", { class: "wb-steps", "aria-label": "Call status" }, ...items);
}

/** @param {Call} call */
function argumentList(call) {
  const given = Object.entries(JSON.parse(call.arguments ?? "{}"));
  if (!given.length) return h("p", { class: "wb-quiet", text: "No arguments" });
  return h(
    "dl",
    { class: "wb-call-arguments" },
    ...given.map(([name, value]) =>
      h("div", {}, h("dt", { text: name }), h("dd", {}, h("code", { text: JSON.stringify(value) }))),
    ),
  );
}

/** @param {Call} call @param {(decision: Decision) => void} decide */
function decision(call, decide) {
  const label = `the call to ${call.name}`;
  const decline = h("button", {
    type: "button",
    class: "wb-button",
    text: "Decline",
    "aria-label": `Decline ${label}`,
    on: { click: () => decide({ approved: false }) },
  });
  if (call.can_run) {
    const approve = h("button", {
      type: "button",
      class: "wb-button wb-primary",
      text: "Approve and run",
      "aria-label": `Approve and run ${label}`,
      on: { click: () => decide({ approved: true }) },
    });
    return h("div", { class: "wb-row" }, approve, decline);
  }
  const { box, label: ask } = labelledBox(
    "This tool has no function. Enter its result.",
    { class: "wb-chat-text", rows: 1, placeholder: "Result" },
    "wb-quiet",
  );
  const give = h("button", {
    type: "button",
    class: "wb-button wb-primary",
    text: "Send result",
    on: { click: () => decide({ approved: true, result: box.value }) },
  });
  return h("div", { class: "wb-call-give" }, ask, box, h("div", { class: "wb-row" }, give, decline));
}
