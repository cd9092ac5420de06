"""Access control: middleware that by default refuses every request, on every route.

A foreign page in the user's browser can send requests to this server, or make a host name of its own resolve to
127.0.0.1. It cannot forge the headers ``Host`` and ``Origin``, and it does not have the token.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from workbench.server.faults import Refusal, error_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
PAGE = "/docs"
"""Only path that accepts the token in its query, because a browser's address bar sends no header."""


@dataclass(frozen=True, slots=True)
class Access:
    """Access rules of a server."""

    token: str | None
    """Token required on every route; None requires none, which is meant only for loopback and tests."""
    hosts: frozenset[str] = LOOPBACK
    """Allowed host names, without ports, because a forwarded port differs."""
    origins: frozenset[str] = frozenset()
    """Allowed origins of other pages, as ``https://name:port``; the server's own page is always allowed."""

    def allows_host(self, header: str) -> bool:
        return _host_name(header) in self.hosts

    def allows_origin(self, origin: str, host: str) -> bool:
        return origin in self.origins or origin in (f"http://{host}", f"https://{host}")

    def allows_token(self, token: str) -> bool:
        return self.token is None or secrets.compare_digest(token.encode(), self.token.encode())


class CheckHost:
    """Middleware that refuses requests for a foreign host or from a foreign page; it runs first."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        hosts, origins = _header(scope, b"host"), _header(scope, b"origin")
        if len(hosts) != 1 or not self._access.allows_host(hosts[0]):
            refusal = Refusal(
                403, "the Host header names a host that is not allowed; start the server with --allow-host to allow it"
            )
        elif any(not self._access.allows_origin(origin, hosts[0]) for origin in origins):
            refusal = Refusal(
                403, "requests from that Origin are not allowed; start the server with --allow-origin to allow them"
            )
        else:
            await self._app(scope, receive, send)
            return
        await error_response(refusal)(scope, receive, send)


class CheckToken:
    """Middleware that refuses requests without the token, also for paths that do not exist."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._access.allows_token(_token(scope)):
            await self._app(scope, receive, send)
            return
        message = "every request needs the token that the server printed, in the header Authorization: Bearer TOKEN"
        await error_response(Refusal(401, message, {"WWW-Authenticate": "Bearer"}))(scope, receive, send)


def _token(scope: Scope) -> str:
    """Return the request's token; empty if there is none or more than one."""
    values = _header(scope, b"authorization")
    if scope["path"] == PAGE and not values:
        values = [f"Bearer {token}" for token in parse_qs(scope["query_string"].decode("latin-1")).get("token", ())]
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else ""


def _header(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _host_name(header: str) -> str:
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.rpartition(":")[0].lower() if ":" in header else header.lower()
