"""Sources that a run config allows for the URLs of requests, besides ``data:`` URLs.

=============  =====================================================================================================
``file:``      files under ``UrlSources.root`` once every link is followed; refused without a root
``http(s):``   the hosts of ``UrlSources.web``, see `web`; refused without it
=============  =====================================================================================================
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote_to_bytes

from workbench.errors import InvalidRequestError, UnsupportedContentError
from workbench.paths import typed_path
from workbench.urls.files import HAS_DRIVES, is_beneath, local_path, open_beneath
from workbench.urls.web import Fetched, WebClient

_FILE_URL = re.compile(r"file://(?:localhost)?(?P<path>/[^?#\x00-\x20\x7f]*)", re.IGNORECASE)
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[1-9]\d{0,4})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class UrlSources:
    """Allowed sources besides ``data:`` URLs; a subclass says of what."""

    root: Path | None = None
    """The folder whose files ``file:`` URLs may name."""
    web: WebClient | None = None
    """The client for ``http:`` and ``https:`` URLs."""

    noun: ClassVar[str] = "a file"
    example: ClassVar[str] = "name.txt"
    setting: ClassVar[str] = "root"
    """Key of the run config that sets the root."""
    always: ClassVar[str] = "a data: URL"
    """What is allowed in any case."""

    def read(self, uri: str, field: str, max_bytes: int) -> Fetched:
        """Return the bytes of a ``file:``, ``http:`` or ``https:`` URL.

        Raises:
            InvalidRequestError: the URL is malformed, cannot be read, or has more than ``max_bytes``.
            UnsupportedContentError: its source is not allowed.
        """
        scheme = uri.partition(":")[0].lower()
        match scheme:
            case "file":
                fetched = Fetched(self._file(uri, field, max_bytes))
            case "http" | "https" if self.web is not None:
                fetched = self.web.fetch(uri, field, max_bytes)
            case "http" | "https":
                allowed = f"{self.always}: fetching from the web is switched off"
                raise UnsupportedContentError(field, f"an {scheme}: URL", allowed)
            case _:
                raise UnsupportedContentError(field, uri, self.always)
        self.check_size(len(fetched.data), field, max_bytes)
        return fetched

    @classmethod
    def check_size(cls, count: int, field: str, max_bytes: int) -> None:
        """Raise `InvalidRequestError` for more than ``max_bytes``."""
        if count > max_bytes:
            allowed = f"{cls.noun} of at most {max_bytes / 10**6:g} MB"
            raise InvalidRequestError(field, f"{count / 10**6:.1f} MB", allowed)

    def _file(self, uri: str, field: str, max_bytes: int) -> bytes:
        """Return the bytes of a ``file:`` URL's file, which must lie under the root once every link is followed."""
        if self.root is None:
            raise UnsupportedContentError(field, "a file: URL", f"{self.always}: reading files is switched off")
        match = _FILE_URL.fullmatch(uri)
        path = local_path(unquote_to_bytes(match["path"])) if match else None
        if path is None:
            drive = "C:/" if HAS_DRIVES else ""
            raise InvalidRequestError(field, uri, f"a file: URL of the form file:///{drive}folder/{self.example}")
        real_root, real_path = os.path.realpath(os.fsencode(self.root)), os.path.realpath(path)
        if not is_beneath(real_root, real_path):
            # The same message whether the file exists or not: a caller must learn nothing about files outside the root.
            raise InvalidRequestError(
                field, uri, f"a file inside the folder that the run config sets as {self.setting}"
            )
        try:
            descriptor = open_beneath(real_root, os.path.relpath(real_path, real_root))
        except OSError:
            raise InvalidRequestError(field, uri, "a file that can be read") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidRequestError(field, uri, "a regular file")
            self.check_size(status.st_size, field, max_bytes)
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(max_bytes + 1)  # one more, to detect a file that grows meanwhile
        finally:
            os.close(descriptor)


def checked_root(value: str | None, field: str) -> str | None:
    """Return the path of a root; raise `InvalidRequestError` unless it is None or an existing folder."""
    if value is not None and not (value and os.path.isdir(typed_path(value, field))):  # noqa: PTH112 - Path.is_dir may raise OSError
        raise InvalidRequestError(field, value, "an existing folder")
    return value


def checked_hosts(value: list[str], field: str) -> list[str]:
    """Return hosts in lower case; raise `InvalidRequestError` unless each is ``name`` or ``name:port``."""
    hosts = [host.lower() for host in value]
    if any(not _HOST.fullmatch(host) for host in hosts):
        raise InvalidRequestError(field, value, "hosts as name or name:port, without a scheme or a path")
    return hosts


def checked_networks(value: list[str], field: str) -> list[str]:
    """Return networks; raise `InvalidRequestError` unless each can be parsed."""
    try:
        for network in value:
            ip_network(network)
    except ValueError as error:
        raise InvalidRequestError(field, value, f"networks such as 10.1.0.0/16 ({error})") from None
    return value
