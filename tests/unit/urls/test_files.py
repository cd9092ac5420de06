"""A file URL names a file of this system beneath the folder that is allowed, and nothing else."""

from __future__ import annotations

import ntpath
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.urls import files
from workbench.urls.files import is_beneath, open_and_confirm, open_beneath, path_on_a_drive

WAYS = pytest.mark.parametrize("open_file", [open_beneath, open_and_confirm])


@pytest.mark.parametrize(
    "url_path, path",
    [
        (b"/C:/Users/me/a b.png", b"C:/Users/me/a b.png"),
        (b"/d:/", b"d:/"),
        (b"/C:/a..b/name.", b"C:/a..b/name."),
        (b"/C:relative.txt", None),
        (b"/C:", None),
        (b"/etc/passwd", None),
        (b"//server/share/a.txt", None),
        (b"/C:/file.txt:stream", None),
        (b"/C:\\Windows\\a.txt", None),
        (b"/C:/a\0.txt", None),
        (b"/C:/a?.txt", None),
        (b"/\\\\.\\pipe\\name", None),
        (b"/CC:/a.txt", None),
    ],
)
def test_a_path_on_windows_begins_with_a_drive_and_has_no_stream(url_path: bytes, path: bytes | None) -> None:
    assert path_on_a_drive(url_path) == path


def test_folders_on_different_drives_are_not_beneath_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "commonpath", ntpath.commonpath)
    assert is_beneath(rb"C:\root", rb"C:\root\a\b.txt")
    assert is_beneath(b"C:\\", rb"C:\a.txt")
    assert not is_beneath(rb"C:\root", rb"C:\rootless\b.txt")
    assert not is_beneath(rb"C:\root", rb"D:\root\b.txt")
    assert not is_beneath(rb"C:\root", rb"\\.\NUL")


@WAYS
def test_a_file_beneath_the_root_is_opened(open_file: Callable[[bytes, bytes], int], tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").write_bytes(b"one\r\ntwo")
    descriptor = open_file(os.fsencode(tmp_path.resolve()), b"a/b.txt")
    try:
        assert os.read(descriptor, 100) == b"one\r\ntwo"
    finally:
        os.close(descriptor)


@WAYS
@pytest.mark.parametrize("path", [b"a/link.txt", b"door/b.txt", b"door/inner/b.txt", b"a/absent.txt", b"b.txt/x"])
def test_no_link_is_followed(open_file: Callable[[bytes, bytes], int], path: bytes, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "a").mkdir(parents=True)
    (outside / "inner").mkdir(parents=True)
    for file in (root / "b.txt", outside / "b.txt", outside / "inner" / "b.txt"):
        file.write_bytes(b"secret")
    (root / "a" / "link.txt").symlink_to(outside / "b.txt")
    (root / "door").symlink_to(outside, target_is_directory=True)
    with pytest.raises(OSError):
        open_file(os.fsencode(root.resolve()), path)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not list open files")
@WAYS
def test_a_link_that_is_refused_stays_open_nowhere(open_file: Callable[[bytes, bytes], int], tmp_path: Path) -> None:
    (tmp_path / "b.txt").touch()
    (tmp_path / "link.txt").symlink_to(tmp_path / "b.txt")
    before = sorted(path.name for path in Path("/proc/self/fd").iterdir())
    with pytest.raises(OSError):
        open_file(os.fsencode(tmp_path.resolve()), b"link.txt")
    assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == before


def test_this_system_has_one_of_the_two_ways() -> None:
    assert files.local_path(b"/folder/a.txt") in {b"/folder/a.txt", None}
    assert files.local_path(b"//server/a.txt") is None
    assert files.local_path(b"folder/a.txt") is None
