"""Paths as people type them."""

from __future__ import annotations

from pathlib import Path

from workbench.errors import InvalidRequestError


def typed_path(path: str | Path, field: str) -> Path:
    """The path with a home folder in place of its ``~``; the field is named where nobody has that home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InvalidRequestError(field, str(path), "a path whose ~ names a user of this machine") from None


def reason(error: Exception) -> str:
    """Why a file could not be read or written, without its number and name."""
    return str(getattr(error, "strerror", None) or error)
