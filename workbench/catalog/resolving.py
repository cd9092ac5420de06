"""Resolution of a model's name (catalog name, local folder, GGUF file or hub id) to a folder in Hugging Face layout."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath

from workbench.catalog.entry import entries, find_entry
from workbench.catalog.folders import check_folder
from workbench.catalog.gguf_folder import gguf_folder, gguf_path
from workbench.catalog.hub import fetch_snapshot
from workbench.catalog.hub_id import parse_hub_id
from workbench.errors import ModelFormatError, UnknownModelError
from workbench.paths import reason, typed_path

_CATALOG_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_LONGEST_NAME = 1000
_LONGEST_PART = 255  # bytes in the name of a folder, on all systems


def resolve_elsewhere(llama_model: str, *, allow_download: bool) -> Path:
    """Return the folder of a model outside the catalog; a local folder or file precedes a hub id of the same name."""
    if (path := gguf_path(llama_model)) is not None:
        return gguf_folder(_absolute(path))
    if looks_like_path(llama_model) or exists(llama_model):
        return check_folder(local_path(llama_model))
    if hub_id := parse_hub_id(llama_model):
        return check_folder(fetch_snapshot(hub_id, allow_download=allow_download))
    if re.fullmatch(_CATALOG_NAME, llama_model):
        if llama_model.lower().endswith(".gguf"):
            local_path(llama_model)  # raises, as there is no such file
        find_entry(llama_model)
    raise UnknownModelError(
        f"{llama_model[:200]!r} is not a model: give a catalog name ({', '.join(entry.name for entry in entries())}), "
        f"a folder or GGUF file (/path/to/model, ./model or ./model.gguf), or a hub id (organization/name, or "
        f"organization/name@revision); each may be followed by +./adapter. A model of Ollama can be named, such as "
        f"llama3.2:1b, once `workbench models register` has found it."
    )


def looks_like_path(text: str) -> bool:
    """Return whether a text is written as a path, whether or not it exists."""
    return (
        text.startswith(("/", "./", "../", "~", ".\\", "..\\")) or text in (".", "..") or PurePath(text).is_absolute()
    )


def exists(text: str) -> bool:
    """Return whether a folder of that name exists, or a file, which `local_path` refuses with a better message."""
    return _may_be_path(text) and os.path.exists(text)  # noqa: PTH110 - Path.exists may raise PermissionError


def _may_be_path(text: str) -> bool:
    """Return whether a text has the length and characters of a path, and none of its parts is too long for a name."""
    if not text or len(text) > _LONGEST_NAME or not text.isprintable():
        return False
    return all(len(part.encode(errors="replace")) <= _LONGEST_PART for part in PurePath(text).parts)


def local_path(text: str) -> Path:
    """Return the absolute path of a model's folder; raise if it is none, or not a path that may be given."""
    if not _may_be_path(text):
        raise UnknownModelError(f"{text[:200]!r} is not a valid path: it is too long or has control characters.")
    path = _absolute(typed_path(text, "model"))
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError as error:
        raise UnknownModelError(f"{str(path)!r} cannot be read: {reason(error)}.") from error
    if is_file:
        raise ModelFormatError(
            f"{path} is not a GGUF file; give one, or the folder with config.json, the weights and the tokenizer."
        )
    if not is_folder:
        kind = "file" if path.suffix.lower() == ".gguf" else "folder"
        raise UnknownModelError(f"there is no {kind} {str(path)!r}.")
    return path


def _absolute(path: Path) -> Path:
    if ".." in path.parts:
        raise UnknownModelError(f"{str(path)!r}: the path of a model must not contain '..'; give an absolute path.")
    return path.absolute()
