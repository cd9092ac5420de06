"""Prefill of requests: the prompt, and the beginning of an answer that is continued."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from workbench.engine.decoders import GeneralCache
from workbench.engine.fused_cache import FusedCache
from workbench.engine.images import cache_keys, next_part, read_part
from workbench.engine.insides.taps import Taps
from workbench.engine.logprobs import measure
from workbench.engine.on_device.slots import DeviceCache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench.engine.decoders import Decoder
    from workbench.engine.generation import Generation
    from workbench.engine.kv_cache import KVCache, PrefixCache

PREFILL_CHUNK = 512
"""Prompt tokens per chunk: enough for efficient matrix products, and few enough not to delay other requests."""

PROMPT_LOGPROBS_CHUNK = 64
"""Prompt tokens per chunk if their logits are measured, which take 4 bytes times the vocabulary each."""

_MAX_LOGITS = 2**26
"""Most logits held together if the model supports no chunked prefill."""

FORCED_CHUNK = 32
"""Answer tokens per chunk: few enough for the compiled step, which computes them as it computes single ones."""


class Prefiller:
    """Fills the KV caches of requests, reusing cached prefixes; used on the decode loop's thread only."""

    def __init__(self, decoder: Decoder, prefix_cache: PrefixCache) -> None:
        self._decoder = decoder
        self._prefix_cache = prefix_cache

    def prefill_chunk(self, generation: Generation) -> bool:
        """Prefill one more chunk; return whether only the last token is left.

        The decode step computes that one. So the first answer token comes from the same computation whether the prompt
        was computed or reused, and one seed gives one answer in every precision.
        """
        request, body = generation.request, generation.known_ids[:-1]
        measures = request.prompt_logprobs and not generation.has_started
        cache = generation.cache
        if cache is None:
            cache = self._start_cache(generation, None if measures else body)
        done, prompt = cache.length, body[: len(request.prompt_ids) - 1]
        if done < len(prompt):
            part = next_part(prompt, generation.images, done, self._chunk(measures=measures))
            if measures:
                logits = self._decoder.prefill(part.token_ids, cache, every_position=True)
                following = request.prompt_ids[done + 1 : done + 1 + len(part.token_ids)]
                generation.prompt_stats += measure(logits, following, [request.alternatives] * len(following))
            else:
                read_part(self._decoder, part, cache)
        elif done < len(body):
            # As decode steps compute them, not as prompts, so that the tokens that follow are the same.
            self._decoder.decode_known(body[done : done + FORCED_CHUNK], cache)
        return cache.length == len(body)

    def _chunk(self, *, measures: bool) -> int:
        """Return how many tokens to prefill next: without chunked prefill all of them, as far as memory allows."""
        if self._decoder.supports_chunked_prefill:
            return PROMPT_LOGPROBS_CHUNK if measures else PREFILL_CHUNK
        return max(PROMPT_LOGPROBS_CHUNK, _MAX_LOGITS // self._decoder.vocab_size) if measures else sys.maxsize

    def cache_prefix(self, generation: Generation) -> None:
        """Move a request's keys and values to the prefix cache."""
        cache, generation.cache = generation.cache, None
        if cache is None:
            return
        try:
            token_ids = generation.known_ids
            if cache.length > len(token_ids):  # forced tokens were prefilled that the answer does not have
                cache = cache.fork(len(token_ids))
            if cache is not None:
                self._prefix_cache.put(self._keys(generation, token_ids), cache)
        except BaseException:  # noqa: BLE001 - without the cache, later requests are only slower
            self._prefix_cache.clear()

    def _start_cache(self, generation: Generation, body: list[int] | None) -> KVCache:
        """Set the request's cache to the longest cached prefix of ``body``, or, if that is None, to an empty one."""
        edits = generation.request.edits
        found = None if body is None else self._prefix_cache.take(self._keys(generation, body))
        cache, reused = found or (self._decoder.new_cache(), 0)
        if isinstance(cache, GeneralCache | FusedCache | DeviceCache):
            cache.expected_length = len(generation.request.prompt_ids)
            cache.taps = Taps(edits) if edits else None
        if not generation.has_started:
            generation.reused_tokens = reused
            generation.prompt_stats.clear()
        generation.cache = cache
        return cache

    def _keys(self, generation: Generation, token_ids: Sequence[int]) -> list[int]:
        """Return the keys of a request's tokens, of which the prompt's last one and all after it are decoded."""
        request = generation.request
        read_tokens = None if self._decoder.reads_as_it_decodes else len(request.prompt_ids) - 1
        return cache_keys(token_ids, generation.images, request.edits, read_tokens)
