// What anywidget gives to a module, in one page without Jupyter: models, views, and widgets that refer to each other.

class FakeModel {
  constructor(ref, state) {
    this.ref = ref;
    this.state = state;
    this.sent = [];
    this.saved = 0;
    this.listeners = new Map();
  }
  get(name) {
    return this.state[name];
  }
  set(name, value) {
    if (JSON.stringify(this.state[name]) === JSON.stringify(value)) return;
    this.state[name] = value;
    this.emit(`change:${name}`);
  }
  save_changes() {
    this.saved += 1;
  }
  send(content) {
    this.sent.push(content);
  }
  on(event, listener) {
    this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
  }
  off(event, listener) {
    this.listeners.set(event, (this.listeners.get(event) ?? []).filter((other) => other !== listener));
  }
  emit(event, ...args) {
    for (const listener of this.listeners.get(event) ?? []) listener(...args);
  }
  receive(message) {
    this.emit("msg:custom", message, []);
  }
}

const widgets = new Map();

const host = {
  async getWidget(ref) {
    const widget = widgets.get(ref);
    if (!widget) throw new Error(`no widget ${ref}`);
    return { exports: widget.exports, render: ({ el, signal }) => widget.module.render({ model: widget.model, el, host, signal }) };
  },
};

window.wb = {
  widgets,
  model: (ref) => widgets.get(ref).model,
  /** Make a widget model from the text of its module. */
  async open(ref, source, css, state) {
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const module = (await import(url)).default;
    URL.revokeObjectURL(url);
    const style = document.createElement("style");
    style.textContent = css;
    document.head.append(style);
    const model = new FakeModel(ref, state);
    const controller = new AbortController();
    const exports = await module.initialize?.({ model, signal: controller.signal });
    widgets.set(ref, { module, model, exports, controller });
  },
  /** Show one more view of a widget; returns its number. */
  async view(ref) {
    const el = document.createElement("div");
    document.body.append(el);
    const controller = new AbortController();
    const widget = widgets.get(ref);
    await widget.module.render({ model: widget.model, el, host, signal: controller.signal });
    window.wb.views.push({ el, controller });
    return window.wb.views.length - 1;
  },
  views: [],
};
