// Construction of elements: text enters the page only through textContent.

/**
 * @typedef {{[Name in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[Name]) => unknown}} Listeners
 * @typedef {string | number | boolean | null | undefined} Attribute
 *
 * @typedef {object} Specials  properties that are not set as attributes
 * @property {string | false | null} [class]
 * @property {string | null} [text]
 * @property {Listeners} [on]
 *
 * @typedef {Specials & {[name: string]: Attribute | Listeners}} Props  false, null and undefined are left out
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

const SVG = "http://www.w3.org/2000/svg";

/**
 * Return an SVG element.
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag @param {Record<string, string | number>} attributes @param {Node[]} children
 * @returns {SVGElementTagNameMap[Tag]}
 */
export function svgElement(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/**
 * Make elements the children of a parent; those that are already there are not moved, so that they keep the
 * focus and their layout.
 * @param {Element} parent @param {Element[]} children
 */
export function setChildren(parent, children) {
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const child of children) {
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  }
}

let lastId = 0;

/** Return an id that is unique in the page. @param {string} what */
export function uniqueId(what) {
  lastId += 1;
  return `wb-${what}-${lastId}-${Math.random().toString(36).slice(2, 8)}`;
}

/**
 * @template {string} Value
 * @typedef {{value: Value, text: string, title?: string}} Choice
 */

/**
 * Radio buttons drawn as one segmented control; the browser handles the arrow keys.
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
    /** Disable an option for a reason, or enable it if the reason is "". @param {Value} value @param {string} reason */
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

/** Copy a text to the clipboard. @param {string} text @returns {Promise<boolean>} whether it was copied */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Over plain http from another host there is no clipboard API, but this works.
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
 * A button that copies a text and confirms it.
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

/** Return the closest matching element around the target of an event. @param {Event} event @param {string} selector */
export function around(event, selector) {
  return /** @type {Element | null} */ (event.target)?.closest(selector) ?? null;
}

/** Keys with which, together with Ctrl or Command, JupyterLab saves, finds, and opens its settings and its side bar. */
const PAGE_KEYS = new Set(["s", "f", ",", "b"]);

/**
 * Stop keys that are pressed in a widget from reaching the page around it.
 *
 * JupyterLab reads letters, arrows, Enter and Escape as commands to its cells, and some of them delete a cell. It also
 * cancels the line break that Shift+Enter would make in a cell. Its own attribute, `data-lm-suppress-shortcuts`, is not
 * enough: it passes commands whose selector matches the focused element, and blocks saving.
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
