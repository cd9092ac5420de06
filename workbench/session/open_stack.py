"""Started stack, with the event loop that its blocking calls wait for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from workbench.protocol import RunConfig
from workbench.session.event_loop_thread import BackgroundLoop
from workbench.stack import Stack


class OpenStack:
    """Started run config, as implementations of the protocols; `Workbench` documents the arguments."""

    def __init__(
        self,
        config: RunConfig | dict[str, Any] | str | Path | None = None,
        *,
        precision: str | None = None,
        device: str | None = None,
    ) -> None:
        self._stack = Stack(config, precision, device)
        self.config = self._stack.config
        """Run config, with each ``${env.NAME}`` as written; it contains no readable secrets."""
        self._loop = BackgroundLoop("workbench")
        self._loop.wait(self._stack.open())
        self.inference = self._stack.inference
        """Implementation of the protocols ``Inference`` and ``BatchInference`` (async)."""
        self.models = self._stack.models
        """Implementation of the protocol ``Models`` (async)."""
        self.safety = self._stack.safety
        """Implementation of the protocol ``Safety`` (async)."""
        self.shields = self._stack.shields
        """Implementation of the protocol ``Shields`` (async)."""
        self.memory = self._stack.memory
        """Implementation of the protocol ``Memory`` (async)."""
        self.memory_banks = self._stack.memory_banks
        """Implementation of the protocol ``MemoryBanks`` (async)."""
        self.inspect = self._stack.inspect
        """Implementation of the protocol ``Inspect`` (async)."""

    def close(self) -> None:
        """Cancel running requests, stop all threads and free the models' memory. Closing twice is harmless."""
        self._loop.close()
        self._stack.close()
        if self.inference.recorder is not None:
            self.inference.recorder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
