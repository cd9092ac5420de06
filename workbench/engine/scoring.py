"""How probable given continuations are: one reading of the prompt, then one of each continuation."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from workbench.engine.decoders import Decoder
from workbench.engine.kv_cache import KVCache
from workbench.engine.logprobs import TokenStats, measure

_CHUNK = 512


def score(
    decoder: Decoder, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]], alternatives: int = 0
) -> list[list[TokenStats]]:
    """Stats of every token of every continuation, each as if it alone followed the prompt.

    Args:
        prompt_ids: at least one token.
        continuations: each at least one token.
        alternatives: how many other tokens to name at each position.
    """
    cache, first = _read(decoder, prompt_ids)
    scored = []
    for token_ids in continuations:
        logits = first
        if len(token_ids) > 1:
            branch = cache.fork(cache.length)
            if branch is None:  # a cache that cannot be copied: read the prompt again
                branch, _ = _read(decoder, prompt_ids)
            rest = decoder.prefill(token_ids[:-1], branch, every_position=True)
            logits = torch.cat((first, rest))  # (tokens, vocab)
        scored.append(measure(logits, token_ids, [alternatives] * len(token_ids)))
    return scored


def _read(decoder: Decoder, prompt_ids: Sequence[int]) -> tuple[KVCache, torch.Tensor]:
    """The prompt's cache and the logits after it, shape (1, vocab)."""
    cache = decoder.new_cache()
    logits = torch.empty(0)
    for start in range(0, len(prompt_ids), _CHUNK):
        logits = decoder.prefill(prompt_ids[start : start + _CHUNK], cache)
    return cache, logits
