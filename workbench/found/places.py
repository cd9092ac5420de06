"""Folders in which programs for local models keep them, by the environment and the settings of each program."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from platformdirs import user_cache_path, user_config_path

from workbench.errors import ModelFormatError
from workbench.found.safetensors_folder import read_json_file
from workbench.gguf_files.bounded_file import BoundedFile

OLLAMA_SERVICE = Path("/usr/share/ollama/.ollama/models")
"""Models of Ollama's service on Linux, which has a user of its own."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder to look into. Nothing outside of it is read, whatever links it has."""

    name: str
    """Name of the program, or ``model_folders`` for a folder of the run config."""
    root: Path
    """Path without links."""
    layout: Literal["ollama", "hub", "files"]


def known_places(model_folders: Sequence[str | Path] = ()) -> list[Place]:
    """Return the places that exist on this machine, each once.

    Args:
        model_folders: folders of the user, which come first.
    """
    listed: list[tuple[str, Path, Literal["ollama", "hub", "files"]]] = [
        *(("model_folders", Path(folder), "files") for folder in model_folders),
        *(("Ollama", folder, "ollama") for folder in _ollama_folders()),
        *(("LM Studio", folder, "files") for folder in _lm_studio_folders()),
        ("Hugging Face", _hub_cache(), "hub"),
        ("llama.cpp", _llama_cpp_cache(), "files"),
    ]
    places: dict[Path, Place] = {}
    for name, folder, layout in listed:
        root = _existing(folder)
        if root is not None:
            places.setdefault(root, Place(name, root, layout))
    return list(places.values())


def _ollama_folders() -> Iterator[Path]:
    if chosen := os.environ.get("OLLAMA_MODELS"):
        yield Path(chosen)
    yield Path("~/.ollama/models")
    if sys.platform == "linux":
        yield OLLAMA_SERVICE


def _lm_studio_folders() -> Iterator[Path]:
    """Yield the folders of downloads, from the settings of LM Studio's current and older homes, then the defaults."""
    homes = [Path("~/.lmstudio"), Path("~/.cache/lm-studio")]
    if pointed := _pointed_home(Path("~/.lmstudio-home-pointer")):
        homes.insert(0, pointed)
    for home in (*homes, user_config_path(roaming=True) / "LM Studio"):
        if chosen := _downloads_folder(home / "settings.json"):
            yield chosen
    for home in homes:
        yield home / "models"


def _pointed_home(pointer: Path) -> Path | None:
    """Return the absolute path in the first line of a file; None if there is none."""
    try:
        with BoundedFile(pointer.expanduser()) as file:
            home = Path(file.bytes(min(file.size, 4096), "its content").decode().partition("\n")[0].strip())
    except (ModelFormatError, RuntimeError, UnicodeDecodeError):
        return None
    return home if home.is_absolute() else None


def _downloads_folder(settings: Path) -> Path | None:
    try:
        content = read_json_file(settings.expanduser())
    except (ModelFormatError, RuntimeError):
        return None
    chosen = content.get("downloadsFolder") if isinstance(content, dict) else None
    return Path(chosen) if isinstance(chosen, str) and Path(chosen).is_absolute() else None


def _hub_cache() -> Path:
    """Return the cache that huggingface_hub uses, by the same variables."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if chosen := os.environ.get(variable):
            return Path(os.path.expandvars(chosen))
    if chosen := os.environ.get("HF_HOME"):
        return Path(os.path.expandvars(chosen)) / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface" / "hub"


def _llama_cpp_cache() -> Path:
    if chosen := os.environ.get("LLAMA_CACHE"):
        return Path(chosen)
    return user_cache_path() / "llama.cpp"


def _existing(folder: Path) -> Path | None:
    """Return a folder's path without links; None unless it is an existing folder."""
    try:
        root = folder.expanduser().resolve(strict=True)
        return root if root.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # missing, a loop of links, no home, a zero byte
        return None
