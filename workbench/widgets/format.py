"""Formatting of numbers and tokens for the static twins; a test compares it with static/format.js."""

from __future__ import annotations

import math
import unicodedata
from decimal import ROUND_HALF_UP, Context, Decimal

STATE_WORDS = {
    "idle": "ready",
    "queued": "waiting for the model",
    "running": "running",
    "paused": "paused",
    "cancelled": "stopped by you",
    "failed": "failed",
    "finished": "finished",
}
_STOP_WORDS = {"end_of_turn": "end of turn", "end_of_message": "end of message", "out_of_tokens": "length limit"}
COLORS = ("surprisal", "probability", "entropy", "none")
"""Quantities that the color of a token can show."""
UNITS = ("bits", "nats")
"""Units of surprisal, entropy and divergence in the page; records are in nats."""
# Ties round away from zero, as in JavaScript. The precision is enough for any double.
_ROUNDING = Context(prec=400, rounding=ROUND_HALF_UP)
_ZERO_WIDTH_JOINER = "\u200d"


def visible(text: str) -> str:
    """Return a text with visible white space and control characters, so that different tokens look different."""
    return "".join(_visible_char(char, alone=len(text) == 1) for char in text)


def percent_of(logprob: float) -> str:
    return "–" if not math.isfinite(logprob) else percent(math.exp(logprob))


def percent(probability: float) -> str:
    """Return a number with three significant digits."""
    if probability >= 0.9995:
        return "100 %"
    if 0 < probability < 1e-6:
        return "< 0.0001 %"
    return f"{to_precision(100 * probability, 2 if probability < 0.001 else 3)} %"


def to_precision(value: float, digits: int) -> str:
    """Return a number with significant digits and trailing zeros; not for values that need an exponent."""
    if value == 0:
        return f"{0:.{digits - 1}f}"
    exact = Decimal(value)
    magnitude = Context(prec=digits, rounding=ROUND_HALF_UP).plus(exact).adjusted()
    return _rounded(exact, max(0, digits - 1 - magnitude))


def fixed(value: float | None, digits: int) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    text = _rounded(Decimal(value), digits)
    return text.removeprefix("-") if not text.strip("-0.") else text


def bits(logprob: float) -> float | None:
    """Return the surprisal in bits; None if the logprob is unknown."""
    return None if not math.isfinite(logprob) else max(0.0, -logprob / math.log(2))


def surprisal(logprob: float) -> float:
    """Return the surprisal in nats; NaN if the logprob is unknown."""
    return max(0.0, -logprob) if math.isfinite(logprob) else math.nan


def in_unit(nats: float, unit: str) -> float:
    """Return a number of nats in one of ``UNITS``."""
    return nats / math.log(2) if unit == "bits" else nats


def information(nats: float, unit: str, digits: int) -> str:
    """Return a surprisal or an entropy with its unit; a dash if it is unknown."""
    return f"{fixed(in_unit(nats, unit), digits)} {unit}" if math.isfinite(nats) else "–"


def heat(logprob: float) -> float:
    """Return the strength of the warm hue, from 0 below 0.6 bits to 1 at 8 bits."""
    surprisal = bits(logprob)
    return 0.0 if surprisal is None else max(0.0, min(1.0, (surprisal - 0.6) / 7.4))


def divergence(nats: float, unit: str) -> str:
    """Return a Kullback-Leibler divergence with two significant digits and its unit."""
    if not math.isfinite(nats):
        return "∞" if nats > 0 else "–"
    value = in_unit(nats, unit)
    if 0 < value < 1e-4:
        return f"< 0.0001 {unit}"
    return f"{'0' if value == 0 else to_precision(value, 2) if value < 10 else fixed(value, 0)} {unit}"


def change(nats: float, unit: str) -> str:
    """Return the change of a logprob with its sign and its unit; a dash if it is unknown."""
    if not math.isfinite(nats):
        return "–"
    size = fixed(abs(in_unit(nats, unit)), 2)
    sign = "" if size == "0.00" else "+" if nats > 0 else "−"
    return f"{sign}{size} {unit}"


def times(nats: float) -> str:
    """Return the factor by which the change of a logprob changes the probability, with three significant digits."""
    if not math.isfinite(nats):
        return "–"
    if nats > math.log(1e6):
        return "over ×1,000,000"
    factor = math.exp(nats)
    if factor < 0.001:
        return "under ×0.001"
    return f"×{to_precision(factor, 3) if factor < 99.95 else f'{int(fixed(factor, 0)):,}'}"


def strength(logprob: float, entropy: float, color_by: str) -> float:
    """Return the strength of a token's color, 0 to 1, by one of ``COLORS``; entropy is in nats."""
    if color_by == "surprisal":
        return heat(logprob)
    if color_by == "probability" and math.isfinite(logprob):
        return 1.0 - math.exp(logprob)
    return heat(-entropy) if color_by == "entropy" else 0.0


def token_count(count: int) -> str:
    return f"{count} token{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    return f"{fixed(seconds * 1000, 0)} ms" if seconds < 0.9995 else f"{fixed(seconds, 1)} s"


def parameter_count(count: int) -> str:
    if count >= 999.5e6:
        return f"{_trimmed(count / 1e9)} B"
    return f"{fixed(count / 1e6, 0)} M" if count >= 999.5e3 else f"{count:,}"


def stop_words(stop_reason: object) -> str | None:
    name = str(getattr(stop_reason, "value", stop_reason))
    return _STOP_WORDS.get(name)


def _visible_char(char: str, *, alone: bool) -> str:
    code = ord(char)
    known = {" ": "␣", "\n": "⏎", "\t": "⇥", "\x7f": "␡"}.get(char)
    if known is not None:
        return known
    if code < 0x20:
        return chr(0x2400 + code)
    # The zero-width joiner of emoji is invisible when alone.
    if char == _ZERO_WIDTH_JOINER and not alone:
        return char
    hidden = char.isspace() or unicodedata.category(char) in ("Cc", "Cf")
    return f"⟨U+{code:04X}⟩" if hidden else char


def _trimmed(value: float) -> str:
    return fixed(value, 1).removesuffix(".0")


def _rounded(value: Decimal, digits: int) -> str:
    return f"{value.quantize(Decimal(1).scaleb(-digits), context=_ROUNDING):f}"
