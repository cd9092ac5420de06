"""The compiled decode step with its memory: rows of tokens in, logits out, and the parts of it that lenses need."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.engine.decoders import Decoded
from workbench.engine.fused_cache import FusedCache
from workbench.engine.fused_head import FusedHead
from workbench.engine.insides.step_points import StepMemory, tapped_rows
from workbench.engine.kernels.attention import QUERY_HEADS
from workbench.engine.kernels.matrix import padded
from workbench.engine.kernels.matrix_kernel import matrix_kernel
from workbench.engine.kernels.panels import PANEL
from workbench.engine.kernels.row_intrinsics import BLOCK
from workbench.engine.kernels.row_reductions import LogitsSummaries
from workbench.engine.kernels.simd import GROUP, LANES, ROWS
from workbench.engine.kernels.step import ADD_POSITIONS, EMBED, END, SUMMARIZE, last_phase, step
from workbench.engine.kernels.step_memory import Scratch, SequenceViews, Shape, Weights
from workbench.engine.kernels.team import Team
from workbench.engine.packed_weights import PackedWeights, kernel_shape
from workbench.engine.rotary_table import RotaryVersions
from workbench.engine.team_size import TeamSize

ROWS_PER_STEP = 16


class FusedStep:
    """Runs the phases of the compiled step; used by one thread at a time.

    Args:
        addresses: those of the weights.
        kv_format: `FLOAT32` or `BF16`.
    """

    def __init__(
        self, weights: PackedWeights, addresses: Weights, rotary: RotaryVersions, team: Team, kv_format: int
    ) -> None:
        self._structure = weights.structure
        self._shape = kernel_shape(weights.structure)
        self._addresses, self._rotary, self._team, self._kv_format = addresses, rotary, team, kv_format
        matrix_kernel(kv_format)  # compiled at loading, not by the first step
        self._scratch: dict[int, Scratch] = {}
        self._summaries: dict[int, LogitsSummaries] = {}  # by rows
        self._team_sizes: dict[int, TeamSize] = {}  # by rows
        self._unembedded = torch.empty(0)

    def decode(
        self,
        token_ids: Sequence[int],
        caches: Sequence[FusedCache],
        positions: Sequence[int],
        logits_rows: int,
        summaries: LogitsSummaries,
    ) -> Tensor:
        """Decode one token for each row; return logits of the last rows, shape (logits_rows, vocab).

        Rows may be consecutive tokens of one sequence. Points of sequences with taps are visited.
        """
        rows, longest = len(token_ids), max(positions) + 1
        self._structure.check_indices(token_ids, longest)
        for cache, position in zip(caches, positions, strict=True):
            cache.reserve(position + 1 - cache.length)
        past = SequenceViews(
            self._kv_format,
            matrix_kernel(self._kv_format),
            np.array([cache.address for cache in caches]),
            np.array([cache.capacity for cache in caches]),
            np.array(positions),
            is_one_sequence=rows > 1 and caches[0] is caches[-1],
        )
        is_tapped = any(cache.taps is not None for cache in caches)
        tapped = tapped_rows(caches, positions) if is_tapped else []
        logits = self._empty_logits(rows if any(one.reads_logits for one in tapped) else logits_rows)
        scratch, size = self._scratch_of(rows, longest), self._team_sizes.setdefault(rows, TeamSize(self._team.threads))
        threads, angles = size.threads, self._rotary.rows(positions, [cache.rotary_version for cache in caches])
        compute = self._phases(token_ids, past, angles, scratch, logits, summaries, threads)
        if tapped:
            StepMemory(self._structure, scratch, logits, threads).run(tapped, compute)
        else:
            started = time.perf_counter()
            compute(EMBED, last_phase(self._shape.layers, END))
            size.record(time.perf_counter() - started)
        return logits[len(logits) - logits_rows :, : self._shape.vocab]

    def hidden(self, rows: int) -> Tensor:
        """Return a copy of the hidden states that the last step of so many rows ended with, shape (rows, hidden)."""
        return torch.tensor(self._scratch_of(rows, 1).hidden[0, :, : self._shape.hidden])

    def summaries_of(self, rows: int) -> LogitsSummaries:
        """Return arrays for the summaries of a step, which the next step of as many rows overwrites."""
        if rows not in self._summaries:
            self._summaries[rows] = LogitsSummaries.empty(rows, self._shape.vocab)
        return self._summaries[rows]

    def unembed(self, hidden: Tensor, head: FusedHead) -> Decoded:
        """Return logits and summaries of hidden states of the last layer, float32, shape (rows, hidden).

        The next call overwrites the logits.
        """
        rows, layers = len(hidden), self._shape.layers
        if len(self._unembedded) < padded(rows, PANEL):
            self._unembedded = self._empty_logits(padded(rows, PANEL))
        memory, summaries = self._unembedded[: padded(rows, PANEL)], self.summaries_of(rows)
        logits = memory[:rows]
        found = head.logits(hidden, out=memory)
        if found.data_ptr() != logits.data_ptr():  # scaled or capped
            logits[:, : self._shape.vocab] = found
        past, scratch = self._no_sequences(range(rows)), self._scratch_of(1, 1)
        compute = self._phases([0], past, _NO_ANGLES, scratch, logits, summaries, self._team.threads)
        compute(last_phase(layers, SUMMARIZE), last_phase(layers, END))
        return Decoded(logits[:, : self._shape.vocab], summaries.read())

    def embed_again(
        self, token_ids: Sequence[int], past: int, change: Callable[[Tensor], Tensor | None]
    ) -> Tensor | None:
        """Change embeddings, and add those of positions; return the sum, (tokens, hidden), or None if none changes."""
        scratch, positions = self._scratch_of(len(token_ids), 1), range(past, past + len(token_ids))
        nothing = (self._empty_logits(1), self.summaries_of(0))
        compute = self._phases(token_ids, self._no_sequences(positions), _NO_ANGLES, scratch, *nothing, threads=1)
        hidden = torch.from_numpy(scratch.hidden)[0, :, : self._shape.hidden]
        compute(EMBED, EMBED + 1)
        changed = change(hidden.clone())
        if changed is None:
            return None
        hidden.copy_(changed)
        compute(ADD_POSITIONS, ADD_POSITIONS + 1)
        return hidden.clone()

    def _phases(
        self,
        token_ids: Sequence[int],
        past: SequenceViews,
        angles: tuple[Any, Any],
        scratch: Scratch,
        logits: Tensor,
        summaries: LogitsSummaries,
        threads: int,
    ) -> Callable[[int, int], None]:
        """Return a function that computes a step's phases from one to before another; see `step` for the arguments."""
        inputs = (np.array(token_ids), past, *angles, scratch, logits.numpy(), summaries)

        def compute(first: int, end: int) -> None:
            self._team.run(step, self._shape, self._addresses, *inputs, first, end, threads=threads)

        return compute

    def _no_sequences(self, positions: Sequence[int]) -> SequenceViews:
        """Return what phases without attention get instead of sequences."""
        none = np.zeros(0, np.int64)
        return SequenceViews(self._kv_format, matrix_kernel(self._kv_format), none, none, np.array(positions), False)

    def _empty_logits(self, rows: int) -> Tensor:
        return torch.empty(rows, padded(self._shape.vocab, BLOCK))

    def _scratch_of(self, rows: int, length: int) -> Scratch:
        """Return scratch memory: one for each batch size, and one, of the last prompt chunk, for all larger sizes."""
        key = 0 if rows > ROWS_PER_STEP else rows
        found = self._scratch.get(key)
        if found is None or found.hidden.shape[1] != rows or found.scores.shape[2] < length:
            found = _scratch(self._shape, rows, self._team.threads, padded(length, 1024))
            self._scratch[key] = found
        return found


_NO_ANGLES = (np.zeros((0, 0, 0), np.float32), np.zeros((0, 0, 0), np.float32))


def _scratch(shape: Shape, rows: int, threads: int, length: int) -> Scratch:
    def floats(*sizes: int) -> Any:
        return torch.zeros(sizes).numpy()  # torch aligns memory to cache lines

    hidden, inner, dim = (padded(size, GROUP) for size in (shape.hidden, shape.inner, shape.head_dim))
    longest = max(hidden, inner, padded(shape.heads * shape.head_dim, GROUP))
    queries = max(QUERY_HEADS, shape.heads // shape.kv_heads) if rows > 1 else shape.heads // shape.kv_heads
    return Scratch(
        hidden=floats(threads, rows, hidden),
        normed=floats(threads, rows, hidden),
        qkv=floats(rows, padded((shape.heads + 2 * shape.kv_heads) * shape.head_dim, ROWS)),
        squares=floats(rows, shape.heads + shape.kv_heads),
        attended=floats(rows, padded(shape.heads * shape.head_dim, GROUP)),
        gate_up=floats(rows, 2, inner),
        active=floats(rows * max(1, shape.active_experts), inner),
        ratings=floats(threads, rows, padded(shape.experts, LANES)),
        gathered=floats(threads, rows if shape.experts else 0, longest),
        outputs=floats(rows if shape.experts else 0, hidden),
        chosen=np.zeros((threads, rows, shape.active_experts), np.int64),
        chosen_weights=floats(threads, rows, shape.active_experts),
        places=np.zeros((threads, rows), np.int64),
        update=floats(rows, hidden),
        heads=floats(threads, 2, queries, dim),
        scores=floats(threads, queries, padded(length, GROUP)),
        dequantized=floats(threads, ROWS * longest),
        barrier=np.zeros(16, np.int64),
    )
