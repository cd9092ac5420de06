"""The folder that holds converted models, and how a complete model in it is told from anything else.

::

    <cache>/models/
        <name>/                  a complete model; its record.json has its origin and every file's digest
        .partial-<name>-<pid>/   a pull at work; becomes the model by one rename, or is swept by the next pull
        .wheels/                 verified wheels whose conversion has not succeeded yet
        .<name>.lock             one pull of a model at a time, between processes too
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
"""Raised whenever a converted model would differ from what an older converter made; older ones are made anew."""

RECORD = "record.json"


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The state of one catalog model in the cache."""

    name: str
    state: Literal["absent", "installed", "outdated", "damaged"]
    """``outdated`` was made by another version of the converter or from another wheel."""
    path: Path
    """Where the model is, or would be."""
    disk_bytes: int
    problem: str = ""
    """What is wrong, where the state is ``damaged``."""

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
    """The part of the cache that holds models."""
    return cache_dir() / "models"


def look(entry: CatalogEntry, models: Path) -> ModelStatus:
    """The state of a model by its record; a file that was written after the record is read and its digest compared.

    ``check_digests`` is the thorough way, which trusts no time of change.
    """
    folder = models / entry.name
    if not folder.exists():
        return ModelStatus(entry.name, "absent", folder, 0)
    disk_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    try:
        record = _read_record(folder)
        wrong = [problem for name, fact in record["files"].items() if (problem := _wrong(folder, name, fact))]
        made_by = (record["converter_version"], record["source"]["wheel_sha256"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return ModelStatus(entry.name, "damaged", folder, disk_bytes, f"{RECORD} cannot be read ({error!r})")
    if made_by != (CONVERTER_VERSION, entry.wheel_sha256):
        return ModelStatus(entry.name, "outdated", folder, disk_bytes)
    if wrong:
        return ModelStatus(entry.name, "damaged", folder, disk_bytes, "; ".join(wrong))
    _trust(folder, record["files"])
    return ModelStatus(entry.name, "installed", folder, disk_bytes)


def check_digests(folder: Path) -> None:
    """Read every file of an installed model again; raises ChecksumError that names the first one that changed."""
    for name, fact in _read_record(folder)["files"].items():
        found = sha256_of(folder / name)
        if found != fact["sha256"]:
            raise ChecksumError(
                f"{folder / name} was changed after its conversion: expected SHA-256 {fact['sha256']}, found {found}. "
                f"Run `workbench models pull {folder.name} --force` to repair it."
            )


def write_record(entry: CatalogEntry, folder: Path) -> None:
    """Write down what ``folder`` came from, and size and digest of all it holds."""
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
    """Hold the model's lock; where another process has it, say so and wait for as long as that takes."""
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
    """Where this process builds the model; on the same file system, so that one rename can finish it."""
    return models / f".partial-{name}-{os.getpid()}"


def sweep(name: str, models: Path) -> None:
    """Delete what dead pulls of the model left. Only for the holder of the lock: nobody else is building it."""
    for path in models.iterdir():
        if re.fullmatch(rf"\.partial-{re.escape(name)}-\d+", path.name):
            shutil.rmtree(path, ignore_errors=True)


def sync_tree(folder: Path) -> None:
    """Have everything below ``folder`` on the disk, so that a name given to it later never means half a model."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def sync(path: Path) -> None:
    """Have one file, or one folder's list of names, on the disk."""
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


def _wrong(folder: Path, name: str, fact: dict[str, Any]) -> str:
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
    """The record is written last, so what is newer was touched since: by hand, or when the cache was copied."""
    return path.stat().st_mtime_ns > record.stat().st_mtime_ns


def _trust(folder: Path, names: Iterable[str]) -> None:
    """Once its files are known to be right, make the record the newest, so that they are not read at each look."""
    if any(_is_newer(folder / name, folder / RECORD) for name in names):
        with suppress(OSError):  # a cache that cannot be written is read each time
            os.utime(folder / RECORD)
