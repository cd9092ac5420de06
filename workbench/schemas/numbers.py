"""Regular expressions of numbers within bounds: exact, with a limited number of digits, and one spelling of zero.

Whole numbers of any size are compared exactly. Other numbers have at most 15 significant digits, which every reader of
JSON distinguishes, so that no spelling near an excluded bound is read as the bound itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

MOST = 10**15 - 1
"""The largest whole number if a schema sets no bound."""

_MAX_CACHED = 256
"""Number of cached expressions."""

_DIGITS = ((10**6, 9), (10**10, 5))
"""Limits of numbers, each with the digits behind the point of numbers below it; from the last limit on, none."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """An interval of numbers; None is no bound."""

    low: Fraction | None = None
    low_excluded: bool = False
    high: Fraction | None = None
    high_excluded: bool = False

    def above(self, bound: Fraction, *, excluded: bool) -> Bounds:
        if self.low is not None and (self.low, self.low_excluded) >= (bound, excluded):
            return self
        return Bounds(bound, excluded, self.high, self.high_excluded)

    def mirrored(self) -> Bounds:
        low, high = (None if bound is None else -bound for bound in (self.low, self.high))
        return Bounds(high, self.high_excluded, low, self.low_excluded)

    def below(self, bound: Fraction, *, excluded: bool) -> Bounds:
        return self.mirrored().above(-bound, excluded=excluded).mirrored()

    def whole(self, step: Fraction = Fraction(1)) -> tuple[int, int]:
        """Return the least and the greatest factor of ``step`` with a product in the interval; if they cross, none.

        A side without a bound ends at `MOST`, or at ten times the other bound where that lies beyond.
        """
        least, most = -MOST, MOST
        if self.low is not None:
            least = math.ceil(self.low / step)
            least += self.low_excluded and least * step == self.low
        if self.high is not None:
            most = math.floor(self.high / step)
            most -= self.high_excluded and most * step == self.high
        if self.low is None and least > most - MOST:
            least = -10 * max(MOST, abs(most))
        if self.high is None and most < least + MOST:
            most = 10 * max(MOST, abs(least))
        return least, most


def exact(number: float) -> Fraction:
    """Return the number's decimal spelling as a fraction: 0.1 is a tenth."""
    return Fraction(number) if isinstance(number, int) or number.is_integer() else Fraction(Decimal(repr(number)))


@lru_cache(_MAX_CACHED)
def integer_regex(bounds: Bounds) -> str | None:
    """Return an expression of the whole numbers within the bounds; None if there are none."""
    return _either(_whole(*bounds.whole()))


@lru_cache(_MAX_CACHED)
def number_regex(bounds: Bounds) -> str | None:
    """Return an expression of the numbers within the bounds, without an exponent; None if there are none."""
    branches = [*_whole(*bounds.whole()), *_pointed(bounds)]
    return _either([*branches, *(f"-{branch}" for branch in _pointed(bounds.mirrored(), without_zero=True))])


@lru_cache(_MAX_CACHED)
def pointed_regex(bounds: Bounds) -> str | None:
    """Return an expression of the numbers within the bounds that are not whole; None if there are none."""
    branches = [*_pointed(bounds, fraction_only=True)]
    return _either([*branches, *(f"-{branch}" for branch in _pointed(bounds.mirrored(), fraction_only=True))])


def _either(branches: list[str]) -> str | None:
    return f"(?:{'|'.join(branches)})" if branches else None


def _whole(least: int, most: int) -> list[str]:
    branches = [f"-{one}" for one in _natural(max(1, -most), -least)]
    return branches + list(_natural(max(0, least), most))


def _natural(least: int, most: int) -> Iterator[str]:
    """Yield expressions of whole numbers without sign, one for each number of digits."""
    for width in range(len(str(least)), len(str(most)) + 1 if least <= most else 0):
        low, high = max(least, 10 ** (width - 1) if width > 1 else 0), min(most, 10**width - 1)
        yield _same_width(str(low), str(high))


def _same_width(low: str, high: str) -> str:
    """Return an expression of the strings of digits between two of the same length."""
    if not low or low == high:
        return low
    if low[0] == high[0]:
        return low[0] + _same_width(low[1:], high[1:])
    rest = len(low) - 1
    first, last = int(low[0]), int(high[0])
    branches = []
    if low[1:].strip("0"):
        branches.append(low[0] + _same_width(low[1:], "9" * rest))
        first += 1
    if high[1:].strip("9"):
        branches.append(high[0] + _same_width("0" * rest, high[1:]))
        last -= 1
    if first <= last:
        branches.append(_digit(first, last) + _some_digits(rest, rest))
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


def _digit(first: int, last: int) -> str:
    return str(first) if first == last else f"[{first}-{last}]"


def _some_digits(least: int, most: int) -> str:
    return "" if not most else f"[0-9]{{{least},{most}}}"


def _pointed(bounds: Bounds, *, without_zero: bool = False, fraction_only: bool = False) -> Iterator[str]:
    """Yield expressions of numbers of at least 0, with a point."""
    bounds = bounds.above(Fraction(0), excluded=without_zero)
    start = 0
    for end, digits in _DIGITS:
        part = bounds.above(Fraction(start), excluded=False).below(Fraction(end), excluded=True)
        yield from _pointed_between(part, digits, fraction_only=fraction_only)
        start = end


def _pointed_between(bounds: Bounds, digits: int, *, fraction_only: bool) -> Iterator[str]:
    assert bounds.low is not None
    assert bounds.high is not None
    if bounds.low > bounds.high:
        return
    first, last = math.floor(bounds.low), math.floor(bounds.high)
    for whole in (first, last) if first < last else (first,):
        if fractions := list(_fractions(bounds, whole, digits, fraction_only=fraction_only)):
            yield rf"{whole}\.(?:{'|'.join(fractions)})"
    if between := _either(list(_natural(first + 1, last - 1))):
        point = _some_digits(0, digits - 1) + "[1-9]" if fraction_only else _some_digits(1, digits)
        yield rf"{between}\.{point}"


def _fractions(bounds: Bounds, whole: int, digits: int, *, fraction_only: bool) -> Iterator[str]:
    """Yield expressions of the digits behind the point of numbers with ``whole`` before it."""
    part = bounds.above(Fraction(whole), excluded=fraction_only).below(Fraction(whole + 1), excluded=True)
    if part == Bounds(Fraction(whole), fraction_only, Fraction(whole + 1), high_excluded=True):
        yield _some_digits(0, digits - 1) + "[1-9]" if fraction_only else _some_digits(1, digits)
        return
    for width in range(1, digits + 1):
        scale = 10**width
        least, most = part.whole(Fraction(1, scale))
        if least <= most:
            low, high = (str(number - whole * scale).zfill(width) for number in (least, most))
            yield _same_width(low, high)
