"""How probable given continuations are: one reading of the prompt, then one of each continuation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from workbench.engine.decoders import Decoder, GeneralCache
from workbench.engine.images import PlacedImage, next_part, prefill_part
from workbench.engine.kv_cache import KVCache
from workbench.engine.logprobs import TokenStats, measure
from workbench.errors import InvalidRequestError, NumericalError

_CHUNK = 512
_MEASURED_TOGETHER = 64
"""Positions whose logits are held at once; each takes 4 bytes times the vocabulary, several times over."""


def score(
    decoder: Decoder,
    prompt_ids: Sequence[int],
    continuations: Sequence[Sequence[int]],
    alternatives: int = 0,
    images: Sequence[PlacedImage] = (),
) -> list[list[TokenStats]]:
    """Stats of every token of every continuation, each as if it alone followed the prompt.

    Args:
        prompt_ids: at least one token.
        continuations: each at least one token.
        alternatives: how many other tokens to name at each position.
        images: those of the prompt.

    Raises:
        InvalidRequestError: the prompt is empty, so that nothing stands before a continuation's first token.
        NumericalError: the model computes NaN.
    """
    if not prompt_ids:
        raise InvalidRequestError("prompt", "", "at least one token of text")
    cache, first = _read(decoder, prompt_ids, images)
    scored = []
    for token_ids in continuations:
        stats = measure(first, token_ids[:1], [alternatives])
        if len(token_ids) > 1:
            branch = cache.fork(cache.length)
            if branch is None:  # a cache that cannot be copied: read the prompt again
                branch, _ = _read(decoder, prompt_ids, images)
            stats += _follow(decoder, branch, token_ids, alternatives)
        if any(one.logprob != one.logprob for one in stats):
            raise NumericalError("the model computed NaN for a continuation; its weights are damaged or overflow")
        scored.append(stats)
    return scored


def _read(decoder: Decoder, prompt_ids: Sequence[int], images: Sequence[PlacedImage]) -> tuple[KVCache, Tensor]:
    """The prompt's cache and the logits after it, shape (1, vocab)."""
    cache: KVCache = decoder.new_cache()
    if isinstance(cache, GeneralCache):
        cache.expected = len(prompt_ids)
    size = _CHUNK if decoder.reads_chunks else len(prompt_ids)
    while cache.length < len(prompt_ids):
        logits = prefill_part(decoder, next_part(prompt_ids, images, cache.length, size), cache)
    return cache, logits


def _follow(decoder: Decoder, cache: KVCache, token_ids: Sequence[int], alternatives: int) -> list[TokenStats]:
    """Stats of all tokens but the first, each read after those before it."""
    stats: list[TokenStats] = []
    for start in range(0, len(token_ids) - 1, _MEASURED_TOGETHER):
        following = token_ids[start + 1 : start + 1 + _MEASURED_TOGETHER]
        logits = decoder.prefill(token_ids[start : start + len(following)], cache, every_position=True)
        stats += measure(logits, following, [alternatives] * len(following))
    return stats
