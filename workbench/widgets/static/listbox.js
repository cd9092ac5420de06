// A list of options to choose from by mouse or keyboard. The list keeps the focus when its options are replaced.

import { around, h, uniqueId } from "./dom.js";

/**
 * @typedef {object} Option
 * @property {string} key  identifies an option when the options are replaced
 * @property {(HTMLElement | null | false)[]} parts
 * @property {boolean} isChosen  whether it is the current choice
 * @property {string} [kind]  classes
 * @property {string} [title]
 * @property {(() => void) | null} choose  null if it cannot be chosen
 */

/**
 * @param {string} label @param {(event: KeyboardEvent) => boolean} [otherKey]  returns whether it handled the key
 */
export function listbox(label, otherKey) {
  const id = uniqueId("option");
  const root = h("ul", { class: "wb-listbox", role: "listbox", tabindex: 0, "aria-label": label });
  /** @type {Option[]} */ let options = [];
  /** @type {HTMLElement[]} */ let items = [];
  let active = 0;

  const show = () => {
    items.forEach((item, i) => item.classList.toggle("wb-active", i === active));
    if (items[active]) root.setAttribute("aria-activedescendant", items[active].id);
    else root.removeAttribute("aria-activedescendant");
  };
  const move = (/** @type {number} */ target) => {
    active = Math.max(0, Math.min(options.length - 1, target));
    show();
  };
  root.addEventListener("click", (event) => {
    const at = items.findIndex((item) => item === around(event, "[role=option]"));
    if (at < 0 || window.getSelection()?.isCollapsed === false) return;
    move(at);
    options[at].choose?.();
  });
  root.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") move(active + 1);
    else if (event.key === "ArrowUp") move(active - 1);
    else if (event.key === "Enter" || event.key === " ") options[active]?.choose?.();
    else if (!otherKey?.(event)) return;
    event.preventDefault();
    event.stopPropagation();
  });

  return {
    root,
    /** @param {Option[]} fresh */
    fill(fresh) {
      const before = options[active]?.key;
      options = fresh;
      items = fresh.map(({ parts, isChosen, kind, title, choose }, i) => {
        const props = {
          class: kind,
          role: "option",
          id: `${id}-${i}`,
          title,
          "aria-selected": String(isChosen),
          "aria-disabled": choose === null && "true",
        };
        return h("li", props, ...parts);
      });
      root.replaceChildren(...items);
      const kept = options.findIndex((option) => option.key === before);
      // Otherwise the current choice, or the first option that can be chosen.
      const start = options.findIndex((option) => option.choose !== null && option.isChosen);
      active =
        kept >= 0
          ? kept
          : start >= 0
            ? start
            : Math.max(
                0,
                options.findIndex((option) => option.choose !== null),
              );
      show();
    },
    /** @param {string} text */
    name(text) {
      root.setAttribute("aria-label", text);
    },
  };
}
