// The prompt with the buttons that run, stop and continue, and the choice of how it is sent.

import { requester, setter } from "./asking.js";
import { h, segments } from "./dom.js";
import { errorLine } from "./error_line.js";
import { pauseForm } from "./pause_form.js";
import { runKeys, traitBox } from "./prompt_box.js";

/**
 * @import { Store } from "./run_feed.js"
 * @import { Model } from "./stream_view.js"
 */

/** @param {Model} model @param {Store} store @param {AbortSignal} signal */
export function promptForm(model, store, signal) {
  const canRun = model.get("can_run");
  const message = errorLine("wb-error");
  const ask = requester(model, signal, message.show);
  const prompt = traitBox(model, "prompt", signal, {
    text: "Prompt",
    class: "wb-prompt",
    spellcheck: "false",
    dir: "auto",
    placeholder: "Ask the model something",
  });
  const run = () => {
    if (store.state === "paused") ask({ kind: "resume" });
    if (store.active || !canRun) return;
    prompt.flush();
    ask({ kind: "run" });
  };
  const stop = () => store.active && ask({ kind: "stop" });
  const showError = () => {
    const error = store.problem || store.error;
    if (error) message.show(error);
  };
  store.listen(showError, signal);
  showError();

  const pauses = pauseForm(model, store, signal);
  const form = h(
    "div",
    { class: "wb-stream-form" },
    canRun && prompt.label,
    canRun && prompt.box,
    h(
      "div",
      { class: "wb-row" },
      startButton(store, signal, canRun, run, stop),
      holdButton(store, signal, canRun, (kind) => ask({ kind })),
      canRun && againButton(store, signal, () => ask({ kind: "again" })),
      h("span", { class: "wb-spacer" }),
      canRun && pauses.button,
      canRun && modeChoice(model, prompt.box, signal),
    ),
    canRun && pauses.root,
    canRun && noChatLine(model),
    message.root,
  );
  runKeys(form, run, stop);
  return form;
}

/**
 * The Run button, which is Stop during a run.
 * @param {Store} store @param {AbortSignal} signal @param {boolean} canRun @param {() => void} run
 * @param {() => void} stop
 */
function startButton(store, signal, canRun, run, stop) {
  const name = h("span");
  const key = h("kbd");
  const button = h("button", { type: "button" }, name, key);
  button.addEventListener("click", (event) => {
    if (!store.active) run();
    // The second click of a double click on Run is not a click on Stop.
    else if (event.detail < 2) stop();
  });
  const show = () => {
    name.textContent = store.active ? "Stop" : "Run";
    key.textContent = store.active ? "Esc" : "Ctrl ⏎";
    button.className = `wb-button wb-start ${store.active ? "wb-stop" : "wb-run wb-primary"}`;
    button.hidden = !store.active && !canRun;
  };
  store.listen(show, signal);
  show();
  return button;
}

/**
 * The Pause button, which is Resume during a pause, and Continue after a run was stopped or cut off.
 * @param {Store} store @param {AbortSignal} signal @param {boolean} canRun @param {(kind: string) => void} ask
 */
function holdButton(store, signal, canRun, ask) {
  const button = h("button", { type: "button", class: "wb-button wb-hold" });
  let kind = "pause";
  // The second click of a double click was meant for the button's previous action.
  button.addEventListener("click", (event) => event.detail < 2 && ask(kind));
  const show = () => {
    const isWhole = store.state === "finished" && store.stopReason !== "out_of_tokens";
    kind = store.state === "paused" ? "resume" : store.active ? "pause" : "extend";
    button.textContent = { pause: "Pause", resume: "Resume", extend: "Continue" }[kind] ?? "";
    button.title = { pause: "Pause after this token", resume: "Resume", extend: "Continue where it ended" }[kind] ?? "";
    button.classList.toggle("wb-primary", kind === "resume");
    button.hidden = kind === "extend" ? !canRun || !store.tokens.length || isWhole : !store.canPause;
  };
  store.listen(show, signal);
  show();
  return button;
}

/** @param {Store} store @param {AbortSignal} signal @param {() => void} again */
function againButton(store, signal, again) {
  const button = h("button", {
    type: "button",
    class: "wb-button wb-again",
    text: "Regenerate",
    title: "Run the same request again with another seed",
    on: { click: again },
  });
  const show = () => {
    button.hidden = store.active || store.run === null;
  };
  store.listen(show, signal);
  show();
  return button;
}

/** @param {Model} model @param {HTMLElement} prompt @param {AbortSignal} signal */
function modeChoice(model, prompt, signal) {
  const mode = segments({
    label: "How the prompt is sent",
    options: [
      { value: "chat", text: "Chat", title: "Sent as a user message in the model's chat template" },
      { value: "completion", text: "Completion", title: "Sent as plain text, which the model continues" },
    ],
    onChange: setter(model, "mode", signal),
  });
  const show = () => {
    mode.set(model.get("mode"));
    mode.refuse("chat", model.get("no_chat"));
    prompt.setAttribute(
      "aria-description",
      model.get("mode") === "chat" ? "Sent as a user message" : "Continued as plain text",
    );
  };
  model.on("change:mode", show);
  model.on("change:no_chat", show);
  show();
  return mode.root;
}

/** The reason why the model cannot chat. @param {Model} model */
function noChatLine(model) {
  const root = h("p", { class: "wb-quiet wb-no-chat", role: "status" });
  const show = () => {
    root.textContent = model.get("no_chat");
    root.hidden = !root.textContent;
  };
  model.on("change:no_chat", show);
  show();
  return root;
}
