"""A server on loopback that speaks the part of the Hugging Face hub's API that downloads use.

Small files are answered directly, with their git object id as ETag. Files in large file storage are redirected to
another path, as to the hub's storage, which serves ranges and can break off.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

REPO = "org/tiny"
COMMIT = "0123456789abcdef" * 2 + "01234567"
LARGE_BYTES = 1000
"""Size from which a file is in large file storage."""


@dataclass
class FakeHub:
    """One repository with some revisions; everything that its handler does is recorded here."""

    files: dict[str, bytes]
    revisions: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    """Commit of each branch and tag."""
    token: str | None = None
    """Token without which files are refused, as in a gated repository."""
    allowed: bool = True
    """Whether the token's account has accepted the terms."""
    breaks: Iterator[int] | None = None
    """Numbers of bytes after which answers from the storage break off, one each; afterwards none does."""
    sends_ranges: bool = True
    corrupts: bool = False
    """Whether the storage sends other bytes than the repository has."""
    leaked: bool = False
    """Whether a token was sent to the storage, which is another host."""
    requests: list[str] = field(default_factory=list)
    starts: dict[str, list[int]] = field(default_factory=dict)
    """Positions from which files were sent from the storage, by name."""
    sent: dict[str, int] = field(default_factory=dict)
    """Bytes sent from the storage, by name."""

    def handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                with suppress(ConnectionError):  # the client was killed
                    super().handle()

            def do_GET(self) -> None:
                path = unquote(urlsplit(self.path).path)
                hub.requests.append(f"{self.command} {path}")
                hub.answer(self, path)

            do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

            def log_message(self, *_args: object) -> None:
                pass

        return Handler

    def answer(self, request: BaseHTTPRequestHandler, path: str) -> None:
        api, stored = f"/api/models/{REPO}", "/storage/"
        if path == f"{api}/refs":
            branches = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": at} for name, at in self._named()]
            send(request, 200, {"branches": branches, "tags": [], "converts": []})
        elif found := re.fullmatch(rf"{api}(?:/(revision|tree)/(.+))?", path):
            commit = self._commit(found[2] or "main")
            if commit is None:
                send(request, 404, {}, {"X-Error-Code": "RevisionNotFound"})
            else:
                send(request, 200, self._tree() if found[1] == "tree" else self._info(commit))
        elif found := re.fullmatch(rf"/{REPO}/resolve/([^/]+)/(.+)", path):
            self._resolve(request, found[1], found[2])
        elif path.startswith(stored) and path.removeprefix(stored) in self.files:
            self._send_stored(request, path.removeprefix(stored))
        else:
            send(request, 404, {}, {"X-Error-Code": "RepoNotFound"})

    def _named(self) -> list[tuple[str, str]]:
        return sorted(self.revisions.items())

    def _commit(self, revision: str) -> str | None:
        return revision if revision in self.revisions.values() else self.revisions.get(revision)

    def _info(self, commit: str) -> dict[str, object]:
        siblings = [
            {"rfilename": name, "size": len(content), "blobId": git_id(content)} | self._lfs(content)
            for name, content in self.files.items()
        ]
        return {"id": REPO, "sha": commit, "siblings": siblings}

    def _tree(self) -> list[dict[str, object]]:
        return [
            {"type": "file", "path": name, "size": len(content), "oid": git_id(content)} | self._lfs(content, "oid")
            for name, content in self.files.items()
        ]

    def _lfs(self, content: bytes, key: str = "sha256") -> dict[str, object]:
        if len(content) < LARGE_BYTES:
            return {}
        return {"lfs": {key: sha256(content), "size": len(content), "pointerSize": 130}}

    def _resolve(self, request: BaseHTTPRequestHandler, revision: str, name: str) -> None:
        given = request.headers.get("Authorization")
        commit, content = self._commit(revision), self.files.get(name)
        if self.token is not None and (given != f"Bearer {self.token}" or not self.allowed):
            send(request, 401 if given is None else 403, {}, {"X-Error-Code": "GatedRepo"})
        elif commit is None or content is None:
            send(request, 404, {}, {"X-Error-Code": "EntryNotFound"})
        elif len(content) < LARGE_BYTES:
            send(request, 200, content, {"ETag": f'"{git_id(content)}"', "X-Repo-Commit": commit})
        else:
            storage = f"http://localhost:{request.headers['Host'].rpartition(':')[2]}/storage/{name}"  # another host
            linked = {"X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
            send(request, 302, b"", {"Location": storage, "X-Repo-Commit": commit} | linked)

    def _send_stored(self, request: BaseHTTPRequestHandler, name: str) -> None:
        content = self.files[name]
        self.leaked = self.leaked or "Authorization" in request.headers
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range") or "") if self.sends_ranges else None
        start = int(asked[1]) if asked else 0
        if request.command == "GET":
            self.starts.setdefault(name, []).append(start)
        request.send_response(206 if asked else 200)
        if asked:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(content) - start))
        request.send_header("ETag", f'"{sha256(content)}"')
        request.end_headers()
        if request.command == "HEAD":
            return
        left = next(self.breaks, len(content)) if self.breaks else len(content)
        piece = (bytes(len(content)) if self.corrupts else content)[start : start + left]
        self.sent[name] = self.sent.get(name, 0) + len(piece)
        request.wfile.write(piece)
        if len(piece) < len(content) - start:
            request.close_connection = True


def send(
    request: BaseHTTPRequestHandler, status: int, body: bytes | object, headers: Mapping[str, str] | None = None
) -> None:
    """Answer with bytes, or with a value as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request.send_response(status)
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    if request.command == "GET":
        request.wfile.write(content)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_id(content: bytes) -> str:
    """Return the id that git gives a file."""
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()


Serve = Callable[[type[BaseHTTPRequestHandler]], str]
