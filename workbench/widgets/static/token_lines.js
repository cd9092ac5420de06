// Navigation between the lines of a text of tokens.

/** Vertical tolerance for boxes in the same line, which differ by rounding. */
const SAME_LINE_PX = 2;

/**
 * Return the token in the next line up or down that is nearest to `x`; null at the first and the last line.
 * @param {HTMLElement[]} spans  of the tokens @param {number} from @param {1 | -1} step @param {number} x
 * @returns {number | null}
 */
export function inNextLine(spans, from, step, x) {
  const start = middlePart(spans[from]);
  /** @type {DOMRect | null} */ let line = null;
  /** @type {{position: number, distance: number} | null} */ let nearest = null;
  if (!start) return null;
  for (let position = from; position >= 0 && position < spans.length; position += step) {
    const parts = partsOf(spans[position]);
    for (const part of step > 0 ? parts : parts.reverse()) {
      if (!isBeyond(part, start, step)) continue;
      line ??= part;
      if (isBeyond(part, line, step)) return nearest?.position ?? null;
      const distance = Math.max(part.left - x, x - part.right, 0);
      if (!nearest || distance < nearest.distance) nearest = { position, distance };
    }
  }
  return nearest?.position ?? null;
}

/** Return the horizontal center of a token; 0 if it is hidden. @param {HTMLElement} span */
export function middleOf(span) {
  const part = middlePart(span);
  return part ? (part.left + part.right) / 2 : 0;
}

/** Return the last box of a token's word, without the space before it. @param {HTMLElement} span */
function middlePart(span) {
  return partsOf(span.querySelector(".wb-word") ?? span).at(-1);
}

/** Return the boxes of a token, one per line; none if it is hidden. @param {Element} span */
function partsOf(span) {
  return [...span.getClientRects()].filter((part) => part.width > 0);
}

/** @param {DOMRect} part @param {DOMRect} line @param {1 | -1} step */
function isBeyond(part, line, step) {
  return step > 0 ? part.top > line.bottom - SAME_LINE_PX : part.bottom < line.top + SAME_LINE_PX;
}
