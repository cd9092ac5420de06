"""Numbers and texts as parts of a grammar."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from workbench.schemas.documents import FORMATS
from workbench.schemas.grammars import Body, Leaf, Rules, Text
from workbench.schemas.nodes import Numbers, Texts
from workbench.schemas.normal import Normaliser
from workbench.schemas.numbers import exact, integer_regex, number_regex, pointed_regex
from workbench.schemas.patterns import whole

_FEW = 256
"""Number of multiples up to which they are listed one by one."""
_EXACT = 2**53
"""Bound of the products that are exact in the grammar's compiler."""
_NAME_CHARACTERS = r'[^"\\\x00-\x1f\x7f]'
"""Characters of names that are not in the schema: those with only one spelling in JSON."""

_YEAR = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_FORMATS = {"date": f"^{_DATE}$", "time": f"^{_TIME}$", "date-time": f"^{_DATE}T{_TIME}$"}
"""Patterns of valid dates and times; the compiler's own formats also accept invalid ones."""


class Leaves:
    """Writer of the numbers and texts of one document.

    Args:
        characters: the maximum length of a text if its schema sets no limit.
    """

    def __init__(self, rules: Rules, normaliser: Normaliser, characters: int | None) -> None:
        self._rules = rules
        self._normaliser = normaliser
        self._characters = characters

    def numbers(self, node: Numbers) -> Iterator[Body]:
        if node.step is not None:
            yield from self._multiples(node)
            return
        if node.is_integer:
            regex = None if node.is_fraction else integer_regex(node.bounds)
        else:
            regex = pointed_regex(node.bounds) if node.is_fraction else number_regex(node.bounds)
        if regex is not None and node.excluded:
            others = " & ".join(f"~/{_spellings(value)}/" for value in node.excluded)
            yield (self._rules.terminal(f"/{regex}/ & {others}"),)
        elif regex is not None:
            yield (Leaf(f"/{regex}/"),)

    def _multiples(self, node: Numbers) -> Iterator[Body]:
        assert node.step is not None
        step = Fraction(node.step.numerator) if node.is_integer else node.step
        least, most = node.bounds.whole(step)
        if step.denominator & (step.denominator - 1):  # in floats, 0.29 is not a multiple of 0.01
            self._normaliser.unenforced.add("multipleOf")
        if most - least < _FEW:
            for factor in range(least, most + 1):
                if factor * step not in node.excluded and not (node.is_fraction and (factor * step).denominator == 1):
                    yield (Text(_decimal(factor * step)),)
            return
        if node.excluded or node.is_fraction:
            self._normaliser.unenforced.add("not")
        least, most = max(least, int(-_EXACT / step)), min(most, int(_EXACT / step))
        if least > most:
            self._normaliser.document.refuse(
                {"multipleOf": float(step)}, f"a schema whose multiples lie within {_EXACT:,}"
            )
        bounds = f'"minimum": {_decimal(least * step)}, "maximum": {_decimal(most * step)}'
        kind = "integer" if step.denominator == 1 else "number"
        yield (Leaf(f'%json {{"type": "{kind}", "multipleOf": {_decimal(step)}, {bounds}}}'),)

    def texts(self, node: Texts) -> Iterator[Body]:
        longest = node.longest if node.longest is not None else self._characters
        longest = None if longest is None or (node.longest is None and longest < node.shortest) else longest
        if longest is not None and node.shortest > longest:
            return
        if node.foreign or node.excluded:
            if not set(node.formats) & FORMATS:
                yield (self.plain(node, longest),)
                return
            self._normaliser.unenforced.add("not")
        schema: dict[str, Any] = {"type": "string"}
        schema |= {"minLength": node.shortest} if node.shortest else {}
        schema |= {} if longest is None else {"maxLength": longest}
        parts = [*({"pattern": one} for one in node.patterns), *map(_format, sorted(set(node.formats) & FORMATS))]
        schema |= parts[0] if len(parts) == 1 else {"allOf": parts} if parts else {}
        yield (Leaf(f"%json {json.dumps(schema)}"),)

    def plain(self, node: Texts, longest: int | None) -> Leaf:
        """Return a terminal for texts without escapes: they have one spelling, so that texts can be excluded."""
        count = f"{{{node.shortest},{'' if longest is None else longest}}}"
        parts = [f'/"{_NAME_CHARACTERS}{count}"/']
        parts += [f'/"{self._whole(pattern)}"/' for pattern in node.patterns]
        parts += [f'~/"{self._whole(pattern)}"/' for pattern in node.foreign]
        if node.excluded:
            parts.append(f'~/"(?:{"|".join(map(_escaped, node.excluded))})"/')
        return self._rules.terminal(" & ".join(parts))

    def _whole(self, pattern: str) -> str:
        expression = whole(pattern)
        if expression is None:
            self._normaliser.document.refuse(
                {"pattern": pattern}, "a pattern for names with anchors only at its start and end"
            )
        return _slashes(expression)


def _format(name: str) -> dict[str, str]:
    return {"pattern": _FORMATS[name]} if name in _FORMATS else {"format": name}


def _decimal(number: Fraction) -> str:
    """Return a number in decimal notation, without an exponent."""
    digits = 0
    while (number * 10**digits).denominator != 1:
        digits += 1
    scaled = int(number * 10**digits)
    text = str(abs(scaled)).zfill(digits + 1)
    return ("-" if scaled < 0 else "") + (f"{text[:-digits]}.{text[-digits:]}" if digits else text)


def _spellings(value: float) -> str:
    """Return a regular expression for all spellings of a number without an exponent."""
    before, _, behind = _decimal(exact(value)).partition(".")
    sign = "-?" if not value else ""
    return rf"{sign}{before}\.{behind}0*" if behind else rf"{sign}{before}(?:\.0*)?"


def _escaped(text: str) -> str:
    return _slashes(re.escape(text))


def _slashes(expression: str) -> str:
    """Return a regular expression escaped for slashes around it, on one line."""
    return re.sub(r"\\.|/|\n", lambda found: {"/": r"\/", "\n": r"\n"}.get(found[0], found[0]), expression)
