"""JSON that stays on one line for every reader."""

from __future__ import annotations

_LINE_ENDS = {character.encode(): f"\\u{ord(character):04x}".encode() for character in ("\x85", "\u2028", "\u2029")}
"""What JSON may hold as it is, and where Python's ``splitlines`` and others like it end a line."""


def one_line(json: bytes) -> bytes:
    """The same JSON without a character that ends a line; they stand in its strings alone, which can escape them."""
    for character, escaped in _LINE_ENDS.items():
        json = json.replace(character, escaped)
    return json
