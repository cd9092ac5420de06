"""How long it takes to list the models of other programs: 200 files, with vocabularies of several sizes."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.fakes.found_models import empty_home, write_folder, write_gguf
from workbench.found import describing, find_models

FILES = 200


def seconds(folder: Path) -> float:
    start = time.perf_counter()
    assert len(find_models([folder])) == FILES
    return time.perf_counter() - start


@pytest.mark.bench
@pytest.mark.parametrize("vocabulary", [300, 32_000, 128_000])
def test_listing_200_gguf_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vocabulary: int) -> None:
    folder = empty_home(tmp_path / "home", monkeypatch) / "models"
    first = write_gguf(folder / "0.gguf", vocabulary=vocabulary, merges=2 * vocabulary if vocabulary > 50_000 else 0)
    for number in range(1, FILES):
        shutil.copy(first, folder / f"{number}.gguf")
    seconds(folder)  # imports
    describing.file_facts.cache_clear()
    cold, again = seconds(folder), seconds(folder)
    size = first.stat().st_size / 1e6
    figures = f"{1000 * cold:.0f} ms, again {1000 * again:.0f} ms"
    print(f"\n{FILES} GGUF files, {vocabulary:,} tokens ({size:.1f} MB): {figures}")


@pytest.mark.bench
def test_listing_200_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = empty_home(tmp_path / "home", monkeypatch) / "models"
    for number in range(FILES):
        write_folder(folder / str(number))
    seconds(folder)
    print(f"\n{FILES} folders: {1000 * seconds(folder):.0f} ms")
