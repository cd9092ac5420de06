"""Files that ``file:`` URLs name: their paths on this system, and opening them beneath a folder."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

HAS_DRIVES = os.sep == "\\"
"""Whether paths begin with the letter of a drive, as on Windows."""

_ON_A_DRIVE = re.compile(rb'/(?P<path>[A-Za-z]:/[^:\\*?"<>|\x00-\x1f]*)')


def local_path(url_path: bytes) -> bytes | None:
    """Return this system's path for the decoded path of a URL; None if it can name no file here."""
    if not url_path.startswith(b"/") or url_path.startswith(b"//") or b"\0" in url_path:
        return None
    return path_on_a_drive(url_path) if HAS_DRIVES else url_path


def path_on_a_drive(url_path: bytes) -> bytes | None:
    """Return Windows' path for the decoded path of a URL, such as ``/C:/folder/name.txt``; None for any other form."""
    match = _ON_A_DRIVE.fullmatch(url_path)
    return match["path"] if match else None


def is_beneath(root: bytes, path: bytes) -> bool:
    """Return whether a path without links lies in a folder without links, or is that folder."""
    try:
        return os.path.commonpath([root, path]) == os.path.commonpath([root])
    except ValueError:  # they are on different drives
        return False


def open_and_confirm(root: bytes, path: bytes) -> int:
    """Open a file as `open_beneath` does, where folders have no descriptors: links are looked for afterwards."""
    whole = Path(os.fsdecode(root), os.fsdecode(path))
    descriptor = os.open(whole, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0))
    if whole.resolve() == whole and os.path.samestat(os.fstat(descriptor), whole.stat()):
        return descriptor
    os.close(descriptor)
    raise FileNotFoundError(whole)


if sys.platform == "win32":
    open_beneath = open_and_confirm
else:

    def open_beneath(root: bytes, path: bytes) -> int:
        """Open a file for reading, and return its descriptor; links that were made since the check are not followed.

        Args:
            root: path of a folder, without links.
            path: path of the file relative to the root, without links.
        """
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        *parents, name = path.split(b"/")
        try:
            for parent in parents:
                below = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                os.close(folder)
                folder = below
            # Without O_NONBLOCK a pipe would block until another process writes to it.
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        finally:
            os.close(folder)
