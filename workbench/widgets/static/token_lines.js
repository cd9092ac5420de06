// From line to line in a text of tokens.

/** Less than this between two boxes is the rounding of one line. */
const SAME_LINE_PX = 2;

/**
 * Return the token in the next line up or down that is nearest to a place in it, null at the first and the last line.
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

/** The horizontal middle of a token, as far as it is drawn. @param {HTMLElement} span */
export function middleOf(span) {
  const part = middlePart(span);
  return part ? (part.left + part.right) / 2 : 0;
}

/** A token that begins with a space is where its word is. @param {HTMLElement} span */
function middlePart(span) {
  return partsOf(span.querySelector(".wb-word") ?? span).at(-1);
}

/** The boxes of a token, one a line; none where it is hidden. @param {Element} span */
function partsOf(span) {
  return [...span.getClientRects()].filter((part) => part.width > 0);
}

/** @param {DOMRect} part @param {DOMRect} line @param {1 | -1} step */
function isBeyond(part, line, step) {
  return step > 0 ? part.top > line.bottom - SAME_LINE_PX : part.bottom < line.top + SAME_LINE_PX;
}
