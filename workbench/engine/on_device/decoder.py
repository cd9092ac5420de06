"""The decoder of a device: batches in the slots of one buffer, prompts in parts, logits that stay where they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from workbench.engine.decoders import Decoded
from workbench.engine.insides.contributions import Unembedding
from workbench.engine.insides.structure_points import structure_points
from workbench.engine.on_device.angles import AngleTable
from workbench.engine.on_device.attention import Span
from workbench.engine.on_device.dense import DenseWeights
from workbench.engine.on_device.forward import Forward
from workbench.engine.on_device.slots import DeviceCache, KVShape, SlotPool, span_of
from workbench.engine.on_device.step import DeviceStep
from workbench.engine.on_device.summaries import read_summaries, summarize
from workbench.engine.on_device.visits import Visits, tapped_rows
from workbench.engine.rotary_table import Rotary
from workbench.insides import ModelPoints, Point

PART = 512
"""Most prompt tokens that are computed together."""

_PROMPT_SPAN = 64
"""Prompts read keys in multiples of this number, which the attention kernels of GPUs prefer."""


class DeviceDecoder:
    """A decoder-only transformer over dense weights on a device.

    Args:
        weights: all on one device; they are float32, bf16 or float16, and so are keys and values.
        rotary: the sets of rotary angles, in each version.
        kv_budget_bytes: memory for the slots of sequences that decode together.
        captures: whether steps are captured as graphs; None captures them on CUDA.
    """

    supports_chunked_prefill = True
    reads_as_it_decodes = True
    prompt_arithmetic: str | None = None

    def __init__(
        self,
        weights: DenseWeights,
        *,
        rotary: Sequence[Sequence[Rotary]],
        kv_budget_bytes: int,
        captures: bool | None = None,
    ) -> None:
        self._structure = structure = weights.structure
        self._forward = Forward(weights)
        self._nbytes = weights.nbytes
        self.device, self.dtype = self._forward.device, self._forward.dtype
        shape = KVShape(len(structure.layers), structure.kv_heads, structure.head_dim)
        self._pool = SlotPool(shape, device=self.device, dtype=self.dtype, budget_bytes=kv_budget_bytes)
        self._angles = AngleTable(rotary, self.device)
        self._step = DeviceStep(self._forward, self._pool, self._angles, captures=captures)
        self.vocab_size = structure.vocab
        self.points: ModelPoints = structure_points(structure)

    @property
    def rows_per_step(self) -> int:
        """Most sequences of a batch; fewer while long sequences take the memory of the slots."""
        return self._pool.rows

    def new_cache(self) -> DeviceCache:
        return DeviceCache(self._pool)

    @torch.inference_mode()
    def prefill(self, token_ids: Sequence[int], cache: DeviceCache, *, every_position: bool = False) -> Tensor:
        with self._pool.lock:
            first = 0 if every_position else len(token_ids) - 1
            return torch.cat(list(self._append_logits(token_ids, cache, first)))

    @torch.inference_mode()
    def read(self, token_ids: Sequence[int], cache: DeviceCache) -> None:
        with self._pool.lock:
            for _ in self._append_logits(token_ids, cache, len(token_ids)):
                pass

    @torch.inference_mode()
    def decode(self, token_ids: Sequence[int], caches: Sequence[DeviceCache]) -> Decoded:
        with self._pool.lock:
            for cache in caches:
                self._set_version(cache, 1)
            longest = max(cache.length for cache in caches) + 1
            self._structure.check_indices(token_ids, longest)
            self._reserve(longest)
            rows, span = self.rows_per_step, span_of(longest)  # fewer rows than before if the slots have grown
            parts = [
                self._decoded(token_ids[first : first + rows], caches[first : first + rows], span)
                for first in range(0, len(caches), rows)
            ]
            for token_id, cache in zip(token_ids, caches, strict=True):
                cache.advance(self._structure, [token_id])
        return parts[0] if len(parts) == 1 else _joined(parts)

    def decode_known(self, token_ids: Sequence[int], cache: DeviceCache) -> Tensor:
        return self.prefill(token_ids, cache, every_position=True)

    @torch.inference_mode()
    def embed(self, token_ids: Sequence[int]) -> Tensor:
        cache = self.new_cache()
        cache.expected_length = len(token_ids)
        with self._pool.lock:
            return torch.cat([hidden[0].cpu() for hidden in self._append(token_ids, cache)])

    @torch.inference_mode()
    def unembed(self, hidden: Tensor) -> Decoded:
        with self._pool.lock:
            logits = self._forward.unembed(hidden.to(self.device))
            return Decoded(logits, read_summaries(summarize(logits).cpu()))

    @property
    def unembedding(self) -> Unembedding:
        return self._forward.unembedding

    def memory_bytes(self) -> int:
        return self._nbytes

    def _decoded(self, token_ids: Sequence[int], caches: Sequence[DeviceCache], span: int) -> Decoded:
        """Return the results of a step, in the order of the caches."""
        rows = [[0, 0, 0] for _ in range(self._pool.gather(caches))]  # free slots compute something, too
        slots = [self._pool.hold(cache) for cache in caches]
        for slot, token_id, cache in zip(slots, token_ids, caches, strict=True):
            rows[slot] = [token_id, cache.length, cache.rotary_version]
        tapped = tapped_rows(zip(slots, caches, strict=True), 1)
        logits, packed = self._step(rows, span, Visits(self._structure, tapped) if tapped else None)
        summaries = read_summaries(packed)
        in_order = logits[: len(slots)] if slots == list(range(len(slots))) else logits[slots]
        return Decoded(in_order, [summaries[slot] for slot in slots])

    def _append_logits(self, token_ids: Sequence[int], cache: DeviceCache, first: int) -> Iterator[Tensor]:
        """Append tokens to a sequence; yield logits on the CPU from the token with the index ``first`` on.

        They are computed part by part, so that the device never holds the logits of a whole text; those before them
        only where they are visited.
        """
        for hidden in self._append(token_ids, cache):
            count = hidden.shape[1]
            skipped, first = min(first, count), max(first - count, 0)
            start, point = cache.length - count, Point("lm_head")
            taps = cache.taps
            if taps is not None and point not in taps.active(start, start + count):
                taps = None
            if taps is not None and skipped:
                taps.visit(point, start, self._forward.logits(hidden[0, :skipped]).cpu())
            if skipped < count:
                logits = self._forward.logits(hidden[0, skipped:]).cpu()
                changed = taps.visit(point, start + skipped, logits) if taps else None
                yield logits if changed is None else changed

    def _append(self, token_ids: Sequence[int], cache: DeviceCache) -> Iterator[Tensor]:
        """Append tokens to a sequence; yield normed hidden states of the last layer, float32, (1, tokens, hidden)."""
        for part in self._parts(token_ids, cache):
            self._set_version(cache, len(part))
            yield self._append_part(part, cache)

    def _append_part(self, token_ids: Sequence[int], cache: DeviceCache) -> Tensor:
        past, length = cache.length, cache.length + len(token_ids)
        self._structure.check_indices(token_ids, length)
        self._reserve(length)
        slot, span = self._pool.hold(cache), -(-length // _PROMPT_SPAN) * _PROMPT_SPAN
        tapped = tapped_rows([(0, cache)], len(token_ids))
        positions = torch.arange(past, length, device=self.device).unsqueeze(0)
        versions = torch.full((1, 1), cache.rotary_version, device=self.device)
        hidden = self._forward.hidden_states(
            torch.tensor([token_ids], device=self.device),
            self._angles.rows(positions, versions),
            Span(self._pool.view(slot, 1, span), positions),
            Visits(self._structure, tapped) if tapped else None,
        )
        cache.advance(self._structure, token_ids)
        return hidden

    def _parts(self, token_ids: Sequence[int], cache: DeviceCache) -> list[Sequence[int]]:
        """Return the tokens in parts that are computed together, with the same version of the angles."""
        pieces = cache.split(self._structure, token_ids)
        return [piece[start : start + PART] for piece in pieces for start in range(0, len(piece), PART)]

    def _set_version(self, cache: DeviceCache, count: int) -> None:
        """Recompute a sequence if it gets too long for the angles of its keys with ``count`` more tokens."""
        version = cache.version_with(self._structure, count)
        if cache.token_ids and version != cache.rotary_version:
            computed = self.new_cache()
            computed.rotary_version = version
            computed.taps = cache.taps and cache.taps.without_captures()
            for start in range(0, cache.length, PART):
                self._append_part(cache.token_ids[start : start + PART], computed)
            self._pool.replace(cache, computed)
        cache.rotary_version = version

    def _reserve(self, length: int) -> None:
        self._pool.reserve(length)
        self._angles.reserve(self._pool.capacity)


def _joined(parts: Sequence[Decoded]) -> Decoded:
    """Return the results of several steps, in their order."""
    return Decoded(torch.cat([part.logits for part in parts]), [one for part in parts for one in part.summaries])
