"""A text computed again, with the arithmetic and in the parts in which a run computed it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.engine.decoders import GeneralCache
from workbench.engine.fused_cache import FusedCache
from workbench.engine.images import PlacedImage, next_part, read_part
from workbench.engine.insides.taps import Captured, Taps
from workbench.engine.on_device.slots import DeviceCache
from workbench.engine.prefill import FORCED_CHUNK, PREFILL_CHUNK

if TYPE_CHECKING:
    from workbench.engine.decoders import Decoder
    from workbench.engine.kv_cache import KVCache
    from workbench.insides import PointEdit


class Replay:
    """The prompt and the tokens of an answer, read again with taps, part by part.

    The prompt is read as the decode loop reads it, and the tokens from its last one on as decode steps compute them,
    so the numbers are those of the run.
    """

    def __init__(
        self,
        decoder: Decoder,
        prompt_ids: Sequence[int],
        images: Sequence[PlacedImage] = (),
        edits: Sequence[PointEdit] = (),
    ) -> None:
        self._decoder = decoder
        self._prompt = list(prompt_ids)
        self._images = images
        self._edits = tuple(edits)
        self._cache: KVCache = decoder.new_cache()
        if isinstance(self._cache, GeneralCache | FusedCache | DeviceCache):
            self._cache.expected_length = len(prompt_ids)

    @property
    def length(self) -> int:
        """Number of tokens that have been read."""
        return self._cache.length

    def advance(self, token_ids: Sequence[int], captured: Captured | None = None) -> bool:
        """Read the next part of a text; return whether all of it has been read.

        Args:
            token_ids: the prompt and the answer, of which more may be given than before.
            captured: what to read.
        """
        if self.length >= len(token_ids):
            return True
        if isinstance(self._cache, GeneralCache | FusedCache | DeviceCache):
            self._cache.taps = Taps(self._edits, captured)
        done, body = self.length, min(len(self._prompt) - 1, len(token_ids))
        if done < body:
            size = PREFILL_CHUNK if self._decoder.supports_chunked_prefill else body
            read_part(self._decoder, next_part(self._prompt[:body], self._images, done, size), self._cache)
        elif isinstance(self._cache, FusedCache):
            self._decoder.decode_known(token_ids[done : done + FORCED_CHUNK], self._cache)
        else:
            self._decoder.decode([token_ids[done]], [self._cache])
        return self.length >= len(token_ids)
