"""Logprobs of continuations: one prefill of the prompt, then one of each continuation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from workbench.engine.decoders import Decoder, GeneralCache
from workbench.engine.fused_cache import FusedCache
from workbench.engine.images import PlacedImage, next_part, prefill_part
from workbench.engine.kv_cache import KVCache
from workbench.engine.logprobs import TokenStats, measure
from workbench.errors import InvalidRequestError, NumericalError

_CHUNK = 512
_LOGITS_CHUNK = 64
"""Positions whose logits are held together; each takes several times 4 bytes times the vocabulary."""


def score(
    decoder: Decoder,
    prompt_ids: Sequence[int],
    continuations: Sequence[Sequence[int]],
    alternatives: int = 0,
    images: Sequence[PlacedImage] = (),
) -> list[list[TokenStats]]:
    """Return stats of every token of each continuation, as if it alone followed the prompt.

    Args:
        prompt_ids: at least one token.
        continuations: each at least one token.
        alternatives: number of other candidate tokens at each position.
        images: those of the prompt.

    Raises:
        InvalidRequestError: the prompt is empty, so that a first token has no context.
        NumericalError: the model computes NaN.
    """
    if not prompt_ids:
        raise InvalidRequestError("prompt", "", "at least one token of text")
    cache, first = _prefill(decoder, prompt_ids, images)
    scored = []
    for token_ids in continuations:
        stats = measure(first, token_ids[:1], [alternatives])
        if len(token_ids) > 1:
            branch = cache.fork(cache.length)
            if branch is None:  # the cache cannot be copied: prefill the prompt again
                branch, _ = _prefill(decoder, prompt_ids, images)
            stats += _measure_rest(decoder, branch, token_ids, alternatives)
        if any(one.logprob != one.logprob for one in stats):
            raise NumericalError("the model computed NaN for a continuation; its weights are damaged or overflow")
        scored.append(stats)
    return scored


def _prefill(decoder: Decoder, prompt_ids: Sequence[int], images: Sequence[PlacedImage]) -> tuple[KVCache, Tensor]:
    """Return the prompt's cache and the logits after it, shape (1, vocab)."""
    cache: KVCache = decoder.new_cache()
    if isinstance(cache, GeneralCache | FusedCache):
        cache.expected_length = len(prompt_ids)
    size = _CHUNK if decoder.supports_chunked_prefill else len(prompt_ids)
    while cache.length < len(prompt_ids):
        logits = prefill_part(decoder, next_part(prompt_ids, images, cache.length, size), cache)
    return cache, logits


def _measure_rest(decoder: Decoder, cache: KVCache, token_ids: Sequence[int], alternatives: int) -> list[TokenStats]:
    """Return stats of all tokens but the first, each in the context of those before it."""
    stats: list[TokenStats] = []
    for start in range(0, len(token_ids) - 1, _LOGITS_CHUNK):
        following = token_ids[start + 1 : start + 1 + _LOGITS_CHUNK]
        logits = decoder.decode_known(token_ids[start : start + len(following)], cache)
        stats += measure(logits, following, [alternatives] * len(following))
    return stats
