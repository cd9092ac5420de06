"""Facts of a model folder in Hugging Face layout, from its config and the headers of its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from workbench.catalog.folders import INDEX, WEIGHTS
from workbench.errors import ModelFormatError
from workbench.gguf_files.bounded_file import BoundedFile
from workbench.tensor_headers import read_safetensors_header

CONFIG = "config.json"

LONGEST_JSON_BYTES = 8 * 2**20
"""Longer files and headers are left out of the list; loading reads longer headers too."""


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """Config and weights of a model folder."""

    config: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    """Shape of each tensor."""
    weights_by_type: Mapping[str, int]
    """Number of weights of each type, such as ``BF16``."""
    size_bytes: int

    @property
    def architecture(self) -> str | None:
        """First architecture of the config, such as ``LlamaForCausalLM``."""
        listed = self.config.get("architectures")
        first = listed[0] if isinstance(listed, list) and listed else None
        return first if isinstance(first, str) else None


def read_folder(folder: Path) -> FolderFacts:
    """Return the facts of a folder with ``config.json`` and safetensors weights.

    Raises:
        ModelFormatError: a file is missing, damaged, or longer than any real one; the message names it.
    """
    config = _read_object(folder / CONFIG)
    shapes: dict[str, tuple[int, ...]] = {}
    weights_by_type: dict[str, int] = {}
    size_bytes = 0
    for path in _weight_files(folder):
        for name, (dtype, shape) in read_safetensors_header(path, LONGEST_JSON_BYTES).items():
            shapes[name] = shape
            weights_by_type[dtype] = weights_by_type.get(dtype, 0) + prod(shape)
        size_bytes += path.stat().st_size
    return FolderFacts(config, shapes, weights_by_type, size_bytes)


def read_json_file(path: Path, longest_bytes: int = LONGEST_JSON_BYTES) -> Any:
    """Return the content of a JSON file; raise ModelFormatError if it cannot be read or is too long."""
    with BoundedFile(path) as file:
        if file.size > longest_bytes:
            raise ModelFormatError(
                f"{path} is damaged: it has {file.size:,} bytes of JSON; at most {longest_bytes:,} are read."
            )
        content = file.bytes(file.size, "its content")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path} is damaged: it has no valid JSON ({type(error).__name__}).") from error


def _weight_files(folder: Path) -> list[Path]:
    """Return the files that are loaded: those of the index, or the single one; none if there is neither."""
    index, single = folder / INDEX, folder / WEIGHTS
    if not index.is_file():
        return [single] if single.is_file() else []
    weight_map = _read_object(index).get("weight_map")
    names = set(weight_map.values()) if isinstance(weight_map, dict) and all(map(_is_name, weight_map.values())) else ()
    if not names:
        raise ModelFormatError(f"{index} is damaged: it does not list the files of the weights.")
    return [folder / name for name in sorted(names)]


def _is_name(value: object) -> bool:
    """Return whether a value names a file in the same folder."""
    return isinstance(value, str) and value.endswith(".safetensors") and Path(value).name == value


def _read_object(path: Path) -> dict[str, Any]:
    content = read_json_file(path)
    if not isinstance(content, dict):
        raise ModelFormatError(f"{path} must hold a JSON object; it holds a {type(content).__name__}.")
    return content
