"""Proofs that were made before, kept by what they are about: weights, config, precision and our versions."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers

from workbench._version import __version__
from workbench.engine.model_folder import GENERATION
from workbench.engine.proof import LOST, Proof
from workbench.engine.weights import shards
from workbench.errors import UnprovenModelError

if TYPE_CHECKING:
    from workbench.engine.precision import Precision

PROOF_VERSION = 1
"""Raised whenever the same model could be proven to be able to do something else."""

_CHUNK = 2**22


def kept_or_made(folder: Path, precision: Precision, kept_in: Path | None, make: Callable[[], Proof]) -> Proof:
    """The proof that is kept for a folder, else a new one, which is kept.

    Args:
        kept_in: where proofs are; None keeps none.

    Raises:
        UnprovenModelError: the model was refused, now or before.
    """
    if kept_in is None:
        return make()
    place = kept_in / f"{_checksum(folder, precision, kept_in)}.json"
    kept = _read(place)
    if isinstance(problem := kept.get("refused"), str):
        raise UnprovenModelError(problem)
    if (found := _proof(kept)) is not None:
        return found
    try:
        proof = make()
    except UnprovenModelError as error:
        _write(place, {"refused": str(error)})
        raise
    _write(place, {"switched_off": proof.switched_off})
    return proof


def kept(folder: Path, precision: Precision, kept_in: Path) -> Proof | None:
    """The proof that is kept, without reading the weights for it; None where there is none, and of refused models."""
    known = _read(_stamps_place(folder, kept_in))
    if known.get("stamps") != _stamps(folder):
        return None
    return _proof(_read(kept_in / f"{_key(known.get('checksum'), precision)}.json"))


def _checksum(folder: Path, precision: Precision, kept_in: Path) -> str:
    """Of all that a proof depends on; weights are read once for it, as long as their files stay as they are."""
    place, stamps = _stamps_place(folder, kept_in), _stamps(folder)
    known = _read(place)
    if known.get("stamps") != stamps or not isinstance(known.get("checksum"), str):
        digest = hashlib.sha256()
        for path in _files(folder):
            with path.open("rb") as file:
                while piece := file.read(_CHUNK):
                    digest.update(piece)
        known = {"stamps": stamps, "checksum": digest.hexdigest()}
        _write(place, known)
    return _key(known["checksum"], precision)


def _key(checksum: object, precision: Precision) -> str:
    versions = (PROOF_VERSION, __version__, transformers.__version__, torch.__version__)
    return hashlib.sha256(repr((checksum, precision, versions)).encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    configs = [folder / name for name in ("config.json", GENERATION)]
    return [path for path in [*configs, *shards(folder)] if path.exists()]


def _stamps(folder: Path) -> list[list[Any]]:
    return [[path.name, (stat := path.stat()).st_size, stat.st_mtime_ns] for path in _files(folder)]


def _stamps_place(folder: Path, kept_in: Path) -> Path:
    return kept_in / f"folder-{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]}.json"


def _read(path: Path) -> dict[str, Any]:
    """What is kept there; nothing where it cannot be read, so that it is made anew."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _proof(kept: dict[str, Any]) -> Proof | None:
    """The proof that a file holds; None where it holds anything else."""
    off = kept.get("switched_off")
    if not isinstance(off, list) or not all(isinstance(name, str) and name in LOST for name in off):
        return None
    return Proof(tuple(off))


def _write(path: Path, content: dict[str, Any]) -> None:
    with suppress(OSError):  # what cannot be kept is proven again at the next load
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(content), encoding="utf-8")
        partial.replace(path)
