// As much of a document as drawing needs: elements with attributes, children and texts, and nothing that reads markup.

export class FakeElement {
  /** @type {Record<string, string>} */ attributes = {};
  /** @type {(FakeElement | string)[]} */ nodes = [];
  /** @type {FakeElement | null} */ parent = null;

  /** @param {string} tag */
  constructor(tag) {
    this.tag = tag;
  }

  /** @param {string} name */
  set className(name) {
    this.attributes.class = name;
  }

  get children() {
    return this.nodes.filter((node) => node instanceof FakeElement);
  }

  /** @returns {FakeElement | null} */
  get lastElementChild() {
    return this.children.at(-1) ?? null;
  }

  /** @returns {string} */
  get textContent() {
    return this.nodes.map((node) => (typeof node === "string" ? node : node.textContent)).join("");
  }

  set textContent(text) {
    this.nodes = text ? [text] : [];
  }

  /** @param {string} name @param {string} value */
  setAttribute(name, value) {
    this.attributes[name] = value;
  }

  addEventListener() {}

  /** @param {(FakeElement | string)[]} nodes */
  append(...nodes) {
    for (const node of nodes) {
      if (node instanceof FakeElement) node.parent = this;
      this.nodes.push(node);
    }
  }

  /** @param {FakeElement} node @param {FakeElement | null} before */
  insertBefore(node, before) {
    node.remove();
    node.parent = this;
    this.nodes.splice(before ? this.nodes.indexOf(before) : this.nodes.length, 0, node);
  }

  remove() {
    if (this.parent) this.parent.nodes = this.parent.nodes.filter((node) => node !== this);
    this.parent = null;
  }

  /** The first element below with a tag, or with a class. @param {string} selector @returns {FakeElement | null} */
  querySelector(selector) {
    return (
      this.all().find((one) => one !== this && (one.tag === selector || `.${one.attributes.class}` === selector)) ??
      null
    );
  }

  /** It and all elements below, without recursion. @returns {FakeElement[]} */
  all() {
    /** @type {FakeElement[]} */ const found = [];
    /** @type {FakeElement[]} */ const open = [this];
    for (let next = open.pop(); next; next = open.pop()) {
      found.push(next);
      open.push(...next.children.reverse());
    }
    return found;
  }

  /** Tags and texts, for looking at. @returns {string} */
  get outline() {
    const inside = this.nodes.map((node) => (typeof node === "string" ? node : node.outline)).join("");
    return `<${this.tag}>${inside}</${this.tag}>`;
  }
}

export function fakeDocument() {
  Object.assign(globalThis, { document: { createElement: (/** @type {string} */ tag) => new FakeElement(tag) } });
}
