"""Server on a port, with a graceful shutdown on Ctrl+C (SIGINT), on SIGTERM, and on Windows on Ctrl+Break."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import uvicorn

from workbench.errors import WorkbenchError
from workbench.server.app import create_app

if TYPE_CHECKING:
    from workbench.server.access import Access
    from workbench.server.limits import Limits
    from workbench.stack import Stack

_SIGNALS = [signal.SIGINT, signal.SIGTERM]
if sys.platform == "win32":
    _SIGNALS.append(signal.SIGBREAK)

_AFTERWARDS_S = 2.0
"""Time in which requests that were cut off at the end of the grace can send their error."""


class Listener:
    """Socket that is bound before anything is loaded, so that a port in use is reported at once.

    Args:
        port: port number; 0 picks a free one.

    Raises:
        WorkbenchError: the address cannot be bound.
    """

    def __init__(self, host: str, port: int) -> None:
        try:
            info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            self.socket = socket.create_server(info[4][:2], family=info[0], backlog=1024)
        except (OSError, OverflowError) as error:
            raise WorkbenchError(
                f"cannot listen on {host} port {port}: {error}. Choose another --port; 0 picks a free one"
            ) from None
        self.host = host
        self.port: int = self.socket.getsockname()[1]

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


@dataclass(frozen=True, slots=True)
class Serving:
    """Stack, socket and settings of a running server."""

    stack: Stack
    listener: Listener
    access: Access
    limits: Limits
    grace_s: float = 10.0
    """Time that running requests get after the signal to stop; then they end with an error."""


def run(serving: Serving, announce: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM, then close the stack. A second SIGINT stops without waiting for requests.

    Args:
        announce: called once requests are accepted.
    """
    try:
        asyncio.run(serve(serving, announce))
    finally:
        serving.stack.close()


async def serve(
    serving: Serving, announce: Callable[[], None], started: Callable[[Server], None] = lambda _: None
) -> None:
    """Serve in the running event loop, without closing the stack.

    Args:
        announce: called once requests are accepted.
        started: called with the server; set its ``should_exit`` to stop it without a signal.
    """
    await serving.stack.open()
    config = uvicorn.Config(
        create_app(serving.stack, serving.access, serving.limits),
        log_level="warning",
        access_log=False,  # it would log the token in the page's address
        ws="none",
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=serving.grace_s,  # type: ignore[arg-type]  # a float works: it is only slept
    )
    server = Server(config, announce)
    started(server)
    await server.serve(sockets=[serving.listener.socket])
    if running := server.server_state.tasks:
        await asyncio.wait(running, timeout=_AFTERWARDS_S)


class Server(uvicorn.Server):
    """Uvicorn's server without raising the signal again after the shutdown, which would leave the stack open."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # Windows has no `loop.add_signal_handler`. `handle_exit` sets flags that uvicorn reads ten times a second.
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
