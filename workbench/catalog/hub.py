"""Models from the Hugging Face hub, through huggingface_hub with its usual cache, token and offline switch."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.catalog.hub_download import BlobStore, LargeFile, download
from workbench.catalog.hub_files import needed_files
from workbench.catalog.hub_id import HubId
from workbench.catalog.hub_refusals import http_error, refusal
from workbench.catalog.progress import Progress, shown
from workbench.errors import DownloadError, OfflineError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling


def fetch_snapshot(hub_id: HubId, *, allow_download: bool, progress: Progress | None = None) -> Path:
    """Return a revision's snapshot in the hub's own cache; download what is missing of it if that is allowed.

    An interrupted download continues at the next call. Only the files that a model needs are downloaded.

    Args:
        progress: replaces the bar that is otherwise shown in a terminal or a notebook; one for the bytes of all files.

    Raises:
        ModelFormatError: it has no weights that can be loaded, or is a sentence model with a part that is not
            supported; nothing was downloaded.
        UnsafeModelError: its only weights are pickles; nothing was downloaded.
        UnknownModelError: the hub has no such repository or revision, or does not show it to this account.
        GatedModelError: its terms must be accepted first, or the token is not valid.
        OfflineError: it is not in the hub's cache, or only a part of it, and the network is missing, switched off, or
            not allowed.
        DownloadError: the hub returned any other error, or the disk has too little room.
        ChecksumError: a file is not the one that the hub describes.
    """
    from huggingface_hub import constants, errors

    if constants.is_offline_mode():
        return _cached(hub_id, "HF_HUB_OFFLINE switches downloads off: unset it, or give a local folder")
    if not allow_download:
        pull = f"fetch it first with `workbench models pull {hub_id}`"
        return _cached(hub_id, f"downloading is not allowed here: {pull}")
    try:
        with shown(str(hub_id), progress) as report:
            return _current(hub_id, report)
    except (http_error(), errors.LocalEntryNotFoundError, OSError) as error:
        raise refusal(hub_id, error) from error


def _current(hub_id: HubId, progress: Progress) -> Path:
    """Return the snapshot of the revision as the hub has it now, or the cached one if the hub does not answer."""
    from huggingface_hub import HfApi, constants, errors

    try:
        info = HfApi().model_info(
            hub_id.repo_id, revision=hub_id.revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
        )
    except errors.RevisionNotFoundError:
        raise
    except http_error() as error:
        reason = "the hub cannot be reached: check the network, or give a local folder"
        try:
            return _cached(hub_id, reason)
        except OfflineError:
            if isinstance(error, errors.HfHubHTTPError):  # the hub answered, so the network works
                raise error from None
            raise
    return _downloaded(hub_id, info, progress)


def _downloaded(hub_id: HubId, info: ModelInfo, progress: Progress) -> Path:
    """Return the snapshot of a revision after downloading what is missing of it."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    siblings = {one.rfilename: one for one in info.siblings or ()}

    def read(name: str) -> Path:
        return Path(hf_hub_download(hub_id.repo_id, name, revision=info.sha, tqdm_class=_silent_bar()))

    needed = needed_files(hub_id, siblings, read)
    missing = [
        siblings[name]
        for name in needed
        if not isinstance(try_to_load_from_cache(hub_id.repo_id, name, revision=info.sha), str)
    ]
    large = {one.rfilename: file for one in missing if (file := _large(hub_id, info, one))}
    if large:
        # The small ones first, with the list of all files, by which an interrupted download is recognized offline.
        _snapshot(hub_id, [name for name in needed if name not in large])
        total = sum(siblings[name].size or 0 for name in needed)
        download(str(hub_id), list(large.values()), BlobStore.of(hub_id.repo_id), progress, total=total)
    return _snapshot(hub_id, needed)


def _large(hub_id: HubId, info: ModelInfo, sibling: RepoSibling) -> LargeFile | None:
    """Return a file of large file storage; None for a small one, which huggingface_hub downloads."""
    from huggingface_hub import hf_hub_url

    if sibling.lfs is None:
        return None
    if not re.fullmatch("[0-9a-f]{64}", sibling.lfs.sha256) or sibling.lfs.size < 0:  # names a file of the cache
        raise DownloadError(f"the hub describes {sibling.rfilename} of {hub_id} without a valid SHA-256 and size.")
    url = hf_hub_url(hub_id.repo_id, sibling.rfilename, revision=info.sha)
    return LargeFile(url, sibling.lfs.size, sibling.lfs.sha256)


def _cached(hub_id: HubId, reason: str) -> Path:
    """Return the snapshot in the cache; raise `OfflineError` with the reason if it or a part of it is not there."""
    from huggingface_hub import errors

    try:
        snapshot = _snapshot(hub_id, ["config.json"], local=True)
    except errors.LocalEntryNotFoundError:
        raise OfflineError(f"{hub_id} is not in the hub's cache on this machine, and {reason}.") from None
    if missing := _missing(hub_id, snapshot):
        some = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise OfflineError(
            f"{hub_id} is in the hub's cache only in part: {len(missing)} of its files are missing ({some}), and "
            f"{reason}."
        )
    return snapshot


def _missing(hub_id: HubId, snapshot: Path) -> list[str]:
    """Return which needed files a snapshot lacks; none if the cache does not know what the repository has."""
    from huggingface_hub import errors

    try:
        from huggingface_hub import get_cached_repo_tree
    except ImportError:  # older versions keep no lists of files
        return []
    try:
        names = [file.path for file in get_cached_repo_tree(hub_id.repo_id, revision=hub_id.revision)]
    except errors.CachedRepoTreeNotFoundError:
        return []
    present = {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()}
    try:
        return sorted(set(needed_files(hub_id, names, snapshot.joinpath)) - present)
    except FileNotFoundError as error:  # the list of weight files, or of a sentence model's parts
        return [Path(error.filename).name]


def _snapshot(hub_id: HubId, names: Sequence[str], *, local: bool = False) -> Path:
    """Return the folder of a revision after huggingface_hub has downloaded the named files, unless they are there."""
    from huggingface_hub import snapshot_download

    patterns = [glob.escape(name) for name in names]
    return Path(
        snapshot_download(
            hub_id.repo_id,
            revision=hub_id.revision,
            allow_patterns=patterns,
            local_files_only=local,
            tqdm_class=_silent_bar(),
        )
    )


def _silent_bar() -> Any:
    """Return the hub's progress bar class, disabled; the hub's own switch would apply to the whole process."""
    from huggingface_hub.utils.tqdm import tqdm

    class SilentBar(tqdm):
        monitor_interval = 0  # otherwise each class has a thread of its own, for ever

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **(kwargs | {"disable": True}))  # type: ignore[no-untyped-call]

    return SilentBar
