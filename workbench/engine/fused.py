"""The fused decoder: blocks of one `BlockStructure` over packed weights.

Decoding runs all blocks as one compiled function over the packed weights (`workbench.engine.kernels`), in float32 for
every weight format. Prompts are bound by arithmetic, not by memory, and are another compiled function, `PromptReader`.
The tests compare the results with those of `GeneralDecoder`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from workbench.engine.block_structure import BlockStructure
from workbench.engine.decoders import Decoded
from workbench.engine.fused_cache import FusedCache
from workbench.engine.fused_head import FusedHead
from workbench.engine.fused_prompt import PromptReader
from workbench.engine.fused_step import ROWS_PER_STEP, FusedStep
from workbench.engine.insides.contributions import Unembedding
from workbench.engine.insides.structure_points import LOGITS_POINTS, structure_points
from workbench.engine.kernels.matrix import Matrix
from workbench.engine.kernels.matrix_kernel import matrix_kernel
from workbench.engine.kernels.panels import ARITHMETICS, DOT, FMA, TILES
from workbench.engine.kernels.row_reductions import LogitsSummary, masked, softmax_stats, top_k_values
from workbench.engine.kernels.simd import BF16, FLOAT32, GROUP, ROWS
from workbench.engine.kernels.team import Team
from workbench.engine.kv_cache import SHORTEST_REUSE
from workbench.engine.model_weights import ModelWeights, Norm
from workbench.engine.packed_weights import PackedWeights, kernel_shape, kernel_weights
from workbench.engine.rotary_table import Rotary, RotaryVersions
from workbench.engine.weights import Int8Blocks
from workbench.insides import ModelPoints

STEP_TOKENS = 40
"""Known tokens of one sequence that the compiled step decodes together."""

_FEW_TOKENS = {TILES: 8, DOT: 12, FMA: SHORTEST_REUSE - 1}
"""Tokens of the longest prompt that the compiled step reads at least as fast as `PromptReader` in each arithmetic. A
prefix that is reused has more, so that it has the bits of a prompt that is read whole."""

_UNEMBEDDED_ROWS = 32
"""Hidden states whose logits are computed together: those of one token after each layer of most models."""

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
        self._dtype = dtype
        self._context_length = context_length
        self._lock = threading.Lock()  # two engines may share a decoder, which computes one call at a time
        addresses, angles, team = kernel_weights(weights), RotaryVersions(rotary, structure.rotary_dim), Team(threads)
        self._step = FusedStep(weights, addresses, angles, team, BF16 if dtype == torch.bfloat16 else FLOAT32)
        self._prompts = PromptReader(weights, addresses, angles, team, dtype, self._step.embed_again)
        self._head = FusedHead(weights, team)
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
            return self._head.normed(hidden)

    def decode(self, token_ids: Sequence[int], caches: Sequence[FusedCache]) -> Decoded:
        with self._lock:
            for cache in caches:
                self._set_version(cache, 1)
            summaries, positions = self._step.summaries_of(len(caches)), [cache.length for cache in caches]
            logits = self._step.decode(token_ids, caches, positions, len(caches), summaries)
            found = summaries.read()
        for cache, token_id in zip(caches, token_ids, strict=True):
            cache.advance(self._structure, [token_id])
        return Decoded(logits, found)

    def unembed(self, hidden: Tensor) -> Decoded:
        with self._lock:
            if len(hidden) <= _UNEMBEDDED_ROWS:
                return self._step.unembed(hidden, self._head)
            parts: list[Tensor] = []
            summaries: list[LogitsSummary | None] = []
            for part in hidden.split(_UNEMBEDDED_ROWS):
                found = self._step.unembed(part, self._head)
                parts.append(found.logits.clone())
                summaries += found.summaries
        return Decoded(torch.cat(parts), summaries)

    def memory_bytes(self) -> int:
        """Return the size of the weights in bytes."""
        return self._weights.nbytes

    @property
    def unembedding(self) -> Unembedding:
        return self._head.unembedding

    def _append(
        self, token_ids: Sequence[int], cache: FusedCache, *, every_position: bool, wants_logits: bool = True
    ) -> Tensor:
        """Append tokens to a sequence; return logits of the last one, or of each, shape (1 or tokens, vocab).

        If no logits are wanted, the result is empty where they would cost a product with the head.
        """
        self._set_version(cache, len(token_ids))
        if self._shape.experts or self._is_short(token_ids, cache):
            return self._decode_known(token_ids, cache, len(token_ids) if every_position else 1)
        self._structure.check_indices(token_ids, cache.length + len(token_ids))
        logits = self._read_prompt(token_ids, cache, every_position=every_position, wants_logits=wants_logits)
        cache.advance(self._structure, token_ids)
        return logits

    def _decode_known(self, token_ids: Sequence[int], cache: FusedCache, logits_rows: int) -> Tensor:
        """Append tokens by one step; return logits of the last rows, shape (logits_rows, vocab)."""
        count = len(token_ids)
        positions = range(cache.length, cache.length + count)
        caches, summaries = [cache] * count, self._step.summaries_of(0)
        logits = self._step.decode(token_ids, caches, positions, logits_rows, summaries)
        cache.advance(self._structure, token_ids)
        return logits

    def _is_short(self, token_ids: Sequence[int], cache: FusedCache) -> bool:
        """Return whether tokens are a whole prompt that a step reads faster, and that no cached prefix can shorten."""
        few = _FEW_TOKENS[self._prompts.arithmetic]
        return cache.length == 0 and len(token_ids) <= few and 0 < cache.expected_length <= few + 1

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
        if taps and not points.isdisjoint(LOGITS_POINTS):
            hidden = self._prompts.read(token_ids, cache, every_position=True)
            logits = self._head.logits(hidden, lambda point, values: taps.visit(point, past, values))
            return logits if every_position else logits[-1:]
        hidden = self._prompts.read(token_ids, cache, every_position=every_position)
        return self._head.logits(hidden) if wants_logits else hidden.new_empty(0)

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
            self._decode_known(part, cache, 1)
            found.append(self._step.hidden(len(part)))
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
    head.matmul_many(weight, team)
    softmax_stats(row)
    top_k_values(row, 1)
    masked(row, row > 0)
