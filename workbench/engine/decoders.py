"""Decoders, which compute logits from token ids: the interface, and the general one on transformers' own forward.

The general decoder runs any causal model of transformers, one sequence at a time, as transformers itself does; the
fused decoder is tested against it.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import torch

from workbench.engine.insides.module_taps import PassTaps, tapped
from workbench.engine.length_scaling import LengthScaling
from workbench.insides import ModelPoints, Point

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from transformers import PreTrainedModel

    from workbench.engine.insides.contributions import Unembedding
    from workbench.engine.insides.module_points import ModulePoints
    from workbench.engine.insides.taps import Taps
    from workbench.engine.kernels.row_reductions import LogitsSummary
    from workbench.engine.kv_cache import KVCache


class Decoded(NamedTuple):
    """Results of a decode step."""

    logits: Tensor
    """float32, shape (sequences, vocab); on the decoder's device if there are summaries, else on the CPU."""
    summaries: Sequence[LogitsSummary | None]
    """Statistics of each row of logits; None if the step did not compute them."""


class Decoder(Protocol):
    """Interface of a causal language model. A cache may only be passed to the decoder that made it."""

    @property
    def vocab_size(self) -> int:
        """Width of the logits."""

    @property
    def rows_per_step(self) -> int:
        """Most sequences that `decode` computes together."""

    @property
    def supports_chunked_prefill(self) -> bool:
        """Whether a prompt may be prefilled in chunks, as fast as whole."""

    @property
    def reads_as_it_decodes(self) -> bool:
        """Whether prompts are computed as decode steps are, so that an answer's keys and values serve a prompt."""

    @property
    def prompt_arithmetic(self) -> str | None:
        """What prompts are computed in on this CPU, such as ``float32``; None where torch decides."""

    def new_cache(self) -> KVCache:
        """Return an empty cache for one sequence."""

    def prefill(self, token_ids: Sequence[int], cache: Any, *, every_position: bool = False) -> Tensor:
        """Append tokens to a sequence; return float32 logits of the last one, or of each, (1 or tokens, vocab)."""

    def read(self, token_ids: Sequence[int], cache: Any) -> None:
        """Append tokens to a sequence as `prefill` does, without computing logits if that is faster."""

    def decode(self, token_ids: Sequence[int], caches: Sequence[Any]) -> Decoded:
        """Append one token to each sequence.

        If it raises, no cache has changed, and the caller may try the sequences one by one.
        """

    def decode_known(self, token_ids: Sequence[int], cache: Any) -> Tensor:
        """Append known tokens to one sequence as decode steps compute them; return logits of each, (tokens, vocab)."""

    def embed(self, token_ids: Sequence[int]) -> Tensor:
        """Return hidden states of the last layer, after the final norm, float32, shape (tokens, hidden)."""

    @property
    def points(self) -> ModelPoints:
        """The points at which numbers inside the model can be read and changed."""

    def unembed(self, hidden: Tensor) -> Decoded:
        """Return the logits of residual streams after the last layer, float32 (rows, hidden).

        The next call may overwrite them.

        Raises:
            UnsupportedFieldError: the model's last norm and head cannot be computed alone.
        """

    @property
    def unembedding(self) -> Unembedding:
        """The last norm and the head as a sum of parts needs them; raises as `unembed` does."""

    def memory_bytes(self) -> int:
        """Return the size of the weights, in all the formats in which they are held."""


CACHE_NAMES = ("past_key_values", "cache_params", "state", "mems")
"""Names of the cache argument in transformers' models."""

_NO_CACHE = {"use_cache": False}
_OPTIONAL = frozenset({"position_ids", "use_cache", "logits_to_keep"})


@dataclass(slots=True)
class CacheFeatures:
    """Uses of a model's KV cache; `proof` switches off those that would change its logits."""

    chunks: bool = True
    """Whether several tokens may be appended at once to a cache that is not empty."""
    crop: bool = True
    """Whether a cache may be cropped to a shorter sequence."""
    copy: bool = True
    """Whether a cache may be copied."""
    keep: bool = True
    """Whether there is a cache; otherwise the whole text is computed again for each token."""


class GeneralCache:
    """Cache of one sequence for a model of transformers; satisfies `KVCache`.

    Args:
        past: a `Cache` of transformers, or the model's own kind of cache; None before the first token.
    """

    def __init__(self, past: Any, features: CacheFeatures, token_ids: Sequence[int] = ()) -> None:
        self.past = past
        self.features = features
        self.token_ids = list(token_ids)
        self.expected_length = 0
        """Length of the text that is being prefilled, if it is known before the end."""
        self.angles: tuple[int, ...] = ()
        """Rotary angles that the keys were computed with, as in `LengthScaling.angles`."""
        self.taps: Taps | None = None
        """What is read and changed while the sequence is computed."""

    @property
    def length(self) -> int:
        return len(self.token_ids)

    @property
    def nbytes(self) -> int:
        return 8 * self.length + sum(tensor.nbytes for tensor in _tensors(self.past))

    def fork(self, length: int) -> Self | None:
        if not (self.features.copy and (self.features.crop or length == self.length)):
            return None
        past = copy.deepcopy(self.past)
        if length < self.length:
            if not getattr(past, "is_croppable", False):
                return None
            try:
                past.crop(length - self.length)
            except RuntimeError:  # a sliding window has already dropped keys of the shorter sequence
                return None
        forked = type(self)(past, self.features, self.token_ids[:length])
        forked.angles = self.angles
        return forked


class GeneralDecoder:
    """A causal model of transformers, run through its own ``forward`` as ``generate`` runs it."""

    rows_per_step = 1
    reads_as_it_decodes = True
    prompt_arithmetic: str | None = None

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model.eval()
        self.features = CacheFeatures()
        self.scaling = LengthScaling.of(model)
        self._parameters = inspect.signature(model.forward).parameters
        self._cache_name = next((name for name in CACHE_NAMES if name in self._parameters), None)
        head = model.get_output_embeddings()
        self.vocab_size = int(head.weight.shape[0] if head is not None else model.config.vocab_size)

    @property
    def supports_chunked_prefill(self) -> bool:
        return self.features.chunks and self.features.keep

    def new_cache(self) -> GeneralCache:
        return GeneralCache(self._new_past(), self.features)

    def prefill(self, token_ids: Sequence[int], cache: GeneralCache, *, every_position: bool = False) -> Tensor:
        rows = [self._prefill_chunk(chunk, cache, every_position) for chunk in self._chunks(token_ids, cache)]
        return torch.cat(rows) if every_position and len(rows) > 1 else rows[-1]

    def read(self, token_ids: Sequence[int], cache: GeneralCache) -> None:
        self.prefill(token_ids, cache)

    def decode(self, token_ids: Sequence[int], caches: Sequence[GeneralCache]) -> Decoded:
        rows = [self.prefill([token_id], cache) for token_id, cache in zip(token_ids, caches, strict=True)]
        return Decoded(torch.cat(rows) if len(rows) > 1 else rows[0], [None] * len(rows))

    def decode_known(self, token_ids: Sequence[int], cache: GeneralCache) -> Tensor:
        return self.prefill(token_ids, cache, every_position=True)

    def embed(self, token_ids: Sequence[int]) -> Tensor:
        input_ids = torch.tensor([token_ids], device=self.model.device)  # (1, tokens)
        with self._angles(len(token_ids)):
            hidden: Tensor = self._base_model()(input_ids=input_ids, **self._supported(_NO_CACHE)).last_hidden_state
        return hidden[0].float().cpu()

    def full_logits(self, token_ids: Sequence[int]) -> Tensor:
        """Return logits of every position by one forward pass without a cache, shape (tokens, vocab)."""
        input_ids = torch.tensor([token_ids], device=self.model.device)
        with self._angles(len(token_ids)):
            logits: Tensor = self.model(input_ids=input_ids, **self._supported(_NO_CACHE)).logits[0]
        return logits.float().cpu()

    def memory_bytes(self) -> int:
        packed = (getattr(getattr(module, "linear", None), "nbytes", 0) for module in self.model.modules())
        return int(self.model.get_memory_footprint()) + sum(packed)

    def _chunks(self, token_ids: Sequence[int], cache: GeneralCache) -> Iterator[Sequence[int]]:
        """Yield the tokens in chunks that the model computes together correctly and with the same rotary angles."""
        start, past = 0, cache.length
        while start < len(token_ids):
            end = len(token_ids)
            if self.features.keep and past + start and not self.features.chunks:
                end = start + 1
            elif self.features.keep and self.scaling:
                lengths = (max(cache.expected_length, past + stop) for stop in range(start + 1, end + 1))
                angles = [self.scaling.angles(length) for length in lengths]
                end = start + sum(1 for one in angles if one == angles[0])
            yield token_ids[start:end]
            start = end

    def _prefill_chunk(self, token_ids: Sequence[int], cache: GeneralCache, every_position: bool) -> Tensor:
        """Append tokens to a sequence; recompute it from its beginning if the cached keys have other angles."""
        length = max(cache.expected_length, cache.length + len(token_ids))
        angles = self.scaling.angles(length) if self.scaling else ()
        computed, known = token_ids, 0
        if cache.length and not (self.features.keep and cache.angles == angles):
            computed, known = [*cache.token_ids, *token_ids], cache.length
            cache.past, cache.token_ids = self._new_past(), []
        cache.angles = angles
        with self._angles(length):
            rows = len(token_ids) if every_position else 1
            return self._forward(computed, cache, known=known, logits_to_keep=rows)

    def _forward(self, token_ids: Sequence[int], cache: GeneralCache, *, known: int = 0, **options: Any) -> Tensor:
        """Append tokens to a sequence.

        Args:
            known: number of the first tokens that have been computed before.
            options: arguments of the model's forward.
        """
        device, past, count = self.model.device, cache.length, len(token_ids)
        positions = torch.arange(past, past + count, device=device).unsqueeze(0)
        arguments = {"position_ids": positions, "use_cache": self.features.keep} | options
        if self._cache_name and self.features.keep:
            arguments[self._cache_name] = cache.past
        input_ids = torch.tensor([token_ids], device=device)  # (1, tokens)
        taps = PassTaps(cache.taps, past, count, known) if cache.taps else None
        with self._tapped(taps, arguments):
            output = self.model(input_ids=input_ids, **self._supported(arguments))
        if self._cache_name and self.features.keep:
            cache.past = output.get(self._cache_name, cache.past)
        cache.token_ids += token_ids
        logits: Tensor = output.logits[0]
        logits = logits if taps is None else taps.changed(Point("lm_head"), logits)
        return logits[-(options["logits_to_keep"] or count) :].float().cpu()  # (1 or tokens, vocab)

    def _tapped(self, taps: PassTaps | None, arguments: dict[str, Any]) -> AbstractContextManager[None]:
        """Visit the points of a forward pass; ``arguments`` are its own, which may have to be others for that."""
        if taps is None or not (points := taps.points):
            return nullcontext()
        inside = self._modules.inside
        if Point("lm_head") in points and inside.head is None:
            arguments["logits_to_keep"] = 0
        return tapped(inside, points, taps.visit, taps.start, taps.count)

    @property
    def points(self) -> ModelPoints:
        """Points inside the model; the first use finds them, in a few forward passes."""
        return self._modules.points

    def unembed(self, hidden: Tensor) -> Decoded:
        from workbench.engine.insides.module_head import logits_after

        logits = logits_after(self, Point("resid_post", self.points.layers - 1), hidden)
        return Decoded(logits, [None] * len(logits))

    @cached_property
    def unembedding(self) -> Unembedding:
        from workbench.engine.insides.module_head import module_unembedding

        return module_unembedding(self, self._modules.inside.last)

    @cached_property
    def _modules(self) -> ModulePoints:
        from workbench.engine.insides.module_points import TOKENS, ModulePoints

        token_ids = [(3 * index + 1) % self.vocab_size for index in range(TOKENS)]

        def forward() -> Tensor:
            with self._angles(TOKENS):
                return self._forward(token_ids, self.new_cache(), logits_to_keep=0)

        return ModulePoints(self.model, forward)

    def _base_model(self) -> Any:
        """Return the model without its head; ``get_decoder`` of some classes returns the model itself."""
        decoder: Any = self.model.get_decoder()
        return decoder if decoder is not self.model else decoder.model

    def _supported(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options without those of `_OPTIONAL` that this model's forward lacks."""
        return {name: value for name, value in options.items() if name in self._parameters or name not in _OPTIONAL}

    def _new_past(self) -> Any:
        """Return an empty cache as ``generate`` makes it, or None for models that make their own."""
        if not self.features.keep or not self.model._supports_default_dynamic_cache():  # noqa: SLF001 - there is no public name
            return None
        from transformers import DynamicCache  # after its models, which take seconds to import

        return DynamicCache(config=self.model.config.get_text_config(decoder=True))

    def _angles(self, length: int) -> AbstractContextManager[None]:
        return self.scaling.of_length(length) if self.scaling else nullcontext()


def _tensors(past: object) -> Iterator[Tensor]:
    """Yield all tensors of a cache of any kind."""
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
