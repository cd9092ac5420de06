// Detection of a light or dark page around a widget, in any host.

const LIGHT_TEXT = 128;

/**
 * Set `data-wb-scheme` of a widget's outermost element to `light` or `dark`, and update it when the page changes.
 * @param {HTMLElement} el @param {AbortSignal} signal
 */
export function followScheme(el, signal) {
  const show = () => el.setAttribute("data-wb-scheme", isDark(el) ? "dark" : "light");
  // Hosts switch their theme by a class, an attribute or a style sheet of the document. The element gets a size when it
  // is attached.
  const themes = new MutationObserver(show);
  for (const element of [document.documentElement, document.body]) themes.observe(element, { attributes: true });
  themes.observe(document.head, { childList: true });
  const sizes = new ResizeObserver(show);
  sizes.observe(el);
  const preference = window.matchMedia("(prefers-color-scheme: dark)");
  preference.addEventListener("change", show);
  signal.addEventListener("abort", () => {
    themes.disconnect();
    sizes.disconnect();
    preference.removeEventListener("change", show);
  });
  show();
}

/**
 * Return whether the text around an element is light, and so its page dark. Unlike a background, the color of text is
 * inherited, through shadow roots too.
 * @param {HTMLElement} el
 */
export function isDark(el) {
  const around = el.parentElement ?? /** @type {{host?: Element}} */ (el.getRootNode()).host;
  const pixel = document.createElement("canvas").getContext("2d");
  if (!around || !pixel) return false;
  pixel.fillStyle = getComputedStyle(around).color; // in any notation, such as oklch()
  pixel.fillRect(0, 0, 1, 1);
  const [red, green, blue] = pixel.getImageData(0, 0, 1, 1).data;
  return 0.299 * red + 0.587 * green + 0.114 * blue >= LIGHT_TEXT;
}
