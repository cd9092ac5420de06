"""A server of the workbench on loopback, in a thread of the test's own process, so that a test can look inside."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from workbench.server import Access, Limits, Listener, Serving
from workbench.server.running import Server, serve
from workbench.stack import Stack, load_run_config

TOKEN = "the-token-of-the-tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
PATIENCE_S = 60.0


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it comes true before a test would have to be taken for hung."""
    deadline = time.monotonic() + PATIENCE_S
    while not (held := condition()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return held


@dataclass
class Served:
    """A running server."""

    url: str
    stack: Stack
    server: Server
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread
    clients: list[httpx.Client] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, **options: Any) -> httpx.Client:
        """A client with the token, closed with the server."""
        defaults: dict[str, Any] = {"headers": HEADERS, "timeout": PATIENCE_S}
        self.clients.append(httpx.Client(base_url=self.url, **(defaults | options)))
        return self.clients[-1]

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive(), "the server does not stop"


def tasks_of(served: Served) -> int:
    """Of the server's event loop, now."""

    async def count() -> int:
        return len(asyncio.all_tasks()) - 1

    return asyncio.run_coroutine_threadsafe(count(), served.loop).result(PATIENCE_S)


def threads() -> int:
    """Of this process, but for those of the default pool, which stay for the next one who needs one."""
    return sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())


@contextmanager
def serving(
    config: dict[str, Any], access: Access | None = None, limits: Limits | None = None, grace_s: float = 0.2
) -> Iterator[Served]:
    """Serve a run config until the end of the block."""
    stack = Stack(load_run_config(config))
    started, facts = threading.Event(), []
    failures: list[BaseException] = []
    with Listener("127.0.0.1", 0) as listener:
        spec = Serving(stack, listener, access or Access(TOKEN), limits or Limits(), grace_s)

        async def go() -> None:
            loop = asyncio.get_running_loop()
            await serve(spec, started.set, lambda server: facts.append((server, loop)))

        def run() -> None:
            try:
                asyncio.run(go())
            except BaseException as error:  # noqa: BLE001 (told to the test below)
                failures.append(error)
                started.set()

        thread = threading.Thread(target=run, name="served", daemon=True)
        thread.start()
        assert started.wait(PATIENCE_S), "the server does not start"
        try:
            if failures:
                raise failures[0]
            served = Served(listener.url, stack, *facts[0], thread)
            yield served
        finally:
            if facts:
                for client in served.clients:
                    client.close()
                served.stop()
            stack.close()
