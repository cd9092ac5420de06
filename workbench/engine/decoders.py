"""What turns token ids into logits: the interface, and the general decoder over transformers' own forward.

The general decoder runs any causal model of transformers, one sequence at a time, in the way transformers itself
would; it is the oracle that the fused step is tested against.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import torch
from transformers import DynamicCache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from transformers import PreTrainedModel

    from workbench.engine.kernels.rows import Outline
    from workbench.engine.kv_cache import KVCache


class Decoded(NamedTuple):
    """What a step computed for each sequence."""

    logits: Tensor
    """float32, shape (sequences, vocab)."""
    outlines: Sequence[Outline | None]
    """Of each row of logits, where the step found out about it what is asked of it next."""


class Decoder(Protocol):
    """A causal language model as the decode loop sees it. A cache goes back only to the decoder that made it."""

    @property
    def vocab_size(self) -> int:
        """Width of the logits."""

    @property
    def rows_per_step(self) -> int:
        """How many sequences `decode` computes together; the loop calls it once per so many."""

    def new_cache(self) -> KVCache:
        """An empty cache for one sequence."""

    def prefill(self, token_ids: Sequence[int], cache: Any, *, every_position: bool = False) -> Tensor:
        """Append tokens to a sequence; float32 logits of the last one, or of each, shape (1 or tokens, vocab)."""

    def decode(self, token_ids: Sequence[int], caches: Sequence[Any]) -> Decoded:
        """Append one token to each sequence.

        Either all caches grow or, where it raises, none does: the caller may then try the sequences one by one.
        """

    def embed(self, token_ids: Sequence[int]) -> Tensor:
        """Hidden states of the last layer, after its norm, float32, shape (tokens, hidden)."""

    def memory_bytes(self) -> int:
        """Memory held by the weights, in all the forms in which they are kept."""


class GeneralCache:
    """A `DynamicCache` of transformers with the length and size that the prefix cache asks for."""

    def __init__(self, past_key_values: DynamicCache, length: int = 0) -> None:
        self.past_key_values = past_key_values
        self.length = length

    @property
    def nbytes(self) -> int:
        tensors = (part for layer in self.past_key_values.layers for part in vars(layer).values())
        return sum(part.nbytes for part in tensors if isinstance(part, torch.Tensor))

    def fork(self, length: int) -> Self | None:
        past = copy.deepcopy(self.past_key_values)
        if length < self.length:
            if not past.is_croppable:
                return None
            try:
                past.crop(length - self.length)
            except RuntimeError:  # a sliding window has already dropped what the shorter sequence would need
                return None
        return type(self)(past, length)


class GeneralDecoder:
    """Any causal model of transformers through its own ``forward``."""

    rows_per_step = 1

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model.eval()
        self.vocab_size = int(model.get_output_embeddings().weight.shape[0])

    def new_cache(self) -> GeneralCache:
        return GeneralCache(DynamicCache(config=self.model.config))

    def prefill(self, token_ids: Sequence[int], cache: GeneralCache, *, every_position: bool = False) -> Tensor:
        return self._forward(token_ids, cache, logits_to_keep=0 if every_position else 1)

    def decode(self, token_ids: Sequence[int], caches: Sequence[GeneralCache]) -> Decoded:
        rows = [self.prefill([token_id], cache) for token_id, cache in zip(token_ids, caches, strict=True)]
        return Decoded(torch.cat(rows), [None] * len(rows))

    def embed(self, token_ids: Sequence[int]) -> Tensor:
        input_ids = torch.tensor([token_ids], device=self.model.device)  # (1, tokens)
        hidden: Tensor = self.model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
        return hidden[0].float()

    def _forward(self, token_ids: Sequence[int], cache: GeneralCache, **options: Any) -> Tensor:
        """Append tokens to a sequence; ``options`` are of the model's own forward."""
        input_ids = torch.tensor([token_ids], device=self.model.device)  # (1, tokens)
        output = self.model(input_ids=input_ids, past_key_values=cache.past_key_values, use_cache=True, **options)
        cache.length += len(token_ids)
        logits: Tensor = output.logits[0]  # (1 or tokens, vocab)
        return logits.float()

    def memory_bytes(self) -> int:
        packed = (getattr(getattr(module, "linear", None), "nbytes", 0) for module in self.model.modules())
        return int(self.model.get_memory_footprint()) + sum(packed)
