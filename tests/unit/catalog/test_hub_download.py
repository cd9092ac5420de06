from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from workbench.catalog.hub_download import BlobStore, LargeFile, download
from workbench.catalog.hub_id import HubId, parse_hub_id
from workbench.catalog.progress import silent
from workbench.errors import DownloadError, UnknownModelError


def test_a_disk_with_too_little_room_is_told_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    file = LargeFile(f"http://127.0.0.1:{closed_port}", 5_000_000, "a" * 64)
    store = BlobStore(tmp_path / "blobs", tmp_path / "locks")
    store.blobs.mkdir()
    store.partial(file).write_bytes(b"x" * 1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=3_999_999))
    with pytest.raises(DownloadError, match=r"org/tiny needs 4 MB more .* only 4 MB are free"):
        download("org/tiny", [file], store, silent, total=5_000_000)


@pytest.mark.parametrize("revision", ["main", "v1.0", "0" * 40, "refs/pr/12", "feature/x+y", "_x"])
def test_a_revision_follows_an_at_sign(revision: str) -> None:
    assert parse_hub_id(f"org/name@{revision}") == HubId("org/name", revision)
    assert str(HubId("org/name", revision)) == f"org/name@{revision}"


@pytest.mark.parametrize(
    "revision",
    [
        "",
        "-x",
        "/x",
        "x/",
        "a//b",
        "a..b",
        "../x",
        "x.lock",
        "x.",
        ".x",
        "a/.b",
        "a b",
        "a\n",
        "@{1}",
        "a~1",
        "a^",
        "a:b",
        "x" * 10_000,
    ],
)
def test_what_cannot_name_a_revision_is_refused(revision: str) -> None:
    with pytest.raises(UnknownModelError, match=r"no valid revision after the @.*org/name@main"):
        parse_hub_id(f"org/name@{revision}")


@pytest.mark.parametrize(
    "text", ["name", "name@main", "a/b/c@main", "org/na me@x", "org/name.git", "org/..@x", "@", ""]
)
def test_what_does_not_begin_with_organization_and_name_is_no_hub_id(text: str) -> None:
    assert parse_hub_id(text) is None
