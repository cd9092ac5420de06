"""A server on its port: from the signal that stops it to the last byte of what was under way."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
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

_AFTERWARDS_S = 2.0
"""How long requests that were cut off at the end of the grace may take to say so."""


class Listener:
    """A port that is held before anything is loaded, so that a taken one is known at once.

    Args:
        port: 0 takes a free one.

    Raises:
        WorkbenchError: the address cannot be listened at.
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
    """What a running server is made of."""

    stack: Stack
    listener: Listener
    access: Access
    limits: Limits
    grace_s: float = 10.0
    """How long requests that are under way may go on after the signal to stop; then they end with an error."""


def run(serving: Serving, announce: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM, then close the stack. A second SIGINT waits for nobody.

    Args:
        announce: called once requests are taken.
    """
    try:
        asyncio.run(serve(serving, announce))
    finally:
        serving.stack.close()


async def serve(
    serving: Serving, announce: Callable[[], None], stopped: Callable[[Server], None] = lambda _: None
) -> None:
    """The same in a running event loop, without closing the stack.

    Args:
        stopped: is handed the server, whose ``should_exit`` ends it where no signal can.
    """
    await serving.stack.open()
    config = uvicorn.Config(
        create_app(serving.stack, serving.access, serving.limits),
        log_level="warning",
        access_log=False,  # it would keep the token that the address of the page holds
        ws="none",
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=serving.grace_s,  # type: ignore[arg-type]  # slept as it is, whole or not
    )
    server = Server(config, announce)
    stopped(server)
    await server.serve(sockets=[serving.listener.socket])
    if under_way := server.server_state.tasks:
        await asyncio.wait(under_way, timeout=_AFTERWARDS_S)


class Server(uvicorn.Server):
    """As uvicorn's own, but a signal that stopped it is not raised once more: it would leave the stack open."""

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
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
