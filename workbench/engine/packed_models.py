"""Packed models between processes: what the first load of a fused model computes, and later loads map into memory.

Quantizing and packing the weights takes seconds, and so do reading a config and a tokenizer with transformers, most of
it for imports. So the first load stores the packed matrices, the config as transformers completed it, and the tokenizer
as transformers built it; later loads need none of transformers. The name of the stored file contains a hash of whatever
the result depends on: size and time of the folder's files, versions, the engine's sources and the processor.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import tokenizers
import torch
from torch import Tensor

from workbench._version import __version__
from workbench.engine.kernels.matrix import Matrix
from workbench.engine.kernels.simd import FEATURES, FP8, INT4, INT8
from workbench.engine.packed_file import (
    SUFFIX,
    checksum_path,
    model_key,
    packed_facts,
    read_packed,
    remove_packed,
    write_packed,
)
from workbench.engine.stored_tokenizer import stored_tokenizer, tokenizer_tensors
from workbench.paths import contents_hash

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedConfig

    from workbench.engine.precision import Precision
    from workbench.text_tokenizer import TextTokenizer

LIMIT_BYTES = 8 * 2**30
"""Size of all packed models together; the least recently used are deleted first."""

_OTHER_FILES = frozenset({"record.json"})
"""Files in a model's folder that do not affect it: the catalog touches its record when it verifies a model."""


@dataclass(frozen=True, slots=True)
class StoredTokenizer:
    """A tokenizer that transformers has built before; satisfies `TextTokenizer`."""

    backend_tokenizer: Tokenizer
    special_tokens_map: dict[str, Any]
    chat_template: Any
    eos_token_id: Any


class StoredConfig(SimpleNamespace):
    """The attributes of a text model's config as transformers completed them."""

    def get_text_config(self, **_: Any) -> StoredConfig:
        """Return the config itself, as transformers does for text models."""
        return self


class PackedParts:
    """Packed matrices and rotary frequencies by key: those of a stored model, or those that are computed now.

    Args:
        facts, tensors: parts of a stored model, as `facts` returned them; without them, all are computed.
    """

    def __init__(self, facts: Mapping[str, Any] | None = None, tensors: Mapping[str, Tensor] | None = None) -> None:
        self._found = facts or {}
        self._tensors = tensors or {}
        self._made: dict[str, Matrix] = {}
        self._rotary: dict[str, tuple[Tensor, float]] = {}

    def matrix(self, key: str, pack: Callable[[], Matrix]) -> Matrix:
        """Return the stored matrix, or else that which ``pack`` returns."""
        if key not in self._found:
            self._made[key] = pack()
            return self._made[key]
        matrix = Matrix.__new__(Matrix)
        for name, value in self._found[key].items():
            setattr(matrix, name, self._tensors[value] if isinstance(value, str) else value)
        return matrix

    def rotary(self, key: str, compute: Callable[[], tuple[Tensor, float]]) -> tuple[Tensor, float]:
        """Return the stored rotary frequencies and their scale, or else those that ``compute`` returns."""
        if key not in self._found:
            self._rotary[key] = compute()
            return self._rotary[key]
        return self._tensors[key], self._found[key]

    def facts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the attributes of each matrix that was packed now, with names of tensors, and these tensors.

        Matrices that are not quantized are left out: they would be a second copy of the model's own file.
        """
        facts: dict[str, Any] = {}
        tensors: dict[str, Tensor] = {}
        for key, rotary in self._rotary.items():
            tensors[key], facts[key] = rotary
        for key, matrix in self._made.items():
            if matrix.weight_format in (FP8, INT8, INT4):
                parts = vars(matrix)
                named = {name: f"{key} {name}" for name, value in parts.items() if isinstance(value, Tensor)}
                tensors |= {full: parts[name] for name, full in named.items()}
                facts[key] = parts | named
        return facts, tensors


@dataclass(frozen=True, slots=True)
class PackedModel:
    """A stored model."""

    config: StoredConfig
    tokenizer: StoredTokenizer
    parts: PackedParts


@dataclass(frozen=True, slots=True)
class PackedModels:
    """The stored models in a folder.

    Args:
        folder: created by the first model that is stored; None stores none.
    """

    folder: Path | None
    limit_bytes: int = field(default=LIMIT_BYTES, kw_only=True)

    def find(self, model: Path, precision: Precision, adapter: Path | None = None) -> PackedModel | None:
        """Return the stored form of a model folder; None unless it is stored and nothing has changed since.

        Args:
            adapter: folder of the adapter that is merged into the model; each has a stored form of its own.
        """
        path = self._path(model, precision, adapter)
        found = None if path is None else read_packed(path)
        if path is None or found is None:
            return None
        with suppress(OSError):
            os.utime(checksum_path(path))  # the most recently used one
        facts, tensors = found
        return PackedModel(
            StoredConfig(**facts["config"]),
            StoredTokenizer(stored_tokenizer(tensors), **facts["tokenizer"]),
            PackedParts(facts["parts"], tensors),
        )

    def has(self, model: Path, precision: Precision, adapter: Path | None = None) -> bool:
        """Return whether `find` would find a model, without reading it."""
        path = self._path(model, precision, adapter)
        return path is not None and path.exists()

    def store(
        self,
        model: Path,
        precision: Precision,
        config: PreTrainedConfig,
        tokenizer: TextTokenizer,
        parts: PackedParts,
        adapter: Path | None = None,
    ) -> None:
        """Store a model that was just packed; do nothing if it cannot be stored exactly, or the disk is too full."""
        path, rust = self._path(model, precision, adapter), tokenizer.backend_tokenizer
        attributes, described = config_attributes(config), tokenizer_attributes(tokenizer)
        if path is None or not _is_json([attributes, described]) or rust.encode_special_tokens:
            return
        packed, tensors = parts.facts()
        tensors |= tokenizer_tensors(rust)
        facts = {
            "model": str(model.resolve()),
            "adapter": adapter and str(adapter.resolve()),
            "config": attributes,
            "tokenizer": described,
            "parts": packed,
        }
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._make_room(path, sum(tensor.nbytes for tensor in tensors.values()))
            write_packed(path, facts, tensors)

    def _path(self, model: Path, precision: Precision, adapter: Path | None) -> Path | None:
        if self.folder is None:
            return None
        key, content = model_key(model), content_key(model, adapter)
        if adapter is not None:
            key = f"{key}-{model_key(adapter)}"
        return self.folder / f"{key}-{precision}-{content}{SUFFIX}"

    def _make_room(self, path: Path, needed: int) -> None:
        """Delete what is stored of deleted models, all but one older form of this one, and the least recently used.

        Two forms of a model are kept for those who change between two versions or processors.

        Raises:
            OSError: the model is larger than the limit, or than half of the free disk.
        """
        stored = sorted((one for one in path.parent.glob(f"*{SUFFIX}") if one != path), key=_last_use, reverse=True)
        same = [one for one in stored if one.name.rpartition("-")[0] == path.name.rpartition("-")[0]]
        for one in {*same[1:], *(one for one in stored if not _has_model(one))}:
            remove_packed(one)
            stored.remove(one)
        while stored and sum(map(_size, stored)) + needed > self.limit_bytes:
            remove_packed(stored.pop())
        if needed > min(self.limit_bytes, shutil.disk_usage(path.parent).free // 2):
            raise OSError("the packed model is too large to be stored")


def config_attributes(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the attributes of a config under all of their names, without the labels of classes."""
    attributes = config.to_dict() | {alias: getattr(config, name) for alias, name in config.attribute_map.items()}
    return {name: value for name, value in attributes.items() if name not in ("id2label", "label2id")}


def tokenizer_attributes(tokenizer: TextTokenizer) -> dict[str, Any]:
    """Return the arguments of a `StoredTokenizer` besides the Rust tokenizer."""
    return {
        "special_tokens_map": dict(tokenizer.special_tokens_map),
        "chat_template": tokenizer.chat_template,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _is_json(value: object) -> bool:
    """Return whether a value is the same when it is read again from JSON."""
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


def content_key(model: Path, adapter: Path | None) -> str:
    """Return a hash of whatever a packed form depends on: files, versions, sources and the processor's features."""
    versions = (__version__, torch.__version__, version("transformers"), tokenizers.__version__)
    stamps = _stamps(model) if adapter is None else [*_stamps(model), (), *_stamps(adapter)]
    return hashlib.sha256(repr((stamps, versions, _sources(), sorted(FEATURES.items()))).encode()).hexdigest()[:24]


def _stamps(folder: Path) -> list[tuple[object, ...]]:
    return sorted((path.relative_to(folder).as_posix(), *_stamp(path)) for path in _model_files(folder))


def _model_files(model: Path) -> Iterator[Path]:
    """Yield the files that a model may be loaded from."""
    return (path for path in model.rglob("*") if path.is_file() and path.name not in _OTHER_FILES)


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


@cache
def _sources() -> str:
    """Return a hash of the engine's sources with its kernels: any change of them may change the packed form."""
    return contents_hash(Path(__file__).parent.rglob("*.py"))


def _has_model(path: Path) -> bool:
    """Return whether the folders of a stored model and of its adapter still exist."""
    facts = packed_facts(path)
    model, adapter = facts.get("model"), facts.get("adapter")
    return isinstance(model, str) and Path(model).is_dir() and (adapter is None or Path(str(adapter)).is_dir())


def _last_use(path: Path) -> float:
    try:
        return checksum_path(path).stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
