// One call of a tool: how far its reading has come, what it asks for, and Approve or Decline while it waits.

import { h, uniqueId } from "./dom.js";

/**
 * @import { Ask } from "./asking.js"
 *
 * @typedef {{approved: boolean, result?: string}} Decision
 *
 * @typedef {object} Call
 * @property {"started" | "in_progress" | "success" | "failure"} status  as the protocol names the parse states
 * @property {string} text  as the model wrote it
 * @property {string | null} name
 * @property {string | null} arguments  as JSON
 * @property {number | null} [place]  among the calls of its answer
 * @property {"open" | "running" | "done" | null} decision
 * @property {boolean} [can_run]  false: there is no function, somebody has to give the result
 * @property {string | null} [result]
 */

const STEPS = ["started", "in_progress", "success"];

/** @param {Call} call @param {{request: Ask}} context */
export function callCard(call, { request }) {
  const decide = (/** @type {Decision} */ decision) => request({ kind: "decide", place: call.place, ...decision });
  const name = call.name ?? "call";
  return h(
    "section",
    {
      class: "wb-call",
      "aria-label": `Call of ${name}`,
      "data-wb-status": call.status,
      "data-wb-decision": call.decision ?? "none",
    },
    h(
      "div",
      { class: "wb-call-head" },
      h("code", { class: "wb-call-name", text: call.name ?? "…" }),
      h("span", { class: "wb-spacer" }),
      parseSteps(call.status),
    ),
    call.name === null ? h("pre", { class: "wb-call-text", text: call.text }) : argumentList(call),
    call.decision === "open" ? decision(call, decide) : null,
    call.decision === "running" ? h("p", { class: "wb-quiet wb-call-running", text: "The function runs …" }) : null,
    call.decision === "done"
      ? h(
          "div",
          { class: "wb-call-result" },
          h("span", { class: "wb-quiet", text: "Result" }),
          h("pre", { dir: "auto", text: call.result ?? "" }),
        )
      : null,
  );
}

/** The parse states with the present one marked; a call that cannot be read ends in another. @param {string} status */
function parseSteps(status) {
  const steps = status === "failure" ? ["started", "in_progress", "failure"] : STEPS;
  const reached = steps.indexOf(status);
  const items = steps.map((step, i) =>
    h("li", {
      class: i <= reached && "wb-reached",
      "aria-current": i === reached ? "step" : null,
      text: step.replace("_", " "),
    }),
  );
  return h("ol", { class: `wb-steps wb-steps-${status}`, "aria-label": "Parse state" }, ...items);
}

/** @param {Call} call */
function argumentList(call) {
  const given = Object.entries(JSON.parse(call.arguments ?? "{}"));
  if (!given.length) return h("p", { class: "wb-quiet", text: "without arguments" });
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
  const label = `the call of ${call.name}`;
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
  const id = uniqueId("result");
  const box = h("textarea", { class: "wb-field wb-chat-text", id, rows: 1, placeholder: "What the tool answers" });
  const give = h("button", {
    type: "button",
    class: "wb-button wb-primary",
    text: "Send the result",
    on: { click: () => decide({ approved: true, result: box.value }) },
  });
  return h(
    "div",
    { class: "wb-call-give" },
    h("label", { class: "wb-quiet", for: id, text: "Result, as no function is here to give it" }),
    box,
    h("div", { class: "wb-row" }, give, decline),
  );
}
