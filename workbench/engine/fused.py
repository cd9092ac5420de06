"""The fused decoder: blocks of one `BlockStructure` over packed weights.

Decoding runs all blocks as one compiled function over the packed weights (`workbench.engine.kernels`), in float32 for
every weight format. Prompts are bound by arithmetic, not by memory, and are another compiled function, `PromptReader`.
The tests compare the results with those of `GeneralDecoder`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from workbench.engine.block_structure import BlockStructure
from workbench.engine.decoders import Decoded
from workbench.engine.fused_cache import FusedCache
from workbench.engine.fused_prompt import PromptReader
from workbench.engine.insides.contributions import Unembedding
from workbench.engine.insides.step_points import StepMemory, tapped_rows
from workbench.engine.insides.structure_points import structure_points
from workbench.engine.kernels.attention import QUERY_HEADS
from workbench.engine.kernels.matrix import Matrix, padded
from workbench.engine.kernels.matrix_kernel import matrix_kernel
from workbench.engine.kernels.panels import ARITHMETICS, FMA
from workbench.engine.kernels.row_intrinsics import BLOCK
from workbench.engine.kernels.row_reductions import LogitsSummaries, masked, softmax_stats, top_k_values
from workbench.engine.kernels.simd import BF16, FLOAT32, GROUP, LANES, ROWS
from workbench.engine.kernels.step import ADD_POSITIONS, EMBED, END, FINAL_NORM, last_phase, step
from workbench.engine.kernels.step_memory import Scratch, SequenceViews, Shape
from workbench.engine.kernels.team import Team
from workbench.engine.model_weights import ModelWeights, Norm, apply_norm
from workbench.engine.packed_weights import PackedWeights, kernel_shape, kernel_weights
from workbench.engine.rotary_table import Rotary, RotaryVersions
from workbench.engine.team_size import TeamSize
from workbench.engine.weights import Int8Blocks
from workbench.insides import ModelPoints, Point

ROWS_PER_STEP = 16

STEP_TOKENS = 40
"""Known tokens of one sequence that the compiled step decodes together."""

_LOGITS_POINTS = frozenset([Point("final_norm"), Point("lm_head")])

Visit: TypeAlias = Callable[[Point, Tensor], "Tensor | None"]
"""Visits a point with its numbers; returns changed ones, or None."""

_EXPERT_TOKENS = 128
"""Most prompt tokens that are computed together if there are experts, whose prompts the compiled step reads: enough
that several tokens choose the same expert."""


class FusedDecoder:
    """A decoder-only transformer over packed weights.

    Args:
        rotary: the sets of rotary angles, in each version.
        dtype: of the prompt's products and of keys and values.
        threads: number of compute threads.
    """

    rows_per_step = ROWS_PER_STEP

    def __init__(
        self,
        weights: PackedWeights,
        *,
        rotary: Sequence[Sequence[Rotary]],
        dtype: torch.dtype,
        context_length: int,
        threads: int,
    ) -> None:
        self._weights = weights
        self._structure = structure = weights.structure
        self._shape = kernel_shape(structure)
        self._rotary = RotaryVersions(rotary, structure.rotary_dim)
        self._dtype = dtype
        self._kv_format = BF16 if dtype == torch.bfloat16 else FLOAT32
        matrix_kernel(self._kv_format)  # compiled at loading, not by the first step
        self._context_length = context_length
        self._team = Team(threads)
        self._lock = threading.Lock()  # two engines may share a decoder, which computes one call at a time
        self._addresses = kernel_weights(weights)
        self._prompts = PromptReader(weights, self._addresses, self._rotary, self._team, dtype, self._embed_again)
        self._scratch: dict[int, Scratch] = {}
        self._summaries: dict[int, LogitsSummaries] = {}  # by rows
        self._team_sizes: dict[int, TeamSize] = {}  # by rows
        self.vocab_size = structure.vocab
        self.points: ModelPoints = structure_points(structure)

    supports_chunked_prefill = True

    @property
    def reads_as_it_decodes(self) -> bool:
        """Experts decode prompts; other prompts are sums in another order, and may be in another precision."""
        return self._structure.experts > 0

    @property
    def prompt_arithmetic(self) -> str:
        """What prompts are computed in on this CPU."""
        return ARITHMETICS[FMA if self._structure.experts else self._prompts.arithmetic]

    def new_cache(self) -> FusedCache:
        return FusedCache(self._shape, self._dtype, self._context_length)

    def prefill(self, token_ids: Sequence[int], cache: FusedCache, *, every_position: bool = False) -> Tensor:
        with self._lock:
            rows = [self._append(part, cache, every_position=every_position) for part in self._parts(token_ids, cache)]
        return torch.cat(rows) if every_position and len(rows) > 1 else rows[-1]

    def read(self, token_ids: Sequence[int], cache: FusedCache) -> None:
        with self._lock:
            for part in self._parts(token_ids, cache):
                self._append(part, cache, every_position=False, wants_logits=False)

    def decode_known(self, token_ids: Sequence[int], cache: FusedCache) -> Tensor:
        rows = []
        with self._lock:
            for piece in self._split_known(token_ids, cache):
                self._set_version(cache, len(piece))
                rows.append(self._decode_known(piece, cache, len(piece)))
        return torch.cat(rows) if len(rows) > 1 else rows[0]

    def embed(self, token_ids: Sequence[int]) -> Tensor:
        with self._lock:
            cache = self.new_cache()
            self._set_version(cache, len(token_ids))
            self._structure.check_indices(token_ids, len(token_ids))
            hidden = self._hidden_states(token_ids, cache)
            return apply_norm(self._structure, hidden, self._weights.final_norm)

    def decode(self, token_ids: Sequence[int], caches: Sequence[FusedCache]) -> Decoded:
        with self._lock:
            for cache in caches:
                self._set_version(cache, 1)
            summaries = self._summaries_of(len(caches))
            logits = self._step(token_ids, caches, [cache.length for cache in caches], len(caches), summaries)
            found = summaries.read()
        for cache, token_id in zip(caches, token_ids, strict=True):
            cache.advance(self._structure, [token_id])
        return Decoded(logits, found)

    def unembed(self, hidden: Tensor) -> Decoded:
        with self._lock:
            parts = [self._unembed(part) for part in hidden.split(ROWS_PER_STEP)]
        return Decoded(torch.cat([part.logits for part in parts]), [one for part in parts for one in part.summaries])

    def memory_bytes(self) -> int:
        """Return the size of the weights in bytes."""
        return self._weights.nbytes

    @property
    def unembedding(self) -> Unembedding:
        structure, norm = self._structure, self._weights.final_norm
        return Unembedding(
            structure.norm, structure.norm_eps, norm.weight, norm.bias, self._uncapped_logits, structure.logit_cap
        )

    def _append(
        self, token_ids: Sequence[int], cache: FusedCache, *, every_position: bool, wants_logits: bool = True
    ) -> Tensor:
        """Append tokens to a sequence; return logits of the last one, or of each, shape (1 or tokens, vocab).

        If no logits are wanted, the result is empty where they would cost a product with the head.
        """
        self._set_version(cache, len(token_ids))
        if self._shape.experts:
            return self._decode_known(token_ids, cache, len(token_ids) if every_position else 1)
        self._structure.check_indices(token_ids, cache.length + len(token_ids))
        logits = self._read_prompt(token_ids, cache, every_position=every_position, wants_logits=wants_logits)
        cache.advance(self._structure, token_ids)
        return logits

    def _decode_known(self, token_ids: Sequence[int], cache: FusedCache, logits_rows: int) -> Tensor:
        """Append tokens by one step; return logits of the last rows, shape (logits_rows, vocab)."""
        count = len(token_ids)
        positions = range(cache.length, cache.length + count)
        logits = self._step(token_ids, [cache] * count, positions, logits_rows, self._summaries_of(0))
        cache.advance(self._structure, token_ids)
        return logits

    def _split_known(self, token_ids: Sequence[int], cache: FusedCache) -> list[Sequence[int]]:
        """Return known tokens in parts that one step decodes."""
        size, pieces = _EXPERT_TOKENS if self._shape.experts else STEP_TOKENS, cache.split(self._structure, token_ids)
        return [piece[start : start + size] for piece in pieces for start in range(0, len(piece), size)]

    def _read_prompt(
        self, token_ids: Sequence[int], cache: FusedCache, *, every_position: bool, wants_logits: bool
    ) -> Tensor:
        """Append many tokens to a sequence; return logits as `_append` does."""
        taps, past = cache.taps, cache.length
        points = taps.active(past, past + len(token_ids)) if taps else frozenset()
        if taps and not points.isdisjoint(_LOGITS_POINTS):
            hidden = self._prompts.read(token_ids, cache, every_position=True)
            logits = self._logits(hidden, lambda point, values: taps.visit(point, past, values))
            return logits if every_position else logits[-1:]
        hidden = self._prompts.read(token_ids, cache, every_position=every_position)
        return self._logits(hidden) if wants_logits else hidden.new_empty(0)

    def _parts(self, token_ids: Sequence[int], cache: FusedCache) -> list[Sequence[int]]:
        """Return the tokens in parts that are computed together."""
        if self._shape.experts:
            return [token_ids[start : start + _EXPERT_TOKENS] for start in range(0, len(token_ids), _EXPERT_TOKENS)]
        return cache.split(self._structure, token_ids)

    def _hidden_states(self, token_ids: Sequence[int], cache: FusedCache) -> Tensor:
        """Append tokens to a sequence; return hidden states of the last layer, float32, shape (tokens, hidden)."""
        if not self._shape.experts:
            return self._prompts.read(token_ids, cache, every_position=True)
        found = []
        for part in self._parts(token_ids, cache):
            positions = range(cache.length, cache.length + len(part))
            self._step(part, [cache] * len(part), positions, 1, self._summaries_of(0))
            found.append(torch.tensor(self._scratch_of(len(part), positions.stop).hidden[0, :, : self._shape.hidden]))
            cache.length += len(part)
        return torch.cat(found)

    def _set_version(self, cache: FusedCache, count: int) -> None:
        """Recompute a sequence if it gets too long for the angles of its keys with ``count`` more tokens."""
        version = cache.version_with(self._structure, count)
        if cache.token_ids and version != cache.rotary_version:
            computed = self.new_cache()
            computed.rotary_version = version
            computed.taps = cache.taps and cache.taps.without_captures()
            self._prompts.read(cache.token_ids, computed)
            cache.kv[:, :, :, : cache.length] = computed.kv[:, :, :, : cache.length]
        cache.rotary_version = version

    def _step(
        self,
        token_ids: Sequence[int],
        caches: Sequence[FusedCache],
        positions: Sequence[int],
        logits_rows: int,
        summaries: LogitsSummaries,
    ) -> Tensor:
        """Decode one token for each row; return logits of the last rows, shape (logits_rows, vocab).

        Rows may be consecutive tokens of one sequence.
        """
        rows, longest = len(token_ids), max(positions) + 1
        self._structure.check_indices(token_ids, longest)
        for cache, position in zip(caches, positions, strict=True):
            cache.reserve(position + 1 - cache.length)
        cos, sin = self._rotary.rows(positions, [cache.rotary_version for cache in caches])
        past = SequenceViews(
            self._kv_format,
            matrix_kernel(self._kv_format),
            np.array([cache.address for cache in caches]),
            np.array([cache.capacity for cache in caches]),
            np.array(positions),
            is_one_sequence=rows > 1 and caches[0] is caches[-1],
        )
        tapped, asked = tapped_rows(caches, positions), logits_rows
        if any(not one.points.isdisjoint(_LOGITS_POINTS) for one in tapped):
            logits_rows = rows
        logits = torch.empty(logits_rows, padded(self._shape.vocab, BLOCK))
        scratch = self._scratch_of(rows, longest)
        size = self._team_sizes.setdefault(rows, TeamSize(self._team.threads))
        threads = size.threads
        compute = self._phases(token_ids, past, (cos, sin), scratch, logits, summaries, threads)
        if tapped:
            StepMemory(self._structure, scratch, logits, threads).run(tapped, compute)
        else:
            started = time.perf_counter()
            compute(EMBED, last_phase(self._shape.layers, END))
            size.record(time.perf_counter() - started)
        return logits[-asked:, : self._shape.vocab]

    def _embed_again(
        self, token_ids: Sequence[int], past: int, change: Callable[[Tensor], Tensor | None]
    ) -> Tensor | None:
        """Change embeddings, and add those of positions; return the sum, (tokens, hidden), or None if none changes."""
        positions, logits = range(past, past + len(token_ids)), torch.empty(1, BLOCK)
        scratch = self._scratch_of(len(token_ids), 1)
        compute = self._phases(
            token_ids, self._no_sequences(positions), None, scratch, logits, self._summaries_of(0), 1
        )
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
        angles: tuple[Any, Any] | None,
        scratch: Scratch,
        logits: Tensor,
        summaries: LogitsSummaries,
        threads: int,
    ) -> Callable[[int, int], None]:
        """Return a function that computes a step's phases from one to before another; see `step` for the arguments."""
        cos, sin = angles or [np.zeros((0, 0, 0), np.float32)] * 2

        def compute(first: int, end: int) -> None:
            self._team.run(
                step, self._shape, self._addresses, np.array(token_ids), past, cos, sin, scratch, logits.numpy(),
                summaries, first, end, threads=threads,
            )  # fmt: skip

        return compute

    def _no_sequences(self, positions: Sequence[int]) -> SequenceViews:
        """Return what phases without attention get instead of sequences."""
        none = np.zeros(0, np.int64)
        return SequenceViews(self._kv_format, matrix_kernel(self._kv_format), none, none, np.array(positions), False)

    def _unembed(self, hidden: Tensor) -> Decoded:
        """Compute the phases of the step after the blocks for as many rows as a step decodes together."""
        rows = len(hidden)
        scratch, summaries = self._scratch_of(rows, 1), LogitsSummaries.empty(rows, self._shape.vocab)
        logits = torch.empty(rows, padded(self._shape.vocab, BLOCK))
        torch.from_numpy(scratch.hidden)[:, :, : self._shape.hidden] = hidden
        past, threads = self._no_sequences(range(rows)), self._team.threads
        compute, layers = self._phases([0] * rows, past, None, scratch, logits, summaries, threads), self._shape.layers
        compute(last_phase(layers, FINAL_NORM), last_phase(layers, END))
        return Decoded(logits[:, : self._shape.vocab], summaries.read())

    def _scratch_of(self, rows: int, length: int) -> Scratch:
        """Return scratch memory: one for each batch size, and one, of the last prompt chunk, for all larger sizes."""
        key = 0 if rows > ROWS_PER_STEP else rows
        found = self._scratch.get(key)
        if found is None or found.hidden.shape[1] != rows or found.scores.shape[2] < length:
            found = _scratch(self._shape, rows, self._team.threads, padded(length, 1024))
            self._scratch[key] = found
        return found

    def _summaries_of(self, rows: int) -> LogitsSummaries:
        """Return arrays for the summaries of a step, which the next step of as many rows overwrites."""
        if rows not in self._summaries:
            self._summaries[rows] = LogitsSummaries.empty(rows, self._shape.vocab)
        return self._summaries[rows]

    def _logits(self, hidden: Tensor, visit: Visit | None = None) -> Tensor:
        """Return logits of hidden states of the last layer, float32, shape (rows, vocab); ``visit`` visits points."""
        normed = apply_norm(self._structure, hidden, self._weights.final_norm)
        if visit is not None:
            normed = _changed(visit, Point("final_norm"), normed)
        logits = self._head(normed)
        return logits if visit is None else _changed(visit, Point("lm_head"), logits)

    def _head(self, normed: Tensor) -> Tensor:
        """Return logits of hidden states after the final norm, float32, shape (rows, vocab)."""
        logits, cap = self._uncapped_logits(normed), self._structure.logit_cap
        return torch.tanh(logits / cap) * cap if cap else logits

    def _uncapped_logits(self, normed: Tensor) -> Tensor:
        logits = self._weights.head.matmul_f32(normed, self._team)
        return logits if self._structure.logit_scale == 1.0 else logits * self._structure.logit_scale


def _changed(visit: Visit, point: Point, values: Tensor) -> Tensor:
    """Return the numbers of a point after it has been visited."""
    changed = visit(point, values)
    return values if changed is None else changed


def compile_step(formats: Iterable[int] = ()) -> None:
    """Compile all kernels of a decoder, which takes a minute or two if numba has not cached them.

    Args:
        formats: weight formats whose kernels are compiled too; others are compiled with the first model that has them.
    """
    for weight_format in formats:
        matrix_kernel(weight_format)
    weight, team = torch.zeros(ROWS, GROUP), Team(1)
    head = Matrix.int8(Int8Blocks.of(weight), GROUP)
    structure = BlockStructure(
        hidden=GROUP, inner=GROUP, vocab=ROWS, heads=1, kv_heads=1, head_dim=ROWS, layers=(), norm_eps=1.0
    )
    weights = ModelWeights(  # not the alias, whose call sets an attribute
        structure=structure,
        blocks=[],
        embedding=Matrix.float32(weight),
        positions=None,
        final_norm=Norm(torch.zeros(GROUP)),
        head=head,
    )
    decoder = FusedDecoder(weights, rotary=[[]], dtype=torch.float32, context_length=1, threads=1)
    row = decoder.decode([0], [decoder.new_cache()]).logits[0]
    decoder.read([0], decoder.new_cache())
    head.matmul_f32(weight, team)
    softmax_stats(row)
    top_k_values(row, 1)
    masked(row, row > 0)


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
