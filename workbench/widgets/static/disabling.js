// Controls that nothing answers any more.

/**
 * Disable the controls that a selector names, also those that are drawn or enabled later.
 * @param {HTMLElement} el @param {string} selector @param {AbortSignal} signal
 */
export function keepDisabled(el, selector, signal) {
  const turnOff = () => {
    for (const control of el.querySelectorAll(selector)) control.toggleAttribute("disabled", true);
  };
  const watcher = new MutationObserver(turnOff);
  watcher.observe(el, { childList: true, subtree: true, attributeFilter: ["disabled"] });
  signal.addEventListener("abort", () => watcher.disconnect());
  turnOff();
}
