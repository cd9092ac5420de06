"""How long it takes to list the models of other programs: 200 files, with vocabularies of several sizes."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.fakes.found_models import empty_home, write_folder, write_gguf
from workbench.found import describing, find_models

FILES = 200


def milliseconds(folder: Path) -> str:
    start, worked = time.perf_counter(), time.process_time()
    assert len(find_models([folder])) == FILES
    return f"{1000 * (time.perf_counter() - start):.0f} ms ({1000 * (time.process_time() - worked):.0f} of work)"


@pytest.mark.bench
@pytest.mark.parametrize("vocabulary, layers", [(300, 0), (32_000, 32), (128_000, 0), (128_000, 32)])
def test_listing_200_gguf_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vocabulary: int, layers: int) -> None:
    folder = empty_home(tmp_path / "home", monkeypatch) / "models"
    merges = 2 * vocabulary if vocabulary > 50_000 else 0
    first = write_gguf(folder / "0.gguf", vocabulary=vocabulary, merges=merges, layers=layers)
    for number in range(1, FILES):
        shutil.copy(first, folder / f"{number}.gguf")
    milliseconds(folder)  # imports
    describing.file_facts.cache_clear()
    figures = f"{milliseconds(folder)}, again {milliseconds(folder)}"
    size = first.stat().st_size / 1e6
    print(f"\n{FILES} GGUF files, {vocabulary:,} tokens, {4 + 9 * layers} tensors ({size:.1f} MB): {figures}")


@pytest.mark.bench
def test_listing_200_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = empty_home(tmp_path / "home", monkeypatch) / "models"
    for number in range(FILES):
        write_folder(folder / str(number))
    milliseconds(folder)
    print(f"\n{FILES} folders: {milliseconds(folder)}")
