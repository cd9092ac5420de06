"""JSON on a single line, whatever a reader takes for the end of one."""

from __future__ import annotations

_LINE_ENDS = {character.encode(): f"\\u{ord(character):04x}".encode() for character in ("\x85", "\u2028", "\u2029")}
"""Characters that JSON may contain unescaped, and at which ``str.splitlines`` and others like it end a line."""


def one_line(json: bytes) -> bytes:
    """Return compact JSON with these characters escaped; they occur only inside strings."""
    for character, escaped in _LINE_ENDS.items():
        json = json.replace(character, escaped)
    return json
