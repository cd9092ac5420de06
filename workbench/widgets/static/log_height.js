// The lower edge of a scrolling log, which changes its height by dragging or with the arrow keys.

import { h } from "./dom.js";

/**
 * @import { AnyModel } from "@anywidget/types"
 *
 * @param {AnyModel<{height: number}>} model  a height of 0 fits the content
 * @param {HTMLElement} log @param {string} label
 */
export function logHeight(model, log, label) {
  const [least, most, step] = [120, 4000, 24];
  const root = h("div", {
    class: "wb-log-edge",
    role: "separator",
    tabindex: 0,
    "aria-orientation": "horizontal",
    "aria-label": label,
    "aria-valuemin": least,
    "aria-valuemax": most,
    title: "Drag, or use the arrow keys, to change the height; double-click to reset it",
  });
  const draw = (/** @type {number} */ height) => {
    log.style.height = height ? `${height}px` : "";
    log.style.maxHeight = height ? "none" : "";
    log.style.minHeight = height ? "0" : "";
    log.style.flex = height ? "none" : "";
    root.setAttribute("aria-valuenow", String(Math.round(height || log.offsetHeight || least)));
  };
  const within = (/** @type {number} */ height) => Math.round(Math.max(least, Math.min(most, height)));
  const keep = (/** @type {number} */ height) => {
    model.set("height", height);
    model.save_changes();
  };
  root.addEventListener("keydown", (event) => {
    const now = log.offsetHeight;
    /** @type {Record<string, number>} */
    const heights = {
      ArrowDown: now + step,
      ArrowUp: now - step,
      PageDown: now + 5 * step,
      PageUp: now - 5 * step,
      Home: least,
    };
    if (!(event.key in heights)) return;
    event.preventDefault();
    event.stopPropagation();
    keep(within(heights[event.key]));
  });
  root.addEventListener("dblclick", () => keep(0));
  root.addEventListener("pointerdown", (down) => {
    const [start, from] = [down.clientY, log.offsetHeight];
    const over = new AbortController();
    root.setPointerCapture(down.pointerId);
    const move = (/** @type {PointerEvent} */ event) => draw(within(from + event.clientY - start));
    const drop = (/** @type {PointerEvent} */ event) => {
      over.abort();
      if (event.clientY !== start) keep(within(from + event.clientY - start));
    };
    root.addEventListener("pointermove", move, { signal: over.signal });
    root.addEventListener("pointerup", drop, { signal: over.signal });
    root.addEventListener("pointercancel", () => over.abort(), { signal: over.signal });
  });
  const show = () => draw(model.get("height"));
  model.on("change:height", show);
  show();
  return root;
}
