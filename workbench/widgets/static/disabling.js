// Disabling of controls that have no effect without a kernel.

/**
 * Disable the controls that match a selector, including those that are drawn or enabled later.
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
