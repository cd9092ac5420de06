"""Fetching from the web, if it is switched on: from listed hosts, and never from the local network.

A URL in a request lets a client send requests from this machine (server-side request forgery). So the host must be
listed, its addresses are resolved once and the connection goes to the address that was checked, each redirect is
checked like a new URL, and every failure has the same message: different ones would map the network behind the server.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urljoin, urlsplit

from workbench.errors import InvalidRequestError, UnsupportedContentError

MAX_REDIRECTS = 3

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK_BYTES = 2**16
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class _RefusedError(Exception):
    """The URL, or one that it redirects to, is not allowed."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """Bytes of a URL, and what is known about their type."""

    data: bytes
    content_type: str | None = None
    """Media type with its parameters, as the server sent it; None if it did not."""


@dataclass(frozen=True, slots=True)
class WebClient:
    """Client that fetches from listed hosts.

    Args:
        hosts: ``name`` or ``name:port``; the default port is that of the scheme. An empty set allows nothing.
        networks: networks that are not public, such as ``10.1.0.0/16``, in which listed hosts may lie.
        timeout_s: limit from the first connection to the last byte, redirects included.
        accept: media types to request.
        setting: key of the run config that lists the hosts, for messages.
    """

    hosts: frozenset[str]
    networks: tuple[Network, ...] = ()
    timeout_s: float = 10.0
    accept: str = "image/*"
    setting: str = "image_hosts"

    def fetch(self, url: str, field: str, max_bytes: int) -> Fetched:
        """Return the body of the URL, at most ``max_bytes + 1`` bytes of it.

        Raises:
            InvalidRequestError: the URL cannot be fetched in time; the message contains nothing but the URL.
            UnsupportedContentError: its host is not listed.
        """
        deadline = time.monotonic() + self.timeout_s
        hop = url
        try:
            for _ in range(MAX_REDIRECTS + 1):
                fetched = self._fetch_once(hop, deadline, max_bytes)
                if isinstance(fetched, Fetched):
                    return fetched
                hop = _redirect_target(hop, fetched)
        except _RefusedError:
            allowed = f"a URL of a host listed as {self.setting} in the run config ({', '.join(sorted(self.hosts))})"
            raise UnsupportedContentError(field, url, allowed) from None
        except (OSError, http.client.HTTPException, ValueError):
            # Without the cause: "refused" against "timed out" would reveal which ports are open.
            raise InvalidRequestError(field, url, "a URL that can be fetched") from None
        raise InvalidRequestError(field, url, f"a URL that redirects at most {MAX_REDIRECTS} times")

    def _fetch_once(self, url: str, deadline: float, max_bytes: int) -> Fetched | str:
        """Return the response of a URL, or the location that it redirects to."""
        scheme, host, port, target = self._checked(url)
        connection = _PinnedConnection(scheme, host, port, self._resolved(host, port), deadline)
        with connection.until_deadline():
            connection.request("GET", target, headers={"Accept": self.accept, "Accept-Encoding": "identity"})
            with connection.getresponse() as response:
                if response.status in _REDIRECTS:
                    return response.getheader("Location") or ""
                if response.status != http.client.OK:
                    raise OSError
                body = bytearray()
                while chunk := response.read(min(_CHUNK_BYTES, max_bytes + 1 - len(body))):
                    body += chunk
            if time.monotonic() >= deadline:
                raise TimeoutError
            return Fetched(bytes(body), response.getheader("Content-Type"))

    def _checked(self, url: str) -> tuple[str, str, int, str]:
        """Return scheme, host, port and request target of a URL; raise `_RefusedError` unless its host is listed."""
        if re.search(r"[^\x21-\x7e]|\\", url):  # parsers disagree about blanks, backslashes and other alphabets
            raise _RefusedError
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _RefusedError from None
        host = (parts.hostname or "").rstrip(".")
        if parts.scheme not in _PORTS or not host or "@" in parts.netloc:
            raise _RefusedError
        name, usual = f"[{host}]" if ":" in host else host, _PORTS[parts.scheme]
        port = usual if port is None else port
        if f"{name}:{port}" not in self.hosts and not (port == usual and name in self.hosts):
            raise _RefusedError
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return parts.scheme, host, port, target

    def _resolved(self, host: str, port: int) -> Address:
        """Return the address to connect to; refuse the name unless all of its addresses are allowed."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        if not addresses or not all(self._allowed(address) for address in addresses):
            raise _RefusedError
        return addresses[0]

    def _allowed(self, address: Address) -> bool:
        embedded = _embedded_ipv4(address)
        if any(embedded in network for network in self.networks if network.version == embedded.version):
            return True
        return embedded.is_global and not embedded.is_multicast and (embedded == address or address in _NAT64)


class _PinnedConnection(http.client.HTTPConnection):
    """Connection to a resolved address, under the host name that the certificate must have."""

    def __init__(self, scheme: str, host: str, port: int, address: Address, deadline: float) -> None:
        super().__init__(host, port)
        self.default_port = _PORTS[scheme]  # otherwise the Host header would contain the default port of https
        self._tls = ssl.create_default_context() if scheme == "https" else None
        self._address = str(address)
        self._deadline = deadline
        self._opened: socket.socket | None = None  # `sock` is None once the headers are read

    def connect(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._opened = self.sock = socket.create_connection((self._address, self.port), timeout=left)
        if self._tls is not None:
            secured = self._tls.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self._opened = self.sock = secured
            secured.do_handshake()

    @contextmanager
    def until_deadline(self) -> Iterator[None]:
        """Close the connection at the deadline: with a timeout for each read, a server could send a byte at a time."""
        timer = threading.Timer(max(0.0, self._deadline - time.monotonic()), self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self.close()

    def _cut(self) -> None:
        with suppress(OSError):
            if self._opened is not None:
                self._opened.shutdown(socket.SHUT_RDWR)


def _redirect_target(url: str, location: str) -> str:
    """Return the target of a redirect; refuse one from https to http, where any machine in between could answer."""
    hop = urljoin(url, location)
    if not location or (url.lower().startswith("https:") and not hop.lower().startswith("https:")):
        raise _RefusedError
    return hop


def _embedded_ipv4(address: Address) -> Address:
    """Return the IPv4 address embedded in an IPv6 address (NAT64, mapped, 6to4, Teredo), else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None) or address
