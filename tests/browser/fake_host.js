// What anywidget gives to a module, in one page without Jupyter: models, views, and widgets that refer to each other.

/** What all models have sent, in that order. */
const outbox = [];

class FakeModel {
  constructor(ref, state) {
    this.ref = ref;
    this.state = state;
    this.changed = {};
    this.isWaiting = false;
    this.listeners = new Map();
  }
  get(name) {
    return this.state[name];
  }
  set(name, value) {
    if (JSON.stringify(this.state[name]) === JSON.stringify(value)) return;
    this.state[name] = value;
    this.changed[name] = value;
    this.emit(`change:${name}`);
  }
  /** Send what has changed, but as ipywidgets does: not while the kernel has not answered the update before. */
  save_changes() {
    if (this.isWaiting || !Object.keys(this.changed).length) return;
    outbox.push([this.ref, "state", this.changed]);
    this.changed = {};
    this.isWaiting = true;
  }
  answered() {
    this.isWaiting = false;
    this.save_changes();
  }
  send(content) {
    outbox.push([this.ref, "send", content]);
  }
  on(event, listener) {
    this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
  }
  off(event, listener) {
    this.listeners.set(
      event,
      (this.listeners.get(event) ?? []).filter((one) => one !== listener),
    );
  }
  emit(event, ...args) {
    for (const listener of this.listeners.get(event) ?? []) listener(...args);
  }
  receive(data) {
    if (data.method === "custom") this.emit("msg:custom", data.content, []);
    else if (data.method === "update") {
      Object.assign(this.state, data.state);
      for (const name of Object.keys(data.state)) this.emit(`change:${name}`);
    }
  }
}

const widgets = new Map();

const host = {
  async getWidget(ref) {
    const widget = widgets.get(ref);
    if (!widget) throw new Error(`no widget ${ref}`);
    return {
      exports: widget.exports,
      render: ({ el, signal }) => widget.module.render({ model: widget.model, el, host, signal }),
    };
  },
};

window.wb = {
  outbox,
  views: [],
  model: (ref) => widgets.get(ref).model,
  /** Make a widget model from the text of its module, as anywidget does. */
  async open(ref, source, css, state) {
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const module = (await import(url)).default;
    URL.revokeObjectURL(url);
    const style = document.createElement("style");
    style.textContent = css;
    document.head.append(style);
    const model = new FakeModel(ref, state);
    const exports = await module.initialize?.({ model, signal: new AbortController().signal });
    widgets.set(ref, { module, model, exports });
  },
  /** Show one more view of a widget. */
  async view(ref) {
    const el = document.createElement("div");
    document.body.append(el);
    const controller = new AbortController();
    window.wb.views.push({ el, controller });
    const { module, model } = widgets.get(ref);
    await module.render({ model, el, host, signal: controller.signal });
  },
};
