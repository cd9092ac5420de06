"""Paths that users type, and reasons for file errors."""

from __future__ import annotations

from pathlib import Path

from workbench.errors import InvalidRequestError


def typed_path(path: str | Path, field: str) -> Path:
    """Return the path with ``~`` expanded; raise `InvalidRequestError` for ``field`` if there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InvalidRequestError(field, str(path), "a path whose ~ names a user of this machine") from None


def reason(error: Exception) -> str:
    """Return the reason of an error on a file, without the error number and the file's name."""
    return str(getattr(error, "strerror", None) or error)
