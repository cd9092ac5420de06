"""Weights of a GGUF file, mapped into memory and read one tensor at a time by their names in transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.engine.gguf_blocks import int4_blocks, int8_blocks
from workbench.engine.weight_sizes import KEPT_TYPES, StoredFormat, stored_formats
from workbench.engine.weights import Blocks, Int8Blocks, pad_columns
from workbench.errors import ModelFormatError
from workbench.gguf_files import GGUF_FACTS, GgufModel, GgufTensor, is_unchanged, read_gguf_model
from workbench.gguf_files.tensor_names import row_order
from workbench.gguf_files.tensor_types import READ_TYPES

_CHUNK_WEIGHTS = 2**22
"""Weights that are dequantized at once, 16 MiB in float32."""

_PLAIN = {"F32": "<f4", "F16": "<f2", "BF16": "<i2"}
"""Types of one number each, with numpy's; bf16 is read as whole numbers of two bytes."""


class GgufWeights:
    """Context manager that reads the weights of a GGUF file; an alternative to `WeightFiles`.

    Args:
        folder: folder that the catalog made for the file.
        full_name: function from a tensor's name in transformers to the name by which methods find it.

    Raises:
        ModelFormatError: a part of the file is missing, or was changed since the folder was made.
    """

    def __init__(self, folder: Path, full_name: Callable[[str], str] = str) -> None:
        self._model = open_model(folder)
        self._config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self._layout = self._model.layout
        self._stored = {full_name(name): stored for name, stored in self._model.stored_tensors().items()}
        self._maps: dict[Path, NDArray[np.uint8]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._maps.clear()

    def names(self) -> set[str]:
        return set(self._stored)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._stored[name].shape

    def is_same(self, first: str, second: str) -> bool:
        """Return whether two tensors are stored alike."""
        return self._tensor(first).type == self._tensor(second).type and np.array_equal(
            self._bytes(first), self._bytes(second)
        )

    def dense(self, name: str) -> Tensor:
        """Return the tensor as stored in the file, where possible without a copy, or dequantized to float32."""
        tensor, shape = self._tensor(name), self.shape(name)
        if tensor.type in _PLAIN:
            stored = np.require(self._ordered(name).view(_PLAIN[tensor.type]), requirements="A")
            numbers = torch.from_numpy(stored).view(shape)
            weight = numbers.view(torch.bfloat16) if tensor.type == "BF16" else numbers
        else:
            weight = self._dequantized(name, tensor.type, shape)
        if self._layout.norm_offset and len(shape) == 1:
            return weight.float() - self._layout.norm_offset
        return weight

    def blocks(self, name: str) -> Blocks:
        """Return the matrix in 4-bit blocks: the file's own, or else quantized, with padded columns."""
        if self.stored_format([name]) != "int4":
            return Blocks.of(pad_columns(self.dense(name)))
        return int4_blocks(self._tensor(name).type, self._ordered(name))

    def int8_blocks(self, name: str) -> Int8Blocks:
        """Return the matrix in 8-bit blocks, like `blocks`."""
        if self.stored_format([name]) != "int8":
            return Int8Blocks.of(pad_columns(self.dense(name)))
        return int8_blocks(self._tensor(name).type, self._ordered(name))

    def kept(self, names: Sequence[str]) -> tuple[str, Tensor] | None:
        """Return type and rows of matrices that the step reads as the file has them, where possible without a copy.

        Several matrices must be all experts of one tensor.
        """
        stored = [self._stored[name] for name in names]
        first = stored[0]
        if first.tensor.type not in KEPT_TYPES:
            return None
        if first.expert is None:
            return (first.tensor.type, torch.from_numpy(self._ordered(names[0]))) if len(names) == 1 else None
        if [(one.name, one.expert) for one in stored] != [(first.name, index) for index in range(len(stored))]:
            return None
        rows = len(stored) * first.shape[0]
        data = self._mapped(first.path)[first.start : first.start + len(stored) * first.nbytes]
        return first.tensor.type, torch.from_numpy(np.ascontiguousarray(data.reshape(rows, -1)))

    def stored_format(self, names: list[str]) -> StoredFormat:
        """Return the smallest format that holds several matrices together with exactly the file's numbers."""
        return stored_formats([self._tensor(name).type for name in names])

    def _tensor(self, name: str) -> GgufTensor:
        return self._stored[name].tensor

    def _mapped(self, path: Path) -> NDArray[np.uint8]:
        if path not in self._maps:
            self._maps[path] = np.memmap(path, np.uint8, mode="c")  # torch refuses what cannot be written
        return self._maps[path]

    def _bytes(self, name: str) -> NDArray[np.uint8]:
        """Return the bytes of a tensor, shape (rows, bytes), in the mapped file."""
        stored = self._stored[name]
        rows = stored.shape[0] if len(stored.shape) > 1 else 1
        return self._mapped(stored.path)[stored.start : stored.start + stored.nbytes].reshape(rows, -1)

    def _ordered(self, name: str) -> NDArray[np.uint8]:
        """Return the bytes of a tensor with its rows in transformers' order."""
        data = self._bytes(name)
        heads = self._paired_heads(name)
        if heads is None:
            return np.ascontiguousarray(data)
        count = self.shape(name)[0]
        return np.ascontiguousarray(data.reshape(count, -1)[row_order(count, heads)])

    def _paired_heads(self, name: str) -> int | None:
        """Return the number of heads of a projection whose rows llama.cpp has reordered; None for all others."""
        module = self._stored[name].name.rpartition(".")[0].rpartition(".")[2]
        heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}.get(module)
        return self._config[heads] if heads and self._layout.has_pairs else None

    def _dequantized(self, name: str, kind: str, shape: tuple[int, ...]) -> Tensor:
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        data = self._ordered(name)
        weight = torch.empty(len(data), shape[-1])
        step = max(1, _CHUNK_WEIGHTS // shape[-1])
        for first in range(0, len(data), step):
            with np.errstate(invalid="ignore"):  # scales that are not finite; the decoder reports what comes of them
                part = dequantize(data[first : first + step], GGMLQuantizationType[kind])
            weight[first : first + step] = torch.from_numpy(part)
        return weight.view(shape)


def open_model(folder: Path) -> GgufModel:
    """Return the GGUF model of a folder, whose headers are read once as long as its files stay the same.

    Raises:
        ModelFormatError: a file is missing, or has changed since the folder was made.
    """
    parts = json.loads((folder / GGUF_FACTS).read_text(encoding="utf-8"))["parts"]
    path, stamps = Path(parts[0]["path"]), tuple((part["path"], part["bytes"], part["mtime_ns"]) for part in parts)
    changed = [part["path"] for part in parts if not is_unchanged(part)]
    if not changed:
        return _read_model(path, stamps)
    read_gguf_model(path)  # raises for a file that is missing
    raise ModelFormatError(f"{changed[0]} was changed after it was registered; register it again.")


@lru_cache(maxsize=8)
def _read_model(path: Path, _stamps: tuple[tuple[str, int, int], ...]) -> GgufModel:
    return read_gguf_model(path)


def gguf_files(folder: Path) -> list[Path]:
    """Return the paths of all parts of a folder's GGUF file."""
    return [Path(part["path"]) for part in json.loads((folder / GGUF_FACTS).read_text(encoding="utf-8"))["parts"]]


def gguf_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return names in transformers and shapes of the weights of a folder's GGUF file; read headers only."""
    return _shapes(open_model(folder))


def gguf_types(folder: Path) -> dict[str, str]:
    """Return names in transformers and types, such as ``Q4_K``, of the weights of a folder's GGUF file."""
    return {name: stored.tensor.type for name, stored in open_model(folder).stored_tensors().items()}


def gguf_precision(folder: Path) -> str:
    """Return the name that people use for the precision of a folder's GGUF file, such as ``Q4_K_M``."""
    facts: dict[str, Any] = json.loads((folder / GGUF_FACTS).read_text(encoding="utf-8"))
    return str(facts["precision"])


def is_gguf(folder: Path) -> bool:
    """Return whether the weights of a folder are in a GGUF file."""
    return (folder / GGUF_FACTS).is_file()


def check_gguf_tensors(folder: Path, expected: Mapping[str, tuple[int, ...]] | None, *, is_tied: bool) -> None:
    """Raise unless a GGUF file has exactly the expected tensors, in types that can be read.

    Args:
        expected: shapes by names in transformers; None if the options of the config are not covered.
        is_tied: whether the output head may be missing.

    Raises:
        ModelFormatError: the message names the tensor.
    """
    model = open_model(folder)
    layout = model.layout
    if expected is None:
        raise ModelFormatError(
            f"{model.path} has options of {model.architecture} that the compiled step does not cover; "
            f"such GGUF files cannot be served yet."
        )
    found = _shapes(model)
    head = {"lm_head.weight"} if is_tied else set()
    for name in sorted(set(expected) - set(found) - head):
        raise ModelFormatError(f"{model.path} lacks the tensor {layout.name_in_file(name)}; download it again.")
    for name in sorted(set(found) - set(expected)):
        tensor = layout.name_in_file(name)
        raise ModelFormatError(
            f"{model.path} has the tensor {tensor}, which cannot be served in this architecture yet."
        )
    for name, shape in found.items():
        if shape != expected[name]:
            tensor = layout.name_in_file(name)
            raise ModelFormatError(f"{model.path} has {tensor} in the shape {shape}; {expected[name]} is expected.")
    _check_types(model)


def _shapes(model: GgufModel) -> dict[str, tuple[int, ...]]:
    return {name: stored.shape for name, stored in model.stored_tensors().items()}


def _check_types(model: GgufModel) -> None:
    for tensor, path, _ in model.tensors.values():
        if tensor.type not in READ_TYPES:
            raise ModelFormatError(f"{path} has {tensor.name} in the type {tensor.type}, which cannot be read yet.")
