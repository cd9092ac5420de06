"""Paths that users type, the folder of saved state, files that are hashed or written whole, reasons for file errors."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.errors import InvalidRequestError, ModelFormatError


def typed_path(path: str | Path, field: str) -> Path:
    """Return the path with ``~`` expanded; raise `InvalidRequestError` for ``field`` if there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InvalidRequestError(field, str(path), "a path whose ~ names a user of this machine") from None


def state_dir() -> Path:
    """Return ``WORKBENCH_STATE``, else the platform's state folder of this user; it may not exist yet."""
    if chosen := os.environ.get("WORKBENCH_STATE"):
        return typed_path(chosen, "WORKBENCH_STATE").absolute()
    from platformdirs import user_state_path

    return user_state_path("inference-workbench", appauthor=False)


def contents_hash(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of the contents of small files, such as sources, in the order of their paths."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(paths))).hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Write a file of a cache so that other processes see all of it or what was there; create its folder.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


@contextmanager
def write_errors(path: str | Path) -> Iterator[None]:
    """Raise `InvalidRequestError` for ``path`` if the file that is written in the block exists or is not writable."""
    try:
        yield
    except FileExistsError:
        allowed = "a file that does not exist yet; overwrite=True replaces this one"
        raise InvalidRequestError("path", str(path), allowed) from None
    except OSError as error:
        raise InvalidRequestError("path", str(path), f"a writable file ({reason(error)})") from None


@contextmanager
def read_errors(folder: Path) -> Iterator[None]:
    """Raise `ModelFormatError` if what the block reads in a model's folder is not permitted or fails."""
    try:
        yield
    except OSError as error:
        raise ModelFormatError(f"{error.filename or folder} cannot be read: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Return the reason of an error on a file, without the error number and the file's name."""
    return str(getattr(error, "strerror", None) or error)
