"""Files that store proofs under a hash of weights, config, precision and the versions of the libraries."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from workbench._version import __version__
from workbench.engine.model_folder import ADAPTER_CONFIG, GENERATION
from workbench.engine.proof import SWITCHED_OFF_NOTES, Proof
from workbench.engine.weights import shards
from workbench.errors import UnprovenModelError
from workbench.paths import write_whole

if TYPE_CHECKING:
    from workbench.engine.precision import Precision

PROOF_VERSION = 1
"""Incremented when the proof of an unchanged model could have another result."""


def cached_or_proven(
    folder: Path,
    precision: Precision,
    cache_folder: Path | None,
    prove: Callable[[], Proof],
    adapter: Path | None = None,
) -> Proof:
    """Return the cached proof of a model folder, or call ``prove`` and cache its result.

    Args:
        cache_folder: folder of the cached proofs; None caches nothing.
        adapter: file of the adapter that is merged into the model.

    Raises:
        UnprovenModelError: the model was refused, now or before.
    """
    if cache_folder is None:
        return prove()
    path = cache_folder / f"{_proof_key(folder, precision, cache_folder, adapter)}.json"
    cached = read_json(path)
    if isinstance(problem := cached.get("refused"), str):
        raise UnprovenModelError(problem)
    if (found := _proof(cached)) is not None:
        return found
    try:
        proof = prove()
    except UnprovenModelError as error:
        write_json(path, {"refused": str(error)})
        raise
    write_json(path, {"switched_off": proof.switched_off})
    return proof


def cached_proof(folder: Path, precision: Precision, cache_folder: Path, adapter: Path | None = None) -> Proof | None:
    """Return the cached proof without reading the weights; None if there is none, or the model was refused."""
    known = read_json(_stamps_path(folder, cache_folder, adapter))
    if known.get("stamps") != _stamps(folder, adapter):
        return None
    return _proof(read_json(cache_folder / f"{_key(known.get('checksum'), precision)}.json"))


def _proof_key(folder: Path, precision: Precision, cache_folder: Path, adapter: Path | None) -> str:
    """Return the key of a proof; the weights are hashed again only if their files have changed."""
    path, stamps = _stamps_path(folder, cache_folder, adapter), _stamps(folder, adapter)
    known = read_json(path)
    if known.get("stamps") != stamps or not isinstance(known.get("checksum"), str):
        digest = hashlib.sha256()
        for one in _files(folder, adapter):
            with one.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
        known = {"stamps": stamps, "checksum": digest.hexdigest()}
        write_json(path, known)
    return _key(known["checksum"], precision)


def _key(checksum: object, precision: Precision) -> str:
    versions = (PROOF_VERSION, __version__, version("transformers"), torch.__version__)
    return hashlib.sha256(repr((checksum, precision, versions)).encode()).hexdigest()


def _files(folder: Path, adapter: Path | None) -> list[Path]:
    configs = [folder / name for name in ("config.json", GENERATION)]
    adapters = [] if adapter is None else [adapter.with_name(ADAPTER_CONFIG), adapter]
    return [path for path in [*configs, *shards(folder), *adapters] if path.exists()]


def _stamps(folder: Path, adapter: Path | None) -> list[list[Any]]:
    return [[path.name, (stat := path.stat()).st_size, stat.st_mtime_ns] for path in _files(folder, adapter)]


def _stamps_path(folder: Path, cache_folder: Path, adapter: Path | None) -> Path:
    places = os.fsencode(folder.resolve()) + (b"" if adapter is None else b"\0" + os.fsencode(adapter.resolve()))
    return cache_folder / f"folder-{hashlib.sha256(places).hexdigest()[:32]}.json"


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a cache file, or nothing if it cannot be read: the proof is then made again."""
    try:
        cached = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return cached if isinstance(cached, dict) else {}


def _proof(cached: dict[str, Any]) -> Proof | None:
    """Return the proof in a cache file, or None if the file is not valid."""
    off = cached.get("switched_off")
    if not isinstance(off, list) or not all(isinstance(name, str) and name in SWITCHED_OFF_NOTES for name in off):
        return None
    return Proof(tuple(off))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a cache file whole, or not at all if that fails."""
    with suppress(OSError):  # the model is then proven again at its next load
        write_whole(path, json.dumps(content))
