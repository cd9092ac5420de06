"""Reading what is known of a sequence before its next token is computed: the prompt, and an answer that goes on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from workbench.engine.decoders import GeneralCache
from workbench.engine.images import cache_keys, next_part, prefill_part
from workbench.engine.logprobs import measure

if TYPE_CHECKING:
    from workbench.engine.decoders import Decoder
    from workbench.engine.generation import Generation
    from workbench.engine.kv_cache import KVCache, PrefixCache

PREFILL_CHUNK = 512
"""Prompt tokens read at once: enough to keep matrix kernels busy, little enough to keep other requests flowing."""

PROMPT_LOGPROBS_CHUNK = 64
"""The same where logits of every position are asked for, which take 4 bytes times the vocabulary each."""

_MEASURED_NUMBERS = 2**26
"""Logits that are held at once where a prompt is best measured in one piece."""

FORCED_CHUNK = 32
"""Tokens of an answer read at once: so few that the compiled step reads them as it reads single ones."""


class Reader:
    """Fills the caches of requests, from kept prefixes where there are any; used on the loop's thread alone."""

    def __init__(self, decoder: Decoder, prefix_cache: PrefixCache) -> None:
        self._decoder = decoder
        self._prefix_cache = prefix_cache

    def read(self, generation: Generation) -> bool:
        """Read one more chunk; whether all is read now, but for the last token.

        That one is left to the decode step, together with all that run. So the first answer token comes from the same
        computation whether the prompt was read now or reused, and one seed gives one answer in every precision.
        """
        request, body = generation.request, generation.known_ids[:-1]
        measures = request.prompt_logprobs and not generation.has_started
        cache = generation.cache
        if cache is None:
            cache = self._begun(generation, None if measures else body)
        done, prompt = cache.length, body[: len(request.prompt_ids) - 1]
        if done < len(prompt):
            part = next_part(prompt, generation.images, done, self._chunk(measures=measures))
            logits = prefill_part(self._decoder, part, cache, every_position=measures)
            if measures:
                following = request.prompt_ids[done + 1 : done + 1 + len(part.token_ids)]
                generation.prompt_stats += measure(logits, following, [request.alternatives] * len(following))
        elif done < len(body):
            # As steps compute it, and not as prompts are read: what follows is then what would have followed.
            self._decoder.prefill(body[done : done + FORCED_CHUNK], cache, every_position=True)
        return cache.length == len(body)

    def _chunk(self, *, measures: bool) -> int:
        """How many tokens to read at once; a model that reads no chunks gets all, as far as memory allows."""
        if self._decoder.reads_chunks:
            return PROMPT_LOGPROBS_CHUNK if measures else PREFILL_CHUNK
        return max(PROMPT_LOGPROBS_CHUNK, _MEASURED_NUMBERS // self._decoder.vocab_size) if measures else sys.maxsize

    def keep(self, generation: Generation) -> None:
        """Take a request's keys and values from it, and keep them for whoever begins in the same way."""
        cache, generation.cache = generation.cache, None
        if cache is None:
            return
        try:
            token_ids = generation.known_ids
            if cache.length > len(token_ids):  # it had read on where a grammar forces
                cache = cache.fork(len(token_ids))
            if cache is not None:
                self._prefix_cache.put(cache_keys(token_ids, generation.images), cache)
        except BaseException:  # noqa: BLE001 - what cannot be kept costs time later, and no answer now
            self._prefix_cache.clear()

    def _begun(self, generation: Generation, body: list[int] | None) -> KVCache:
        """A cache with as much of ``body`` as a recent sequence begins with; None is to be computed whole."""
        found = None if body is None else self._prefix_cache.take(cache_keys(body, generation.images))
        cache, reused = found or (self._decoder.new_cache(), 0)
        if isinstance(cache, GeneralCache):
            cache.expected = len(generation.request.prompt_ids)
        if not generation.has_started:
            generation.reused_tokens = reused
            generation.prompt_stats.clear()
        generation.cache = cache
        return cache
