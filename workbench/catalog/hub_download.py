"""Download of large files from the hub, each continued from where an earlier attempt or process ended.

huggingface_hub deletes what an interrupted download has received, so a large model would start again from its first
byte. This module puts the weights into the hub's own cache first, under the names that huggingface_hub gives them; it
then finds them there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.catalog.downloading import sha256_of
from workbench.catalog.hub_refusals import http_error
from workbench.catalog.progress import Progress
from workbench.errors import ChecksumError, DownloadError

_FUTILE_TRIES = 5
"""Attempts in a row that receive nothing before a download fails."""

_FIRST_PAUSE_S = 0.5
"""Pause after the first attempt that received nothing; it doubles with each further one."""

_PASSING = (408, 429, 500, 502, 503, 504)
"""HTTP status codes of failures that may pass."""


@dataclass(frozen=True, slots=True)
class LargeFile:
    """A file in the hub's large file storage."""

    url: str
    nbytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BlobStore:
    """The folder of one repository's files in the hub's cache, each named by its SHA-256."""

    blobs: Path
    locks: Path

    @classmethod
    def of(cls, repo_id: str) -> BlobStore:
        """Return the store of a repository; its folders may not exist yet."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        cache, name = Path(constants.HF_HUB_CACHE), repo_folder_name(repo_id=repo_id, repo_type="model")
        return cls(cache / name / "blobs", cache / ".locks" / name)

    def path(self, file: LargeFile) -> Path:
        return self.blobs / file.sha256

    def partial(self, file: LargeFile) -> Path:
        """Return the path of what has been received of a file."""
        return self.blobs / f"{file.sha256}.incomplete"

    def received(self, file: LargeFile) -> int:
        """Return how many bytes of a file are there."""
        return file.nbytes if self.path(file).exists() else min(_size(self.partial(file)), file.nbytes)


def download(name: str, files: Sequence[LargeFile], store: BlobStore, progress: Progress, *, total: int) -> None:
    """Put files into the store, each verified by its SHA-256; continue those of which a part is there.

    Args:
        name: the model's name, for messages.
        progress: receives the bytes that are there of all files of the model.
        total: size of all files of the model, including those that this function does not download.

    Raises:
        DownloadError: the disk has too little room, or the server sends files of another size.
        ChecksumError: a file differs from the one that the hub describes; it was deleted.
        Exception: an error of the HTTP client or of huggingface_hub, after several attempts that received nothing.
    """
    store.blobs.mkdir(parents=True, exist_ok=True)
    store.locks.mkdir(parents=True, exist_ok=True)
    _check_room(name, files, store)
    done = {file.sha256: store.received(file) for file in files}
    before = total - sum(file.nbytes for file in files)  # files that are there, or too small to count

    def report(file: LargeFile, received: int) -> None:
        done[file.sha256] = received
        progress("download", before + sum(done.values()), total)

    for file in files:
        _download(name, file, store, progress, report)


def _download(
    name: str, file: LargeFile, store: BlobStore, progress: Progress, report: Callable[[LargeFile, int], None]
) -> None:
    from filelock import FileLock, Timeout

    lock = FileLock(store.locks / f"{file.sha256}.lock")  # huggingface_hub's own, so that nothing is fetched twice
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("wait", 0, None)
        lock.acquire()
    try:
        report(file, store.received(file))
        if not store.path(file).exists():
            _receive(name, file, store.partial(file), lambda received: report(file, received))
            _verify(name, file, store.partial(file))
            store.partial(file).replace(store.path(file))
    finally:
        lock.release()


def _receive(name: str, file: LargeFile, partial: Path, report: Callable[[int], None]) -> None:
    """Append to ``partial`` until it has the file's size, in as many attempts as it takes while each makes progress."""
    from huggingface_hub import errors

    futile = 0
    while (before := _size(partial)) != file.nbytes:
        if before > file.nbytes:
            partial.unlink()
            raise DownloadError(
                f"the hub sent more than the {file.nbytes} bytes that a file of {name} should have. Try again later."
            )
        failure: Exception | None = None
        try:
            _append(file, partial, report)
        except errors.HfHubHTTPError as error:
            if error.response.status_code not in _PASSING:
                raise
            failure = error
        except http_error() as error:
            failure = error
        futile = 0 if _size(partial) > before else futile + 1
        if futile >= _FUTILE_TRIES:
            raise failure or DownloadError(f"the hub sent nothing more of {name}. Try again later; it continues there.")
        if futile:
            time.sleep(_FIRST_PAUSE_S * 2 ** (futile - 1))


def _append(file: LargeFile, partial: Path, report: Callable[[int], None]) -> None:
    """Receive what is missing of a file, or all of it if the server does not send parts."""
    from huggingface_hub import constants, get_session, hf_raise_for_status
    from huggingface_hub.utils._headers import build_hf_headers

    start = _size(partial)
    headers = build_hf_headers() | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", file.url, headers=headers, timeout=timeout, follow_redirects=True) as response:
        if response.status_code >= 400:
            response.read()  # the error quotes it
        hf_raise_for_status(response)
        is_rest = start and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        with partial.open("ab" if is_rest else "wb") as output:
            for piece in response.iter_bytes():  # as they arrive: a buffer would be lost when the connection breaks
                output.write(piece)
                if output.tell() > file.nbytes:
                    break
                report(output.tell())


def _verify(name: str, file: LargeFile, partial: Path) -> None:
    found = sha256_of(partial)
    if found != file.sha256:
        partial.unlink()
        raise ChecksumError(
            f"a file of {name} is not the one that the hub describes: expected SHA-256 {file.sha256}, found {found}. "
            f"It was deleted unopened; try again."
        )


def _check_room(name: str, files: Sequence[LargeFile], store: BlobStore) -> None:
    missing = sum(file.nbytes - store.received(file) for file in files)
    free = shutil.disk_usage(store.blobs).free
    if missing > free:
        raise DownloadError(
            f"{name} needs {_mb(missing)} more in the hub's cache {store.blobs.parent.parent}, but only {_mb(free)} "
            f"are free there. Free some, or choose another place with HF_HUB_CACHE."
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _mb(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.0f} MB"
