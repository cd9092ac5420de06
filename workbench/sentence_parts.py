"""The parts of a sentence model in modules.json, and the files of each part."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from workbench.errors import ModelFormatError

LIST = "modules.json"
"""The file that sentence-transformers writes into every folder; a folder without it is not a sentence model."""

_LONGEST_BYTES = 2**20
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_FILES = {
    "Transformer": (),  # every folder in Hugging Face layout has its files
    "Pooling": (_CONFIG,),
    "Dense": (_CONFIG, _WEIGHTS),
    "LayerNorm": (_CONFIG, _WEIGHTS),
    "Normalize": (_CONFIG,),
    "Dropout": (),
}


@dataclass(frozen=True, slots=True)
class Part:
    """One step from a text to its vector."""

    kind: str
    """Name of sentence-transformers' class, such as ``Pooling``."""
    path: str
    """Path below the model's folder; empty for the folder itself."""

    def __str__(self) -> str:
        return f"{self.kind} ({self.path or 'the folder itself'})"


def read_parts(folder: Path) -> list[Part]:
    """Return the parts of a sentence model in their order, a Transformer first.

    Raises:
        ModelFormatError: the list is damaged, or names a part that is not supported.
    """
    path = folder / LIST
    try:
        if path.stat().st_size > _LONGEST_BYTES:
            raise ModelFormatError(f"{path} is damaged: it has more than {_LONGEST_BYTES:,} bytes")
        return parse_parts(path.read_bytes(), str(path))
    except OSError as error:
        raise ModelFormatError(f"{path} cannot be read: {error}") from error


def parse_parts(content: bytes, source: str) -> list[Part]:
    """Return the parts in the bytes of a list; raise `ModelFormatError` as `read_parts` does, naming the source."""
    try:
        listed = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{source} cannot be read as JSON: {error}") from error
    if not isinstance(listed, list):
        raise ModelFormatError(f"{source} must be a JSON list of modules")
    parts = [_part(entry, source) for entry in listed]
    if [index for index, part in enumerate(parts) if part.kind == "Transformer"] != [0]:
        raise ModelFormatError(f"{source} must have one Transformer, as its first module")
    if parts[0].path:
        raise ModelFormatError(
            f"{source} has its Transformer in {parts[0].path!r}; move the files of that folder next to {LIST} and "
            f"set its path to an empty string"
        )
    return parts


def part_files(parts: list[Part]) -> list[str]:
    """Return the files of the parts as paths below the model's folder; some kinds work without theirs."""
    return [f"{part.path}/{name}" for part in parts if part.path for name in _FILES[part.kind]]


def _part(entry: object, source: str) -> Part:
    kind, path = (entry.get("type"), entry.get("path")) if isinstance(entry, dict) else (None, None)
    if not isinstance(kind, str) or not isinstance(path, str):
        raise ModelFormatError(f"{source} must be a list of modules, each with a type and a path")
    library, _, name = kind.partition(".")
    name = name.rpartition(".")[2]
    if library != "sentence_transformers" or name not in _FILES:
        raise ModelFormatError(
            f"{source} needs the module {kind}, which is not supported; supported sentence_transformers modules: "
            f"{', '.join(_FILES)}"
        )
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or {"\\", "\0"} & set(path):
        raise ModelFormatError(f"{source} has a module outside its folder: {path!r}")
    return Part(name, "" if path == "." else path.rstrip("/"))
