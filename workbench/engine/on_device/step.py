"""The decode step of a batch on a device: on CUDA one captured graph for each batch size and span, else eager torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.engine.on_device.attention import Span
from workbench.engine.on_device.summaries import summarize
from workbench.insides import Point

if TYPE_CHECKING:
    from workbench.engine.on_device.angles import AngleTable
    from workbench.engine.on_device.forward import Forward
    from workbench.engine.on_device.slots import SlotPool
    from workbench.engine.on_device.visits import Visits

_WARM_UPS = 2
"""Eager steps before a capture, in which torch allocates and chooses what a captured graph may not."""


class DeviceStep:
    """One token for each sequence of a batch, with the summaries of its logits.

    Args:
        captures: whether to capture graphs; None captures them on CUDA.
    """

    def __init__(self, forward: Forward, pool: SlotPool, angles: AngleTable, *, captures: bool | None = None) -> None:
        self._forward = forward
        self.device = forward.device
        self._pool = pool
        self._angles = angles
        self._captures = self.device.type == "cuda" if captures is None else captures
        self._graphs: dict[tuple[int, int], _Graph] = {}
        self._memory: Any = None
        self._generation = pool.generation

    def __call__(self, rows: Sequence[Sequence[int]], span: int, visits: Visits | None = None) -> tuple[Tensor, Tensor]:
        """Append a token to the sequences in the first slots.

        Args:
            rows: for each slot its token, its position and the version of its angles.
            span: number of keys that are read of each slot.
            visits: of points inside; a step with visits is never captured.

        Returns:
            Logits on the device, float32 (slots, vocab), and the result of `summarize` on the CPU.
        """
        inputs = torch.tensor(rows)  # (slots, 3)
        if not self._captures or visits is not None:
            logits, packed = self.compute(inputs.to(self.device), span, visits)
            return logits, packed.cpu()
        if self._generation != self._pool.generation:  # they read and write a buffer that is gone
            self._graphs.clear()
            self._memory = None  # torch refuses captures into memory whose last graph is gone
            self._generation = self._pool.generation
        key = len(rows), span
        if key not in self._graphs:
            self._graphs[key] = _Graph(self, inputs, span)
        logits, packed = self._graphs[key].replay(inputs)
        return logits.clone(), packed.cpu()  # the next replay overwrites both

    def compute(self, inputs: Tensor, span: int, visits: Visits | None = None) -> tuple[Tensor, Tensor]:
        """Compute the step with inputs on the device, int64 (slots, 3); fixed shapes, and nothing leaves the device."""
        token_ids, positions, versions = inputs.unsqueeze(2).unbind(1)  # (slots, 1) each
        views = Span(self._pool.view(0, len(inputs), span), positions)
        hidden = self._forward.hidden_states(token_ids, self._angles.rows(positions, versions), views, visits)
        logits = self._forward.logits(hidden[:, 0])
        if visits is not None:
            logits = visits(Point("lm_head"), logits.unsqueeze(1)).squeeze(1)
        return logits, summarize(logits)

    def memory(self) -> Any:
        """Return the handle of the memory that all graphs share."""
        if self._memory is None:
            self._memory = torch.cuda.graph_pool_handle()
        return self._memory


class _Graph:
    """A captured step; a replay repeats its kernels with the inputs that were copied into its own memory."""

    def __init__(self, step: DeviceStep, inputs: Tensor, span: int) -> None:
        cuda: Any = torch.cuda
        device = step.device
        self._inputs = inputs.to(device)
        self._graph = cuda.CUDAGraph()
        stream = cuda.Stream(device)
        stream.wait_stream(cuda.current_stream(device))
        with cuda.stream(stream):
            for _ in range(_WARM_UPS):  # they write the same keys and values as the replay that follows
                step.compute(self._inputs, span)
        cuda.current_stream(device).wait_stream(stream)
        # Graphs share memory, for the results of one are copied before the next is replayed. Other threads may copy
        # kept logits off the device during a capture.
        with cuda.graph(self._graph, pool=step.memory(), stream=stream, capture_error_mode="thread_local"):
            self._results = step.compute(self._inputs, span)

    def replay(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the results in memory that the next replay overwrites."""
        self._inputs.copy_(inputs)
        self._graph.replay()
        return self._results
