"""What turns token ids into logits: the interface, and the general decoder over transformers' own forward.

The general decoder runs any causal model of transformers, one sequence at a time, in the way transformers itself
would; it is the oracle that the fused step is tested against.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import torch
from transformers import DynamicCache

from workbench.engine.length_scaling import LengthScaling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from transformers import PreTrainedModel

    from workbench.engine.kernels.row_reductions import LogitsSummary
    from workbench.engine.kv_cache import KVCache


class Decoded(NamedTuple):
    """What a step computed for each sequence."""

    logits: Tensor
    """float32, shape (sequences, vocab)."""
    summaries: Sequence[LogitsSummary | None]
    """Of each row of logits, where the step found out about it what is asked of it next."""


class Decoder(Protocol):
    """A causal language model as the decode loop sees it. A cache goes back only to the decoder that made it."""

    @property
    def vocab_size(self) -> int:
        """Width of the logits."""

    @property
    def rows_per_step(self) -> int:
        """How many sequences `decode` computes together; the loop calls it once per so many."""

    @property
    def reads_chunks(self) -> bool:
        """Whether a text may be read in pieces as fast as whole."""

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


CACHE_NAMES = ("past_key_values", "cache_params", "state", "mems")
"""What models of transformers call what they keep of a sequence."""

_UNKEPT = {"use_cache": False}
_USUAL = frozenset({"position_ids", "use_cache", "logits_to_keep"})


@dataclass(slots=True)
class Ways:
    """What a model's caches are used for; `proof` switches off what would change what it says."""

    chunks: bool = True
    """Tokens that follow others are read several at once."""
    crop: bool = True
    """A shorter sequence is had from a longer one's cache."""
    copy: bool = True
    """A sequence is had twice from one cache."""
    keep: bool = True
    """There is a cache at all; else each token has the whole text read again."""


class GeneralCache:
    """What a model of transformers keeps of one sequence, with what the prefix cache asks for.

    Args:
        past: a `Cache` of transformers, or what else the model gives and takes; None before the first token.
    """

    def __init__(self, past: Any, ways: Ways, token_ids: Sequence[int] = ()) -> None:
        self.past = past
        self.ways = ways
        self.token_ids = list(token_ids)
        self.expected = 0
        """How long the text is that is being read, where that is known before all of it is."""
        self.angles: tuple[int, ...] = ()
        """Which of a model's angles the keys were computed with; see `length_scaling`."""

    @property
    def length(self) -> int:
        return len(self.token_ids)

    @property
    def nbytes(self) -> int:
        return 8 * self.length + sum(tensor.nbytes for tensor in _tensors(self.past))

    def fork(self, length: int) -> Self | None:
        if not (self.ways.copy if length == self.length else self.ways.copy and self.ways.crop):
            return None
        past = copy.deepcopy(self.past)
        if length < self.length:
            if not getattr(past, "is_croppable", False):
                return None
            try:
                past.crop(length - self.length)
            except RuntimeError:  # a sliding window has already dropped what the shorter sequence would need
                return None
        forked = type(self)(past, self.ways, self.token_ids[:length])
        forked.angles = self.angles
        return forked


class GeneralDecoder:
    """Any causal model of transformers through its own ``forward``, called as ``generate`` calls it."""

    rows_per_step = 1

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model.eval()
        self.ways = Ways()
        self.scaling = LengthScaling.of(model)
        self._taken = inspect.signature(model.forward).parameters
        self._cache_name = next((name for name in CACHE_NAMES if name in self._taken), None)
        head = model.get_output_embeddings()
        self.vocab_size = int(head.weight.shape[0] if head is not None else model.config.vocab_size)

    @property
    def reads_chunks(self) -> bool:
        return self.ways.chunks and self.ways.keep

    def use(self, ways: Ways) -> None:
        """Keep to these ways from now on."""
        self.ways = ways

    def new_cache(self) -> GeneralCache:
        return GeneralCache(self._new_past(), self.ways)

    def prefill(self, token_ids: Sequence[int], cache: GeneralCache, *, every_position: bool = False) -> Tensor:
        rows = [self._read(part, cache, every_position) for part in self._parts(token_ids, cache)]
        return torch.cat(rows) if every_position else rows[-1]

    def decode(self, token_ids: Sequence[int], caches: Sequence[GeneralCache]) -> Decoded:
        rows = [self.prefill([token_id], cache) for token_id, cache in zip(token_ids, caches, strict=True)]
        return Decoded(torch.cat(rows), [None] * len(rows))

    def embed(self, token_ids: Sequence[int]) -> Tensor:
        input_ids = torch.tensor([token_ids], device=self.model.device)  # (1, tokens)
        with self._angles(len(token_ids)):
            hidden: Tensor = self._inner()(input_ids=input_ids, **self._known(_UNKEPT)).last_hidden_state
        return hidden[0].float()

    def whole(self, token_ids: Sequence[int]) -> Tensor:
        """Logits of every position by one forward that keeps nothing, as transformers' own users call it."""
        input_ids = torch.tensor([token_ids], device=self.model.device)
        with self._angles(len(token_ids)):
            logits: Tensor = self.model(input_ids=input_ids, **self._known(_UNKEPT)).logits[0]
        return logits.float()

    def memory_bytes(self) -> int:
        packed = (getattr(getattr(module, "linear", None), "nbytes", 0) for module in self.model.modules())
        return int(self.model.get_memory_footprint()) + sum(packed)

    def _parts(self, token_ids: Sequence[int], cache: GeneralCache) -> Iterator[Sequence[int]]:
        """Tokens that may be read together: as the model can, and with the same angles."""
        start, past = 0, cache.length
        while start < len(token_ids):
            end = len(token_ids)
            if self.ways.keep and past + start and not self.ways.chunks:
                end = start + 1
            elif self.ways.keep and self.scaling:
                lengths = (max(cache.expected, past + stop) for stop in range(start + 1, end + 1))
                angles = [self.scaling.angles(length) for length in lengths]
                end = start + sum(1 for one in angles if one == angles[0])
            yield token_ids[start:end]
            start = end

    def _read(self, token_ids: Sequence[int], cache: GeneralCache, every_position: bool) -> Tensor:
        """Append tokens to a sequence, reading it from its beginning where what is kept of it does not serve."""
        length = max(cache.expected, cache.length + len(token_ids))
        angles = self.scaling.angles(length) if self.scaling else ()
        reads = token_ids
        if cache.length and not (self.ways.keep and cache.angles == angles):
            reads = [*cache.token_ids, *token_ids]
            cache.past, cache.token_ids = self._new_past(), []
        cache.angles = angles
        with self._angles(length):
            return self._forward(reads, cache, logits_to_keep=len(token_ids) if every_position else 1)

    def _forward(self, token_ids: Sequence[int], cache: GeneralCache, **options: Any) -> Tensor:
        """Append tokens to a sequence; ``options`` are of the model's own forward."""
        device, past, count = self.model.device, cache.length, len(token_ids)
        positions = torch.arange(past, past + count, device=device).unsqueeze(0)
        given = {"position_ids": positions, "use_cache": self.ways.keep} | options
        if self._cache_name and self.ways.keep:
            given[self._cache_name] = cache.past
        input_ids = torch.tensor([token_ids], device=device)  # (1, tokens)
        output = self.model(input_ids=input_ids, **self._known(given))
        if self._cache_name and self.ways.keep:
            cache.past = output.get(self._cache_name, cache.past)
        cache.token_ids += token_ids
        logits: Tensor = output.logits[0, -(options["logits_to_keep"] or count) :]  # (1 or tokens, vocab)
        return logits.float()

    def _inner(self) -> Any:
        """The model without its head; some classes do not tell it by the name that they give."""
        inner: Any = self.model.get_decoder()
        return inner if inner is not self.model else inner.model

    def _known(self, options: dict[str, Any]) -> dict[str, Any]:
        """Those of the usual options that this model's forward has, and all that are its own."""
        return {name: value for name, value in options.items() if name in self._taken or name not in _USUAL}

    def _new_past(self) -> Any:
        """As ``generate`` makes it: models that it makes none for make their own."""
        if not self.ways.keep or not self.model._supports_default_dynamic_cache():  # noqa: SLF001 - it has no other name
            return None
        return DynamicCache(config=self.model.config.get_text_config(decoder=True))

    def _angles(self, length: int) -> AbstractContextManager[None]:
        return self.scaling.of_length(length) if self.scaling else nullcontext()


def _tensors(past: object) -> Iterator[Tensor]:
    """All tensors that a cache of any form holds."""
    if isinstance(past, torch.Tensor):
        yield past
    elif isinstance(past, dict):
        for part in past.values():
            yield from _tensors(part)
    elif isinstance(past, list | tuple):
        for part in past:
            yield from _tensors(part)
    elif hasattr(past, "__dict__") and not isinstance(past, type):
        yield from _tensors({name: part for name, part in vars(past).items() if name != "config"})
