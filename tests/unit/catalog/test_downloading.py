from __future__ import annotations

import dataclasses
import random
import sys
import tarfile
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from workbench.catalog import CatalogEntry
from workbench.catalog.downloading import fetch_wheel, sha256_of
from workbench.catalog.progress import silent
from workbench.errors import ChecksumError, DownloadError, OfflineError


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    return tmp_path / "shelf"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


def test_pip_brings_the_wheel_and_it_stays_on_the_shelf(
    tiny: CatalogEntry, wheel: Path, shelf: Path, scratch: Path
) -> None:
    fetched = fetch_wheel(tiny, shelf, scratch, silent)
    assert fetched.parent == shelf
    assert fetched.read_bytes() == wheel.read_bytes()


def test_a_wheel_on_the_shelf_is_not_fetched_again(
    tiny: CatalogEntry, wheel: Path, shelf: Path, scratch: Path, no_processes: None
) -> None:
    shelf.mkdir()
    (shelf / "any-name.whl").write_bytes(wheel.read_bytes())
    assert fetch_wheel(tiny, shelf, scratch, silent) == shelf / "any-name.whl"


def test_a_wheel_on_the_shelf_with_one_wrong_byte_is_fetched_again(
    tiny: CatalogEntry, wheel: Path, shelf: Path, scratch: Path
) -> None:
    shelf.mkdir()
    content = bytearray(wheel.read_bytes())
    content[100] ^= 1
    (shelf / wheel.name).write_bytes(content)
    assert fetch_wheel(tiny, shelf, scratch, silent).read_bytes() == wheel.read_bytes()


def test_a_tampered_wheel_is_told_with_both_digests_and_not_kept(
    tiny: CatalogEntry, shelf: Path, scratch: Path
) -> None:
    promised = dataclasses.replace(tiny, wheel_sha256="0" * 64)
    with pytest.raises(ChecksumError, match=f"expected SHA-256 {'0' * 64}, found {tiny.wheel_sha256}"):
        fetch_wheel(promised, shelf, scratch, silent)
    assert not list(shelf.iterdir())


def test_a_version_that_the_index_does_not_have(tiny: CatalogEntry, shelf: Path, scratch: Path) -> None:
    with pytest.raises(DownloadError, match=r"has tiny-llama, but not version 7\.7.*No matching distribution"):
        fetch_wheel(dataclasses.replace(tiny, version="7.7"), shelf, scratch, silent)


def test_a_distribution_that_the_index_does_not_have(tiny: CatalogEntry, shelf: Path, scratch: Path) -> None:
    with pytest.raises(DownloadError, match=rf"put the wheel of nobody-has-this==1.0 into {shelf}"):
        fetch_wheel(dataclasses.replace(tiny, distribution="nobody-has-this"), shelf, scratch, silent)


def test_no_network_is_told_as_that(
    tiny: CatalogEntry, shelf: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{closed_port}/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(OfflineError, match=r"index cannot be reached.*pull again"):
        fetch_wheel(tiny, shelf, scratch, silent)


def test_a_python_without_pip_is_told_what_to_do(
    tiny: CatalogEntry, shelf: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, no_processes: None
) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    with pytest.raises(DownloadError, match=rf"python -m ensurepip.*{shelf}"):
        fetch_wheel(tiny, shelf, scratch, silent)


def test_a_source_distribution_is_never_built(
    tiny: CatalogEntry, shelf: Path, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, ran = tmp_path / "sdists", tmp_path / "ran"
    index.mkdir()
    (tmp_path / "setup.py").write_text(f"open({str(ran)!r}, 'w')")
    with tarfile.open(index / "tiny_llama-1.0.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "setup.py", "tiny_llama-1.0/setup.py")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    with pytest.raises(DownloadError):
        fetch_wheel(tiny, shelf, scratch, silent)
    assert not ran.exists()


def test_progress_of_a_download_over_the_network_reaches_the_caller(
    tiny: CatalogEntry,
    shelf: Path,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
    serve: Callable[[type[BaseHTTPRequestHandler]], str],
    make_wheel: Callable[..., Path],
    tmp_path: Path,
) -> None:
    large = make_wheel(tmp_path / "index", {"noise": random.Random(0).randbytes(3_000_000)})
    size, digest = large.stat().st_size, sha256_of(large)

    class WheelFolder(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(large.parent))

        def log_message(self, *_args: object) -> None:
            pass

        def copyfile(self, source: Any, outputfile: Any) -> None:
            while piece := source.read(500_000):  # slowly: pip tells its progress four times a second
                outputfile.write(piece)
                time.sleep(0.2)

    monkeypatch.setenv("PIP_FIND_LINKS", serve(WheelFolder))
    told: list[tuple[str, int, int | None]] = []
    entry = dataclasses.replace(tiny, wheel_sha256=digest, download_bytes=size)
    fetch_wheel(entry, shelf, scratch, lambda *facts: told.append(facts))
    assert told[0] == ("download", 0, size)
    assert told[-1] == ("download", size, size)
    assert any(0 < done < size for _, done, _ in told)
