"""Search of a place for files and folders that are models, by names alone; no link is followed out of the place."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import ModelFormatError
from workbench.found.places import Place
from workbench.found.safetensors_folder import CONFIG, read_json_file
from workbench.gguf_files.bounded_file import BoundedFile
from workbench.gguf_files.header import is_later_part, part_paths

_DEEPEST = 6
"""Levels of folders below a place that are searched."""
_MOST_ENTRIES = 50_000
"""Files and folders that are looked at in one place."""
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")

_OLLAMA_HOSTS = ("registry.ollama.ai", "ollama.com")
_OLLAMA_LISTS = ("manifests", "manifests-v2")
_OLLAMA_WEIGHTS = "application/vnd.ollama.image.model"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file or a folder that looks like a model."""

    name: str
    """Name that users see and give."""
    place: str
    path: Path


def candidates(place: Place) -> Iterator[Candidate]:
    """Yield what looks like a model in a place, in the order of names."""
    match place.layout:
        case "ollama":
            yield from _in_ollama(place)
        case "hub":
            yield from _in_hub_cache(place)
        case _:
            yield from _in_folder(place, place.root)


def display_path(path: Path) -> str:
    """Return a path as a user may type it, with ``~`` for the home folder."""
    try:
        return f"~/{path.relative_to(Path.home().resolve()).as_posix()}"
    except (ValueError, RuntimeError):
        return str(path)


def _in_folder(place: Place, folder: Path, hub_id: str | None = None) -> Iterator[Candidate]:
    """Yield model folders and GGUF files; a model folder is not searched further. ``hub_id`` names the folder."""
    for current, names in _walk(folder):
        if _is_model(names) and not any(_leads_out(place, current / name) for name in names if _is_read(name)):
            is_snapshot = hub_id is not None and current == folder
            yield Candidate(hub_id if hub_id and is_snapshot else display_path(current), place.name, current)
        for path in (current / name for name in names if name.lower().endswith(".gguf") and _is_plain(name)):
            if not is_later_part(path) and _are_inside(place, part_paths(path)):
                yield Candidate(display_path(path), place.name, path)


def _walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield folders with the sorted names of their files, without hidden and linked ones, and odd names."""
    entries_left = _MOST_ENTRIES
    base_depth = len(folder.parts)
    for current, folders, files in os.walk(folder):
        entries_left -= len(folders) + len(files)
        if entries_left < 0:
            return
        is_deepest = len(Path(current).parts) - base_depth >= _DEEPEST
        folders[:] = [] if _is_model(files) or is_deepest else sorted(filter(_is_plain, folders))
        yield Path(current), sorted(files)


def _is_model(names: Collection[str]) -> bool:
    """Return whether a folder with files of these names is a model."""
    return CONFIG in names and any(name.lower().endswith(_WEIGHTS) for name in names)


def _is_read(name: str) -> bool:
    """Return whether the description of a model folder, or the check before it is loaded, may read such a file."""
    return name.lower().endswith((".json", *_WEIGHTS))


def _in_hub_cache(place: Place) -> Iterator[Candidate]:
    """Yield the newest snapshot of each repository, by hub id where that means the same snapshot."""
    for repository in _children(place.root, "models--"):
        hub_id = repository.name.removeprefix("models--").replace("--", "/")
        if not repository.name.isprintable() or _is_link(repository):
            continue
        snapshot, is_main = _newest_snapshot(place, repository)
        if snapshot is not None:
            yield from _in_folder(place, snapshot, hub_id if is_main and hub_id.count("/") == 1 else None)


def _newest_snapshot(place: Place, repository: Path) -> tuple[Path | None, bool]:
    """Return the snapshot of the branch ``main``, else of the newest branch, else the newest; and whether it is main's.

    A hub id means the branch ``main``.
    """
    branches = [path for path in _children(repository / "refs") if _is_inside(place, path)]
    branches.sort(key=lambda path: (path.name == "main", _time_ns(path)), reverse=True)
    snapshots = [
        path
        for path in _children(repository / "snapshots")
        if _is_plain(path.name) and not _is_link(path) and _is_inside(place, path, is_folder=True)
    ]
    for branch in branches:
        snapshot = repository / "snapshots" / _commit(branch)
        if snapshot in snapshots:
            return snapshot, branch.name == "main"
    return max(snapshots, key=_time_ns, default=None), False


def _time_ns(path: Path) -> int:
    """Return when a file or folder was changed; 0 if it has gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _commit(branch: Path) -> str:
    """Return the commit that a file of a branch names; empty if it cannot be read."""
    try:
        with BoundedFile(branch) as file:
            return file.bytes(min(file.size, 100), "its content").decode().strip()
    except (ModelFormatError, UnicodeDecodeError):
        return ""


def _in_ollama(place: Place) -> Iterator[Candidate]:
    for listing in (place.root / name for name in _OLLAMA_LISTS):
        for current, tags in _walk(listing):
            if len(parts := current.relative_to(listing).parts) != 3:
                continue
            host, namespace, model = parts
            for manifest in (current / tag for tag in filter(_is_plain, tags)):
                if _is_inside(place, manifest) and (weights := _ollama_weights(place, manifest)):
                    yield Candidate(_ollama_name(host, namespace, model, manifest.name), place.name, weights)


def _ollama_name(host: str, namespace: str, model: str, tag: str) -> str:
    if host not in _OLLAMA_HOSTS:
        return f"{host}/{namespace}/{model}:{tag}"
    return f"{model}:{tag}" if namespace == "library" else f"{namespace}/{model}:{tag}"


def _ollama_weights(place: Place, manifest: Path) -> Path | None:
    """Return the file of the weights that a manifest lists; None if it lists none, or the file is not there."""
    try:
        layers = read_json_file(manifest, 2**20)["layers"]
        digests = [layer["digest"] for layer in layers if layer["mediaType"] == _OLLAMA_WEIGHTS]
        match = _DIGEST.fullmatch(digests[0])
    except (ModelFormatError, LookupError, TypeError):
        return None
    if match is None:
        return None
    blobs = [place.root / "blobs" / f"sha256{separator}{match[1]}" for separator in "-:"]
    return next((blob for blob in blobs if _is_inside(place, blob)), None)


def _are_inside(place: Place, parts: list[Path]) -> bool:
    """Return whether the first file of a split model is in the place, and all others that exist."""
    return _is_inside(place, parts[0]) and all(_is_inside(place, part) for part in parts[1:] if os.path.lexists(part))


def _is_inside(place: Place, path: Path, *, is_folder: bool = False) -> bool:
    """Return whether a path, with its links followed, is an existing file in the place."""
    try:
        real = path.resolve(strict=True)
        return real.is_relative_to(place.root) and (real.is_dir() if is_folder else real.is_file())
    except (OSError, RuntimeError, ValueError):
        return False


def _children(folder: Path, prefix: str = "") -> list[Path]:
    """Return what is in a folder, in the order of names; nothing if it is missing or cannot be read."""
    try:
        return [folder / name for name in sorted(os.listdir(folder)) if name.startswith(prefix)]  # noqa: PTH208
    except OSError:
        return []


def _is_link(path: Path) -> bool:
    """Return whether a path is a link; False if that cannot be read."""
    try:
        return path.is_symlink()
    except OSError:
        return False


def _leads_out(place: Place, path: Path) -> bool:
    """Return whether reading a file could leave the place, or never end, as with a pipe or a device."""
    return os.path.exists(path) and not _is_inside(place, path)  # noqa: PTH110 - Path.exists may raise PermissionError


def _is_plain(name: str) -> bool:
    """Return whether a text is the name of a file or folder that is not hidden and can be shown."""
    return bool(name) and name.isprintable() and not name.startswith(".") and Path(name).name == name
