"""Digests of a model's files, which identify the model."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from workbench.catalog.cache import RECORD
from workbench.catalog.downloading import sha256_of
from workbench.gguf_files import GGUF_FACTS

_MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
"""Files that a model in Hugging Face layout may be loaded from; others, such as readmes, do not affect answers."""

_SETTINGS = (".json", ".jinja", ".model", ".txt")
"""Endings of those of them that have no weights."""


def file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of the model in ``folder``, by file name.

    A file is hashed once, or not at all if the cache's record has its digest, and again only if it was written since.
    """
    if (facts := folder / GGUF_FACTS).is_file():
        return _gguf_digests(facts)
    recorded = _recorded(folder)
    names = {path.name for pattern in _MODEL_FILES for path in folder.glob(pattern)} - {RECORD}
    return {name: _digest(folder / name, recorded.get(name)) for name in sorted(names)}


def weights_digest(folder: Path) -> str:
    """Return one SHA-256 for all files with weights of the model in ``folder``, whatever its settings are."""
    digests = {name: digest for name, digest in file_digests(folder).items() if not name.endswith(_SETTINGS)}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def read_digest(path: Path) -> str:
    """Return the SHA-256 of a file, which is read again only if it was written since."""
    return _digest(path, None)


def _gguf_digests(facts: Path) -> dict[str, str]:
    """Return the digests of a GGUF model's parts, from which all else follows."""
    parts = [Path(part["path"]) for part in json.loads(facts.read_text(encoding="utf-8"))["parts"]]
    return {part.name: _digest(part, None) for part in parts}


def _recorded(folder: Path) -> dict[str, Any]:
    record = folder / RECORD
    try:
        files: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))["files"]
        written_ns = record.stat().st_mtime_ns
        return {name: fact | {"before_ns": written_ns} for name, fact in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # a folder outside the cache, which has no record


def _digest(path: Path, fact: dict[str, Any] | None) -> str:
    stat = path.stat()
    if fact and fact["size"] == stat.st_size and stat.st_mtime_ns <= fact["before_ns"]:
        return str(fact["sha256"])
    return _read_digest(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _read_digest(path: Path, _size: int, _written_ns: int) -> str:
    return sha256_of(path)
