"""Output of commands: JSON in its strict form, sizes and tables."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

_ESCAPED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def print_json(value: object) -> None:
    """Print one JSON document; NaN and infinity, which JSON lacks, become null.

    Characters are escaped unless the output is UTF-8: a pipe on Windows has an encoding that lacks most of them.
    """
    is_unicode = str(sys.stdout.encoding).lower().replace("-", "").startswith("utf")
    print(json.dumps(_finite(value), indent=2, ensure_ascii=not is_unicode, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _finite(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def human_size(size_bytes: float) -> str:
    """Return bytes in the largest decimal unit in which the number is 1 or above."""
    for unit in ("B", "kB", "MB"):
        if abs(size_bytes) < 1000:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"


def human_count(count: int) -> str:
    """Return a number of parameters in a short form such as 135M."""
    for limit, divisor, unit in ((10**9, 10**9, "B"), (10**6, 10**6, "M"), (10**3, 10**3, "k")):
        if count >= limit:
            return f"{count / divisor:.3g}{unit}"
    return str(count)


def visible(text: str) -> str:
    """Return a token's text on one line, with white space and control characters escaped for the terminal."""
    return "".join(_ESCAPED.get(char) or (char if char.isprintable() else ascii(char)[1:-1]) for char in text)


def write_text(text: str) -> None:
    """Write text to standard output and flush: exact in a pipe, without escape sequences on a terminal."""
    if sys.stdout.isatty():
        text = "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)
    sys.stdout.write(text)
    sys.stdout.flush()


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows with columns padded to their widest cell, two spaces apart."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
