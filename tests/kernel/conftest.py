"""A live Jupyter kernel: cells go in, what they showed comes out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager


@dataclass
class Shown:
    """What one cell left behind."""

    stdout: str = ""
    stderr: str = ""
    results: list[dict[str, Any]] = field(default_factory=list)
    """MIME bundles, in order: displays and the cell's value."""
    display_ids: list[str | None] = field(default_factory=list)
    """By which each of them can be updated."""
    error: str | None = None
    """Name of the exception that ended the cell."""
    error_text: str = ""

    @property
    def text(self) -> str:
        """The last plain text."""
        return str(self.results[-1]["text/plain"])


class Kernel:
    """One kernel and the client that talks to it."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self._manager = manager
        self._client = client
        self._subshell: str | None = None
        self._updates: list[dict[str, Any]] = []

    def start(self, code: str) -> str:
        """Send a cell without waiting for it; returns what ``finish`` needs."""
        return str(self._client.execute(code, allow_stdin=False))

    def finish(self, cell: str, timeout_s: float = 90) -> Shown:
        """What the cell has shown by its end."""
        shown = Shown()
        deadline = time.monotonic() + timeout_s
        while True:
            message = self._next_message(deadline)
            if message["parent_header"].get("msg_id") == cell and _is_the_end(message, shown):
                return shown

    def wait_for(self, cell: str, text: str, timeout_s: float = 90) -> None:
        """Until the cell, which goes on, has printed the text."""
        deadline, shown = time.monotonic() + timeout_s, Shown()
        while text not in shown.stdout:
            message = self._next_message(deadline)
            if message["parent_header"].get("msg_id") == cell:
                assert not _is_the_end(message, shown), shown

    def next_update(self, timeout_s: float = 90) -> dict[str, Any]:
        """The next update of an output that was displayed before, whichever cell runs, or none."""
        deadline = time.monotonic() + timeout_s
        while not self._updates:
            self._next_message(deadline)
        return self._updates.pop(0)

    def _next_message(self, deadline: float) -> dict[str, Any]:
        message: dict[str, Any] = self._client.get_iopub_msg(timeout=deadline - time.monotonic())
        if message["msg_type"] == "update_display_data":
            self._updates.append(message["content"])
        return message

    def click(self, comm_id: str, content: dict[str, Any]) -> None:
        """Send a widget what a click in its page sends: on a line of its own, as JupyterLab does, beside any cell."""
        if self._subshell is None:
            self._client.control_channel.send(self._client.session.msg("create_subshell_request", {}))
            self._subshell = self._client.get_control_msg(timeout=30)["content"]["subshell_id"]
        data = {"method": "custom", "content": content}
        message = self._client.session.msg("comm_msg", {"comm_id": comm_id, "data": data})
        message["header"]["subshell_id"] = self._subshell
        self._client.shell_channel.send(message)

    def run(self, code: str, timeout_s: float = 90) -> Shown:
        """Run one cell to its end."""
        return self.finish(self.start(code), timeout_s)

    def interrupt(self) -> None:
        """What the stop button of a notebook does."""
        self._manager.interrupt_kernel()


def _is_the_end(message: dict[str, Any], shown: Shown) -> bool:
    kind, content = message["msg_type"], message["content"]
    if kind == "stream":
        setattr(shown, content["name"], getattr(shown, content["name"]) + content["text"])
    elif kind in ("display_data", "execute_result"):
        shown.results.append(content["data"])
        shown.display_ids.append(content.get("transient", {}).get("display_id"))
    elif kind == "error":
        shown.error, shown.error_text = content["ename"], content["evalue"]
    return bool(kind == "status" and content["execution_state"] == "idle")


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """A kernel that the tests of one file share, as cells of one notebook do."""
    with running_kernel() as kernel:
        yield kernel


@contextmanager
def running_kernel(**env: str) -> Iterator[Kernel]:
    """A kernel in a process with this environment beside the test's own."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env=dict(os.environ) | env)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
