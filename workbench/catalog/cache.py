"""Folder of converted models, with a record in each that proves it complete.

::

    <cache>/models/
        <name>/                  a complete model; its record.json has its origin and every file's digest
        .partial-<name>-<pid>/   a pull in progress; one rename makes it the model, or the next pull deletes it
        .wheels/                 verified wheels that are not converted yet
        .<name>.lock             lock that allows one pull of a model at a time, across processes
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from workbench.catalog.downloading import sha256_of
from workbench.catalog.entry import CatalogEntry
from workbench.catalog.progress import Progress
from workbench.errors import ChecksumError
from workbench.paths import typed_path

CONVERTER_VERSION = 1
"""Version to increase when the converter's output changes; models of another version are converted again."""

RECORD = "record.json"


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The state of one catalog model in the cache."""

    name: str
    state: Literal["absent", "installed", "outdated", "damaged"]
    """``outdated`` means another version of the converter, or another wheel."""
    path: Path
    """Folder of the model, which may not exist."""
    disk_bytes: int
    problem: str = ""
    """Description of the damage; empty unless the state is ``damaged``."""

    @property
    def installed(self) -> bool:
        return self.state == "installed"


def cache_dir() -> Path:
    """Return ``WORKBENCH_CACHE``, or else the platform's cache folder of this user; it may not exist yet."""
    if chosen := os.environ.get("WORKBENCH_CACHE"):
        return typed_path(chosen, "WORKBENCH_CACHE").absolute()
    from platformdirs import user_cache_path

    return user_cache_path("inference-workbench", appauthor=False)


def models_dir() -> Path:
    """Return the cache's folder of models."""
    return cache_dir() / "models"


def read_status(entry: CatalogEntry, models: Path) -> ModelStatus:
    """Return the state of a model according to its record; read and hash only files that are newer than the record.

    ``check_digests`` reads every file, whatever its modification time.
    """
    folder = models / entry.name
    if not folder.exists():
        return ModelStatus(entry.name, "absent", folder, 0)
    disk_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    try:
        record = _read_record(folder)
        damage = [problem for name, fact in record["files"].items() if (problem := _damage(folder, name, fact))]
        made_by = (record["converter_version"], record["source"]["wheel_sha256"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return ModelStatus(entry.name, "damaged", folder, disk_bytes, f"{RECORD} cannot be read ({error!r})")
    if made_by != (CONVERTER_VERSION, entry.wheel_sha256):
        return ModelStatus(entry.name, "outdated", folder, disk_bytes)
    if damage:
        return ModelStatus(entry.name, "damaged", folder, disk_bytes, "; ".join(damage))
    _mark_verified(folder, record["files"])
    return ModelStatus(entry.name, "installed", folder, disk_bytes)


def check_digests(folder: Path) -> None:
    """Hash every file of an installed model; raise ChecksumError, with the file's name, for the first that changed."""
    for name, fact in _read_record(folder)["files"].items():
        found = sha256_of(folder / name)
        if found != fact["sha256"]:
            raise ChecksumError(
                f"{folder / name} was changed after its conversion: expected SHA-256 {fact['sha256']}, found {found}. "
                f"Run `workbench models pull {folder.name} --force` to repair it."
            )


def write_record(entry: CatalogEntry, folder: Path) -> None:
    """Write the record of ``folder``: its origin, and the size and digest of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    record = {
        "name": entry.name,
        "converter_version": CONVERTER_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": {
            "distribution": entry.distribution,
            "version": entry.version,
            "wheel_sha256": entry.wheel_sha256,
            "file": entry.file,
            "licence": entry.licence,
        },
        "made_with": {package: metadata.version(package) for package in ("gguf", "numpy", "tokenizers")},
        "files": {
            path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256_of(path)}
            for path in files
        },
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")


@contextmanager
def locked(name: str, models: Path, progress: Progress) -> Iterator[None]:
    """Hold the model's lock in the context; if another process has it, report that and wait without a limit."""
    from filelock import FileLock, Timeout

    lock = FileLock(models / f".{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("wait", 0, None)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def partial_dir(name: str, models: Path) -> Path:
    """Return the folder in which this process builds the model; one rename on the same file system finishes it."""
    return models / f".partial-{name}-{os.getpid()}"


def sweep(name: str, models: Path) -> None:
    """Delete what interrupted pulls of the model left. The caller must hold the model's lock."""
    for path in models.iterdir():
        if re.fullmatch(rf"\.partial-{re.escape(name)}-\d+", path.name):
            shutil.rmtree(path, ignore_errors=True)


def sync_tree(folder: Path) -> None:
    """Flush everything in ``folder`` to the disk, so that renaming it later cannot expose an incomplete model."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def sync(path: Path) -> None:
    """Flush one file, or one folder's entries, to the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return record


def _damage(folder: Path, name: str, fact: dict[str, Any]) -> str:
    """Return how a file differs from its record; empty if it does not."""
    path = folder / name
    if not path.is_file():
        return f"{name} is missing"
    size = path.stat().st_size
    if size != fact["size"]:
        return f"{name} has {size} bytes instead of {fact['size']}"
    if _is_newer(path, folder / RECORD) and sha256_of(path) != fact["sha256"]:
        return f"{name} was changed after its conversion (SHA-256)"
    return ""


def _is_newer(path: Path, record: Path) -> bool:
    """Return whether a file was written after the record, the last file of a pull: by hand, or in a copied cache."""
    return path.stat().st_mtime_ns > record.stat().st_mtime_ns


def _mark_verified(folder: Path, names: Iterable[str]) -> None:
    """Make the record the newest file, so that verified files are not hashed at every status."""
    if any(_is_newer(folder / name, folder / RECORD) for name in names):
        with suppress(OSError):  # the files of a read-only cache are hashed every time
            os.utime(folder / RECORD)
