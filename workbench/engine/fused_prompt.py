"""Prompts of the fused decoder: many tokens of one sequence through all blocks in one compiled call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakMethod

import numpy as np
import torch
from torch import Tensor

from workbench.engine.insides.prompt_points import PromptMemory
from workbench.engine.kernels.matrix import padded
from workbench.engine.kernels.panels import DOT, FMA, HAS_DOT, PANEL, TILES
from workbench.engine.kernels.prompt import PHASES, pack_inputs, read_prompt
from workbench.engine.kernels.prompt_memory import Prompt, PromptScratch
from workbench.engine.kernels.shares import COUNTERS
from workbench.engine.kernels.simd import BF16, FLOAT32, GROUP
from workbench.engine.kernels.step_memory import PROJECTION_NORM
from workbench.engine.kernels.tiles import AVAILABLE, TILE_CONFIG
from workbench.engine.packed_weights import PackedWeights, kernel_shape
from workbench.engine.recent_sizes import RecentSizes, Size

if TYPE_CHECKING:
    from workbench.engine.fused_cache import FusedCache
    from workbench.engine.kernels.step_memory import Weights
    from workbench.engine.kernels.team import Team
    from workbench.engine.rotary_table import RotaryVersions

LONGEST = 512
"""Most tokens of one call."""

_SHARES = 4
"""Least shares of a phase for each thread."""


EmbedAgain: TypeAlias = Callable[[Sequence[int], int, Callable[[Tensor], "Tensor | None"]], "Tensor | None"]


def best_arithmetic(*, is_float32: bool) -> int:
    """Return the fastest arithmetic that this CPU has for products in float32, or else in bf16."""
    if is_float32:
        return FMA
    return TILES if AVAILABLE else DOT if HAS_DOT else FMA


class PromptReader:
    """Appends the tokens of prompts to sequences.

    Args:
        addresses: those of the weights.
        embed_again: changes the embeddings of tokens from a position on by a function, and returns them with those of
            their positions, shape (tokens, hidden), or None. The method's object is not kept alive.
        dtype: of keys and values, and of the products if the CPU has bf16.
    """

    def __init__(
        self,
        weights: PackedWeights,
        addresses: Weights,
        rotary: RotaryVersions,
        team: Team,
        dtype: torch.dtype,
        embed_again: EmbedAgain,
    ) -> None:
        self._shape = shape = kernel_shape(weights.structure)
        self._packed, self._weights, self._rotary, self._team = weights, addresses, rotary, team
        self._embed_again = WeakMethod(embed_again)  # a decoder's; a cycle would keep the weights in memory
        self._kv_format = BF16 if dtype == torch.bfloat16 else FLOAT32
        self.arithmetic = best_arithmetic(is_float32=dtype == torch.float32)
        self._scratch: PromptScratch | None = None
        self._size: Size | None = None  # panels and positions of the scratch memory
        self._sizes = RecentSizes()
        narrowest = min(shape.heads + 2 * shape.kv_heads, padded(shape.hidden, PANEL) // PANEL)
        self._parts = -(-_SHARES * team.threads // narrowest) if team.threads > 1 else 1

    def read(self, token_ids: Sequence[int], cache: FusedCache, *, every_position: bool = False) -> Tensor:
        """Append tokens to a sequence; return hidden states of the last layer, float32, shape (1 or tokens, hidden).

        They are those of the last token, or of each. The caller adds to the cache's length.
        """
        cache.reserve(len(token_ids))
        parts = []
        for start in range(0, len(token_ids), LONGEST):
            part = token_ids[start : start + LONGEST]
            scratch = self._read_part(part, cache, cache.length + start)
            if every_position:
                hidden = torch.from_numpy(scratch.hidden).transpose(1, 2).flatten(0, 1)  # a copy
                parts.append(hidden[: len(part), : self._shape.hidden])
        if every_position:
            return torch.cat(parts)
        panel, column = divmod(len(part) - 1, PANEL)
        return torch.tensor(scratch.hidden[panel, : self._shape.hidden, column]).unsqueeze(0)

    def _read_part(self, token_ids: Sequence[int], cache: FusedCache, past: int) -> PromptScratch:
        scratch = self._scratch_of(len(token_ids), past + len(token_ids))
        cos, sin = self._rotary.span(past, len(token_ids), cache.rotary_version)
        prompt = Prompt(
            np.array(token_ids, np.int64),
            _columns(cos),
            _columns(sin),
            self._kv_format,
            cache.address,
            cache.capacity,
            past,
            self.arithmetic,
            self._parts,
        )
        # The counters are those of this call: a thread that comes late finds no share left in them.
        phases = self._shape.layers * PHASES + 1
        counters = np.zeros((phases, COUNTERS), np.int64)

        def compute(first: int, end: int) -> None:
            self._team.run(read_prompt, self._shape, self._weights, prompt, scratch, TILE_CONFIG, counters, first, end)

        points = cache.taps.active(past, past + len(token_ids)) if cache.taps else frozenset()
        if points:
            self._memory(prompt, scratch, cache).run(points, compute)
        else:
            compute(0, phases)
        return scratch

    def _memory(self, prompt: Prompt, scratch: PromptScratch, cache: FusedCache) -> PromptMemory:
        """Return the access to the numbers of a prompt of a sequence with taps."""
        assert cache.taps is not None, "it has points"

        def pack(layer: int, norm: int) -> None:
            counters = np.zeros(COUNTERS, np.int64)
            self._team.run(pack_inputs, self._shape, self._weights, layer, norm, prompt, scratch, counters)

        embed, embed_again = self._embed_again(), None
        if embed is not None and self._packed.positions:
            embed_again = partial(embed, prompt.token_ids, prompt.past)
        return PromptMemory(self._packed, prompt, scratch, cache, cache.taps, self._team, pack, embed_again)

    def _scratch_of(self, tokens: int, positions: int) -> PromptScratch:
        panels, positions = -(-tokens // PANEL), padded(positions + PANEL, 8 * LONGEST)
        size = self._sizes.chosen((panels, positions), self._size)
        found = self._scratch
        if found is None or size != self._size:
            found = self._scratch = None  # freed before the next is allocated
            found = self._scratch = self._allocate(*size)
            self._size = size
        # The number of panels is that of the tokens: the others' buffers are not looked at.
        return found._replace(hidden=found.hidden[:panels])

    def _allocate(self, panels: int, positions: int) -> PromptScratch:
        shape, threads = self._shape, self._team.threads
        hidden, inner, dim = (padded(size, GROUP) for size in (shape.hidden, shape.inner, shape.head_dim))
        attended = padded(shape.heads * shape.head_dim, GROUP)
        keeps = shape.qk_norm == PROJECTION_NORM
        size = 4 if self.arithmetic == FMA else 2
        longest = max(hidden, inner, attended, dim)
        # A row of a multiple of 4096 bytes would meet the others in the same lines of the cache.
        row = longest * size + 64

        def floats(*sizes: int) -> Any:
            return torch.zeros(sizes).numpy()  # torch aligns memory to cache lines

        def packed(*sizes: int) -> Any:
            return torch.zeros(*sizes[:-1], sizes[-1] * size * PANEL, dtype=torch.uint8).numpy()

        return PromptScratch(
            hidden=floats(panels, hidden, PANEL),
            update=floats(panels, hidden, PANEL),
            normed=packed(panels, hidden),
            queries=packed(shape.heads, panels, dim),
            attended=packed(panels, attended),
            active=packed(panels, inner),
            values=torch.zeros(shape.kv_heads, dim, positions * size + 64, dtype=torch.uint8).numpy(),
            squares=floats(panels if keeps else 0, shape.heads + shape.kv_heads, PANEL),
            kept=floats(shape.heads + shape.kv_heads, panels if keeps else 0, shape.head_dim, PANEL),
            rows=torch.zeros(threads, max(dim, PANEL), row, dtype=torch.uint8).numpy(),
            product=floats(threads, max(dim, PANEL), PANEL),
            scores=floats(threads, positions, PANEL),
            probabilities=packed(threads, positions),
            columns=floats(threads, 2, PANEL),
        )


def _columns(rows: Any) -> Any:
    """Return angles (tokens, sets, rotary_dim) as columns (sets, rotary_dim, tokens), padded to whole panels."""
    columns = np.zeros((*rows.shape[1:], padded(len(rows), PANEL)), np.float32)
    columns[:, :, : len(rows)] = rows.transpose(1, 2, 0)
    return columns
