"""The model in a GGUF file, or in the parts of a split one."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from workbench.errors import ModelFormatError, shortened
from workbench.gguf_files.header import GgufHeader, GgufTensor, is_later_part, part_paths, read_gguf_header
from workbench.gguf_files.tensor_names import LAYOUTS, MIXTRAL, ROTARY_TENSORS, TensorLayout

_MOST_EXPERTS = 1024
_MOST_STORED = 200_000
"""Most tensors in transformers, where each expert has its own; the largest models have 50,000."""

_VOCABULARY = (
    *("tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.merges"),
    "tokenizer.chat_template",
)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor of transformers is in a file."""

    name: str
    """Name of the tensor in the file."""
    expert: int | None
    """Index of the expert whose part of the tensor it is; None for a whole tensor."""
    shape: tuple[int, ...]
    tensor: GgufTensor
    path: Path
    start: int
    """Where the data begin in the file, in bytes."""

    @property
    def nbytes(self) -> int:
        """Size of the data."""
        return self.tensor.nbytes * prod(self.shape) // self.tensor.weights


@dataclass(frozen=True, slots=True)
class GgufModel:
    """The header of a GGUF file and its path; a split model has the tensors of all parts.

    Raises:
        ModelFormatError: the file has an unknown architecture; methods raise it for values that are missing.
    """

    path: Path
    header: GgufHeader
    tensors: Mapping[str, tuple[GgufTensor, Path, int]]
    """Tensors by name, each with its file and the place of its data in it, in bytes."""

    @property
    def architecture(self) -> str:
        """The name in ``general.architecture``."""
        name = self.header.text("general.architecture")
        if name is None:
            raise ModelFormatError(f"{self.path} does not name its architecture (general.architecture).")
        if name not in LAYOUTS:
            raise ModelFormatError(
                f"{self.path} is of the architecture {shortened(name)}, which cannot be served from a GGUF file yet; "
                f"those of {', '.join(LAYOUTS)} can. A folder of safetensors may work."
            )
        return name

    @property
    def experts(self) -> int:
        """The number of experts, 0 if there are none."""
        if not self.header.whole(f"{self.architecture}.expert_count"):
            return 0
        count = self.size("expert_count")
        if count > _MOST_EXPERTS:
            raise ModelFormatError(f"{self.path} declares {count:,} experts; at most {_MOST_EXPERTS:,} are read.")
        return count

    @property
    def layout(self) -> TensorLayout:
        """The names of the tensors in transformers."""
        return MIXTRAL if self.architecture == "llama" and self.experts else LAYOUTS[self.architecture]

    def stored_tensors(self) -> dict[str, StoredTensor]:
        """Return where the tensors are, by their names in transformers.

        Raises:
            ModelFormatError: a tensor of experts has another number of them than the header declares.
        """
        layout, experts = self.layout, self.experts
        found = {}
        for name, (tensor, path, start) in self.tensors.items():
            if name in ROTARY_TENSORS:
                continue
            pattern, shape = layout.name_in_transformers(name), tensor.shape[::-1]
            if "{}" not in pattern:
                found[pattern] = StoredTensor(name, None, shape, tensor, path, start)
                continue
            if len(shape) != 3 or shape[0] != experts:
                raise ModelFormatError(f"{path} has {name} in the shape {shape}; {experts} experts are expected.")
            if len(found) > _MOST_STORED:
                raise ModelFormatError(f"{path} is damaged: it has more than {_MOST_STORED:,} matrices of experts.")
            size = tensor.nbytes // experts
            for expert in range(experts):
                found[pattern.format(expert)] = StoredTensor(
                    name, expert, shape[1:], tensor, path, start + expert * size
                )
        return found

    def size(self, key: str, default: int | None = None) -> int:
        """Return a positive whole number of the architecture, by the rest of its key."""
        full = f"{self.architecture}.{key}"
        value = self.header.whole(full)
        if value is None and full not in self.header.metadata and default is not None:
            return default
        if value is None or not 0 < value < 2**31:
            found = shortened(value) if full in self.header.metadata else "nothing"
            raise ModelFormatError(f"{self.path} must set {full} to one positive whole number; found {found}.")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a finite number of the architecture, by the rest of its key."""
        full = f"{self.architecture}.{key}"
        value = self.header.number(full)
        if value is None and full not in self.header.metadata and default is not None:
            return default
        if value is None or not math.isfinite(value):
            found = shortened(value) if full in self.header.metadata else "nothing"
            raise ModelFormatError(f"{self.path} must set {full} to a finite number; found {found}.")
        return value

    def floats(self, name: str) -> list[float]:
        """Return the numbers of a tensor in float32."""
        tensor, path, start = self.tensors[name]
        if tensor.type != "F32" or tensor.nbytes > 2**16:
            raise ModelFormatError(f"{path} has the tensor {name} in {tensor.type}, shape {tensor.shape}; F32 is read.")
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(tensor.nbytes)
        return [one for (one,) in struct.iter_unpack("<f", content)]


def read_gguf_model(path: Path, *, keeps_vocabulary: bool = False) -> GgufModel:
    """Return the model of a GGUF file, from the headers of all its parts.

    Args:
        keeps_vocabulary: whether to keep the vocabulary and the chat template.

    Raises:
        ModelFormatError: a part is missing, damaged or cut off, two of them have one tensor, or it is no model.
    """
    if is_later_part(path):
        first = part_paths(path)[0]
        raise ModelFormatError(f"{path} is a later part of a split model; name the first, {first.name}.")
    parts = part_paths(path)
    if missing := [part.name for part in parts if not part.is_file()]:
        raise ModelFormatError(f"{path} lacks {len(missing)} of its {len(parts)} parts, such as {missing[0]}.")
    keeps = _VOCABULARY if keeps_vocabulary else ()
    headers = [read_gguf_header(part, keeps=keeps if part == path else ()) for part in parts]
    if other := headers[0].other_content:
        raise ModelFormatError(f"{path} is of the type {shortened(other)} (general.type), not a model.")
    return join_parts(list(zip(parts, headers, strict=True)))


def join_parts(parts: Sequence[tuple[Path, GgufHeader]]) -> GgufModel:
    """Return the model of all parts of a GGUF file, from their paths and headers.

    Raises:
        ModelFormatError: two parts have one tensor, or they have another number of tensors than the first declares.
    """
    path, first = parts[0]
    tensors: dict[str, tuple[GgufTensor, Path, int]] = {}
    for part, header in parts:
        for tensor in header.tensors:
            if tensor.name in tensors:
                raise ModelFormatError(f"{part} has the tensor {shortened(tensor.name)} of another part again.")
            tensors[tensor.name] = tensor, part, header.data_start + tensor.offset
    declared = first.whole("split.tensors.count")
    if declared is not None and declared != len(tensors):
        raise ModelFormatError(f"{path} declares {declared} tensors in all its parts; found {len(tensors)}.")
    return GgufModel(path, first, tensors)


def is_unchanged(part: Mapping[str, Any]) -> bool:
    """Return whether a file has the size and time that `GGUF_FACTS` tells of it; False if it has gone."""
    try:
        status = Path(part["path"]).stat()
    except OSError:
        return False
    return [status.st_size, status.st_mtime_ns] == [part["bytes"], part["mtime_ns"]]
