// Building elements: text only ever enters the page through textContent.

/**
 * @typedef {{[Name in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[Name]) => unknown}} Listeners
 * @typedef {string | number | boolean | null | undefined} Attribute
 *
 * @typedef {object} Words  what is no attribute of that name
 * @property {string | false | null} [class]
 * @property {string | null} [text]
 * @property {Listeners} [on]
 *
 * @typedef {Words & {[name: string]: Attribute | Listeners}} Props  false, null and undefined: left out
 */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Props} [props]
 * @param {(Node | string | null | undefined | false)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, { class: kind, text, on, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  if (typeof text === "string") element.textContent = text;
  for (const [event, listener] of Object.entries(on ?? {})) {
    element.addEventListener(event, /** @type {EventListener} */ (listener));
  }
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child) element.append(child);
  return element;
}

let lastId = 0;

/** An id that no other element of the page has. @param {string} what */
export function uniqueId(what) {
  lastId += 1;
  return `wb-${what}-${lastId}-${Math.random().toString(36).slice(2, 8)}`;
}

/**
 * @template {string} Value
 * @typedef {{value: Value, text: string, title?: string}} Choice
 */

/**
 * Radio buttons drawn as one segmented control; arrow keys are the browser's own.
 * @template {string} Value
 * @param {{label: string, options: Choice<Value>[], onChange: (value: Value) => void}} spec
 */
export function segments({ label, options, onChange }) {
  const name = uniqueId("segments");
  const inputs = options.map((option) =>
    h("input", { type: "radio", name, value: option.value, on: { change: () => onChange(option.value) } }),
  );
  const labels = options.map((option, i) =>
    h("label", { title: option.title }, inputs[i], h("span", { text: option.text })),
  );
  const root = h("div", { class: "wb-segments", role: "radiogroup", "aria-label": label }, ...labels);
  return {
    root,
    /** Disable an option for a reason, or enable it where the reason is "". @param {Value} value @param {string} reason */
    refuse(value, reason) {
      const i = options.findIndex((option) => option.value === value);
      inputs[i].disabled = reason !== "";
      labels[i].title = reason || (options[i].title ?? "");
    },
    /** @param {Value} value */
    set(value) {
      for (const input of inputs) input.checked = input.value === value;
    },
  };
}

/** @param {string} text @returns {Promise<boolean>} whether it is on the clipboard now */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Plain http on another host: no clipboard API there, the old way still works.
    const area = h("textarea", { class: "wb-sr", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/**
 * A button that copies and says so.
 * @param {string} text @param {() => string} source
 */
export function copyButton(text, source) {
  let timer = 0;
  const said = h("span", { class: "wb-sr", role: "status" });
  const button = h("button", { type: "button", class: "wb-button wb-ghost", text });
  button.addEventListener("click", async () => {
    const done = await copyText(source());
    button.textContent = done ? "Copied" : "Copying failed";
    said.textContent = button.textContent;
    window.clearTimeout(timer);
    timer = window.setTimeout(() => {
      button.textContent = text;
      said.textContent = "";
    }, 1500);
  });
  return h("span", { class: "wb-copy" }, button, said);
}

/** The element around what an event came from. @param {Event} event @param {string} selector */
export function around(event, selector) {
  return /** @type {Element | null} */ (event.target)?.closest(selector) ?? null;
}

/** With Ctrl or Command the page around a widget saves, finds, opens its settings and its side bar. */
const PAGE_KEYS = new Set(["s", "f", ",", "b"]);

/**
 * Keep the keys that are pressed in a widget from the page around it.
 *
 * JupyterLab reads letters, arrows, Enter and Escape as commands to its cells, and some of them delete a cell. It also
 * cancels the line break that Shift+Enter would make in a cell. Its own attribute, `data-lm-suppress-shortcuts`, is no
 * help: it lets commands through whose selector meets the focused element, and holds back saving.
 * @param {HTMLElement} root
 */
export function keepKeys(root) {
  root.addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase();
    const isCommand = (event.ctrlKey || event.metaKey) && !event.altKey;
    const isPalette = event.shiftKey && key === "c";
    if (!isCommand || !(isPalette || PAGE_KEYS.has(key))) event.stopPropagation();
  });
}
