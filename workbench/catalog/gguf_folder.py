"""Folders in Hugging Face layout for GGUF files, with all but the weights, which stay in the file.

::

    <cache>/gguf/<name>-<key>/
        config.json, generation_config.json, tokenizer.json, tokenizer_config.json
        gguf.json            where the file's parts are, with their sizes and times

The key follows from the path, sizes and times of the parts, so a file that was written again has another folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from workbench._version import __version__
from workbench.catalog.cache import cache_dir
from workbench.errors import CatalogError, ModelFormatError
from workbench.gguf_files import (
    GGUF_FACTS,
    GgufModel,
    begins_as_gguf,
    config_of,
    is_later_part,
    is_unchanged,
    part_paths,
    precision_name,
    read_gguf_model,
)
from workbench.gguf_files.header import GgufArray
from workbench.paths import reason

_FOLDER = "gguf"
_PREFIX = "gguf:"
_FORMAT = 1
"""Number to increase when other files are written for the same GGUF file."""
_LONGEST_PATH = 1000
_RANKED_BY_PLACE = ("gemma", "gemma2", "gemma3")


def gguf_path(llama_model: str) -> Path | None:
    """Return the path of a model that is named by a GGUF file (``gguf:PATH`` or a path); None for any other name.

    A file without the suffix is recognized by its first bytes, as Ollama's blobs are.
    """
    named = llama_model.removeprefix(_PREFIX)
    if not named or len(named) > _LONGEST_PATH or not named.isprintable():
        return None
    try:
        path = Path(named).expanduser()
    except RuntimeError:  # there is no such home
        return None
    return path if named != llama_model or _is_gguf(path) else None


def _is_gguf(path: Path) -> bool:
    try:
        return path.is_file() and (path.suffix.lower() == ".gguf" or begins_as_gguf(path))
    except OSError:
        return False


def gguf_folder(path: Path) -> Path:
    """Return the folder of a GGUF file, by its absolute path; write it first if it is missing or the file has changed.

    Raises:
        ModelFormatError: the file is damaged, cut off, or of an architecture or with a tokenizer that is not known.
        CatalogError: the cache cannot be written.
    """
    parts = part_paths(path)
    if path.is_dir():
        raise ModelFormatError(f"{path} is a folder; {_advice(path)}.")
    try:
        stamps = [(str(part), part.stat().st_size, part.stat().st_mtime_ns) for part in parts]
    except OSError as error:
        raise ModelFormatError(f"{path} cannot be read: {error.strerror} ({Path(error.filename).name}).") from error
    key = hashlib.sha256(repr((stamps, __version__, _FORMAT)).encode(errors="surrogateescape")).hexdigest()[:16]
    folder = cache_dir() / _FOLDER / f"{path.stem[:60]}-{key}"
    if (folder / GGUF_FACTS).is_file():
        return folder
    model = read_gguf_model(path, keeps_vocabulary=True)
    try:
        _make(folder, model, stamps)
    except OSError as error:
        raise CatalogError(f"{folder.parent}, the cache of GGUF files, cannot be written: {reason(error)}.") from error
    return folder


def _advice(folder: Path) -> str:
    """Return what to name instead of a folder."""
    named = sorted(path.name for path in folder.glob("*.[gG][gG][uU][fF]") if not is_later_part(path))
    if named:
        others = f" or another of its {len(named)} GGUF files" if len(named) > 1 else ""
        return f"name the GGUF file in it: {_PREFIX}{folder / named[0]}{others}"
    if (folder / "config.json").is_file():
        return f"name it without {_PREFIX}"
    return "name a GGUF file; it has none"


def _make(folder: Path, model: GgufModel, stamps: list[tuple[str, int, int]]) -> None:
    """Write a folder that appears in one step."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as partial:
        made = Path(partial) / "made"
        made.mkdir()
        _write(made, model, stamps)
        try:
            made.rename(folder)
        except OSError:  # another process was faster
            if not (folder / GGUF_FACTS).is_file():
                raise


def _write(folder: Path, model: GgufModel, stamps: list[tuple[str, int, int]]) -> None:
    from workbench.catalog.gguf_tokenizer import write_tokenizer

    config = config_of(model)
    fields: dict[str, Any] = {
        key: value.elements if isinstance(value, GgufArray) else value for key, value in model.header.metadata.items()
    }
    ranks_by_place = model.architecture in _RANKED_BY_PLACE
    try:
        write_tokenizer(fields, folder, config["max_position_embeddings"], ranks_by_place=ranks_by_place)
    except ValueError as error:
        raise ModelFormatError(f"{model.path} cannot be served: {error}.") from error
    ends = [fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    generation = {"eos_token_id": sorted({end for end in ends if isinstance(end, int)})}
    weights_by_type: dict[str, int] = {}
    for tensor, _, _ in model.tensors.values():
        weights_by_type[tensor.type] = weights_by_type.get(tensor.type, 0) + tensor.weights
    facts = {
        "parts": [{"path": path, "bytes": size, "mtime_ns": time} for path, size, time in stamps],
        "precision": precision_name(model.header.whole("general.file_type"), weights_by_type),
    }
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", generation)
    _write_json(folder / GGUF_FACTS, facts)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8", newline="\n")


def _remove_stale(folders: Path) -> None:
    """Delete the folders of files that are gone or were written again."""
    for facts_path in folders.glob(f"*/{GGUF_FACTS}"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            parts = json.loads(facts_path.read_text(encoding="utf-8"))["parts"]
            if not all(is_unchanged(part) for part in parts):
                shutil.rmtree(facts_path.parent)
