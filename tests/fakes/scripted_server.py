"""A server on loopback that answers as a script says, breaks off where it says so, and remembers what it was asked."""

from __future__ import annotations

import json
import select
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, TypeAlias

PATIENCE_S = 60.0
"""A test that waits longer has found a hang."""


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    body: Any = None
    """JSON, or bytes as they are."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stream:
    """Events one after another, and how it ends.

    ``done``: properly; ``closed``: without a last event; ``cut``: the connection breaks; ``silent``: nothing more comes
    until the client hangs up or the server is stopped.
    """

    events: Sequence[Any]
    """JSON, or text or bytes as they are; each is a packet of its own."""
    ending: Literal["done", "closed", "cut", "silent"] = "done"


Answer: TypeAlias = Reply | Stream


@dataclass(frozen=True)
class Asked:
    """One request, as it came."""

    method: str
    path: str
    headers: dict[str, str]
    """By lower-case name."""
    body: Any


Script: TypeAlias = Answer | Callable[[Asked], Answer]
"""An answer, or what makes one of the request."""


class ScriptedServer:
    """Answers by path: with the next one of its list, the last of which stays."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked: list[Asked] = []
        self.was_asked = threading.Event()
        self.hung_up = threading.Event()
        """A client has left before the end of its answer."""
        self.stopped = threading.Event()
        self._scripts: dict[str, list[Script]] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"{self.address}/v1"

    def script(self, path: str, *scripts: Script) -> None:
        self._scripts[path] = list(scripts)

    def answer(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            self.was_asked.set()
            scripts = self._scripts.get(asked.path, [Reply({"error": {"message": "no such route"}}, 404)])
            script = scripts.pop(0) if len(scripts) > 1 else scripts[0]
        return script if isinstance(script, Reply | Stream) else script(asked)

    def bodies(self, path: str) -> list[Any]:
        return [asked.body for asked in self.asked if asked.path == path]


@contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    """A server with nothing scripted yet, stopped afterwards."""
    server = _Server(("127.0.0.1", 0), _Handler)
    scripted = ScriptedServer(f"http://127.0.0.1:{server.server_address[1]}")
    server.scripted = scripted  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield scripted
    finally:
        scripted.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # many clients may come at once
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that leaves is no news
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _serve(self, body: Any) -> None:
        scripted: ScriptedServer = self.server.scripted  # type: ignore[attr-defined]
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = scripted.answer(Asked(self.command, self.path, headers, body))
        try:
            if isinstance(answer, Reply):
                self._reply(answer)
            else:
                self._stream(answer, scripted)
        except ConnectionError:
            scripted.hung_up.set()

    def _reply(self, reply: Reply) -> None:
        content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in ({"Content-Type": "application/json"} | reply.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, stream: Stream, scripted: ScriptedServer) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in stream.events:
            text = event if isinstance(event, str | bytes) else f"data: {json.dumps(event)}\n\n"
            self._chunk(text.encode() if isinstance(text, str) else text)
        if stream.ending == "silent":
            self._wait_for_the_client(scripted)
        if stream.ending in ("silent", "cut"):
            self.close_connection = True
            return
        if stream.ending == "done":
            self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def _wait_for_the_client(self, scripted: ScriptedServer) -> None:
        while not scripted.stopped.is_set():
            readable, _, _ = select.select([self.connection], [], [], 0.02)
            if readable and not self.connection.recv(1):
                scripted.hung_up.set()
                return

    def log_message(self, *_args: object) -> None:
        """Says nothing."""


def completion_events(*texts: str, finish_reason: str | None = "stop", usage: Any = None) -> list[Any]:
    """The events of a completion, one for each text."""
    events: list[Any] = [{"choices": [{"index": 0, "text": text, "finish_reason": None}]} for text in texts]
    if finish_reason is not None:
        events.append({"choices": [{"index": 0, "text": "", "finish_reason": finish_reason}]})
    return events if usage is None else [*events, {"choices": [], "usage": usage}]


def chat_events(*deltas: Any, finish_reason: str | None = "stop", usage: Any = None) -> list[Any]:
    """The events of a chat: each delta is a text, or the fields of one."""
    events: list[Any] = [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}]
    for delta in deltas:
        fields = {"content": delta} if isinstance(delta, str) else delta
        events.append({"choices": [{"index": 0, "delta": fields, "finish_reason": None}]})
    if finish_reason is not None:
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]})
    return events if usage is None else [*events, {"choices": [], "usage": usage}]
