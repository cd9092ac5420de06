// The layers view: a grid of the most probable token after each layer, for each token of the text, beside the chosen cell.

import { around, h, segments, uniqueId } from "./dom.js";
import { errorLine } from "./error_line.js";
import { storeOf } from "./feed_store.js";
import { layersDetail } from "./layers_detail.js";
import { LayersStore } from "./layers_store.js";
import { layersWindow } from "./layers_window.js";
import { cellTarget } from "./layers_words.js";
import { openRoot } from "./root.js";
import { isSaved } from "./saved_view.js";

/**
 * @import { AnyModel, RenderProps } from "@anywidget/types"
 * @import { LayersState, LensKind } from "./layers_store.js"
 */

/** @param {RenderProps<LayersState>} context */
async function render({ model, el, host, signal }) {
  const feed = await storeOf(host, model.get("feed"));
  openRoot({ model, el, signal }, "wb-layers");
  const store = new LayersStore(model, feed, signal);
  const hint = h("p", { class: "wb-sr", id: uniqueId("keys"), text: KEYS });
  const grid = h("div", {
    class: "wb-layers-grid",
    role: "grid",
    tabindex: 0,
    "aria-label": "Most probable token after each layer",
    "aria-describedby": hint.id,
  });
  const scroller = h("div", { class: "wb-layers-scroller" }, grid);
  const main = h("div", { class: "wb-layers-main" }, scroller, legend(), hint);
  const columns = h("div", { class: "wb-layers-columns" }, main, layersDetail(store, signal));
  el.append(head(model, signal), columns);

  const view = layersWindow(store, scroller, grid, signal);
  const follower = followEnd(scroller, () => feed.active);
  const visibility = lookWhileVisible(el, store, view, signal, () => follower.scroll());
  scroller.addEventListener("scroll", () => visibility.look());
  const count = () => el.setAttribute("data-wb-columns", String(store.tokens.length));
  const showAll = () => {
    const wasEmpty = columns.hidden;
    columns.hidden = store.layers === 0;
    count();
    view.reset();
    if (wasEmpty) scroller.scrollTop = scroller.scrollHeight; // the last layers say most
    follower.scroll();
    view.showCurrent();
    visibility.look();
  };
  const showTokens = () => {
    count();
    follower.look();
    view.draw();
    follower.scroll();
    visibility.look();
  };
  let run = feed.run;
  store.listen((change) => {
    if (change.kind === "reset") {
      if (feed.run !== run) follower.start();
      run = feed.run;
      showAll();
    } else if (change.kind === "tokens") showTokens();
    else if (change.kind === "columns") view.drawSoon();
    else if (change.kind === "chosen") {
      view.showCurrent();
      view.draw();
    }
  }, signal);
  columns.hidden = true;
  chooseCells(grid, store, view);
  showAll();
  signal.addEventListener("abort", () => el.replaceChildren());
}

const KEYS =
  "Arrow keys move between tokens and layers, Home and End to the first and the last token, Page Up and Page Down by a " +
  "page of tokens, Escape leaves.";

/** The lens and what is computed. @param {AnyModel<LayersState>} model @param {AbortSignal} signal */
function head(model, signal) {
  const lens = segments({
    label: "Lens",
    options: [
      { value: "logit", text: "Logit lens", title: "Each layer, read as if it were the last one" },
      { value: "jacobian", text: "Jacobian lens", title: "Each layer, with what later layers do on average" },
    ],
    onChange: (/** @type {LensKind} */ kind) => {
      model.set("kind", kind);
      model.save_changes();
    },
  });
  lens.root.classList.add("wb-segments-small");
  const refused = h("span", { class: "wb-quiet wb-layers-refused", role: "status" });
  const said = h("span", { class: "wb-quiet wb-layers-progress" });
  const error = errorLine("wb-layers-error");
  const show = () => {
    const isFailed = model.get("state") === "failed";
    const reason = model.get("refused") ?? "";
    const hadFocus = lens.root.contains(document.activeElement);
    lens.set(model.get("kind"));
    lens.refuse("jacobian", reason);
    if (hadFocus && reason) /** @type {HTMLElement | null} */ (lens.root.querySelector("input:checked"))?.focus();
    if (refused.textContent !== reason) refused.textContent = reason;
    const isOld = isSaved(model) && model.get("state") === "computing";
    said.textContent = isFailed || isOld ? "" : model.get("message");
    error.show(isFailed ? model.get("message") : null);
  };
  for (const name of ["state", "message", "refused", "kind"]) model.on(`change:${name}`, show);
  signal.addEventListener("abort", () => error.show(null));
  show();
  return h(
    "div",
    { class: "wb-layers-top" },
    h("div", { class: "wb-layers-bar" }, h("span", { class: "wb-layers-lens" }, lens.root), refused, said),
    error.root,
  );
}

/** What the colors and the mark mean. */
function legend() {
  return h(
    "p",
    { class: "wb-layers-legend wb-quiet" },
    h("span", { text: "Probability of the word in a cell" }),
    h("span", { class: "wb-layers-scale" }, h("span", { text: "0 %" }), h("i", {}), h("span", { text: "100 %" })),
    h("span", { class: "wb-layers-sample wb-hit", "aria-hidden": "true", text: "word" }),
    h("span", { text: "the word that was said" }),
  );
}

/**
 * Stay at the end of a text that grows, until someone scrolls back.
 * @param {HTMLElement} scroller @param {() => boolean} grows
 */
function followEnd(scroller, grows) {
  let isFollowed = true;
  const look = () => {
    if (scroller.clientWidth) isFollowed = scroller.scrollWidth - scroller.scrollLeft - scroller.clientWidth < 4;
  };
  scroller.addEventListener("scroll", look);
  return {
    /** Read where it is; before the text grows. */
    look,
    scroll() {
      if (isFollowed && grows()) scroller.scrollLeft = scroller.scrollWidth;
    },
    start() {
      isFollowed = true;
    },
  };
}

/**
 * Request columns only while the view is on the screen.
 * @param {HTMLElement} el @param {LayersStore} store @param {ReturnType<typeof layersWindow>} view
 * @param {AbortSignal} signal @param {() => void} appear
 */
function lookWhileVisible(el, store, view, signal, appear) {
  let isVisible = false;
  const look = () => isVisible && store.look(view.span);
  const watch = new IntersectionObserver((entries) => {
    isVisible = entries[entries.length - 1].isIntersecting;
    if (!isVisible) return store.hide();
    appear();
    look();
  });
  watch.observe(el);
  signal.addEventListener("abort", () => watch.disconnect());
  return { look };
}

/**
 * Choose cells with mouse and keyboard.
 * @param {HTMLElement} grid @param {LayersStore} store @param {ReturnType<typeof layersWindow>} view
 */
function chooseCells(grid, store, view) {
  grid.addEventListener("click", (event) => {
    const cell = around(event, "[data-wb-position]");
    if (!cell || window.getSelection()?.isCollapsed === false) return;
    const layer = cell.getAttribute("data-wb-layer");
    store.choose(Number(cell.getAttribute("data-wb-position")), layer === null ? store.layer : Number(layer));
  });
  grid.addEventListener("keydown", (event) => {
    const bounds = { first: store.first, last: store.tokens.length - 1, layers: store.layers, page: view.page };
    const target = cellTarget(event, { position: store.current, layer: store.layer, ...bounds });
    if (target) store.choose(target.position, target.layer);
    else if (event.key === "Escape" && store.current !== null) store.leave();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

export default { render };
