"""Proof that a model computes the same logits in the decode loop as in one forward pass of transformers.

The files of a model do not say reliably how it may be computed in parts. So some tokens are computed in every way that
the decode loop uses, and features that change the logits are switched off. If that is not enough, the model is refused.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from workbench.engine.decoders import CacheFeatures, GeneralDecoder
from workbench.engine.step_errors import first_line
from workbench.errors import UnprovenModelError

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.engine.decoders import GeneralCache
    from workbench.engine.precision import Precision

TOKENS = 32
"""Number of tokens of the proof; fewer if the context is shorter."""

_FIRST, _SECOND = 13, 22
"""Ends of chunks, neither at a power of two."""

_GENERATED = 2

TOLERANCE: dict[Precision, float] = {"float32": 1e-4, "bf16": 0.25, "fp8": 0.4, "int8": 0.4, "int4": 0.6}
"""Greatest difference of logits that counts as rounding, in standard deviations. A lost position, or a state that two
sequences share, changes logits by about one standard deviation."""

SWITCHED_OFF_NOTES = {
    "chunks": "no chunked prefill: a prompt read in chunks gives other logits",
    "crop": "no reuse of part of a cached text: its KV cache or state cannot be cropped",
    "copy": "no shared prefixes: its KV cache or state cannot be copied",
    "keep": "no KV cache: every token reads the whole text again, because cached states give other logits",
    "embeddings": "no embeddings: the model returns no last hidden states",
}
"""Note on each feature that a model does not have."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Result of a proof."""

    switched_off: tuple[str, ...] = ()
    """Keys of `SWITCHED_OFF_NOTES`."""

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(SWITCHED_OFF_NOTES[name] for name in self.switched_off)

    @property
    def features(self) -> CacheFeatures:
        return CacheFeatures(**{name: False for name in self.switched_off if name != "embeddings"})


ALL_PROVEN = Proof()
"""Proof of a model that has all features."""


@dataclass(slots=True)
class _Trial:
    """A decoder with the tokens of the proof and their expected logits."""

    decoder: GeneralDecoder
    token_ids: list[int]
    tolerance: float
    is_exact: bool
    """Whether each row must match, or the median: in low precision, rounding may route a token to another expert."""
    expected: Tensor = field(init=False)
    """Logits of every position, shape (tokens, vocab)."""
    _distances: list[Tensor] = field(default_factory=list)

    def problem(self, check: Callable[[_Trial], None]) -> str:
        """Return what a check found to be wrong, as text; empty if nothing."""
        self._distances.clear()
        try:
            check(self)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            return first_line(error)
        distances = torch.cat(self._distances) if self._distances else torch.zeros(1)
        worst = float(distances.max() if self.is_exact else distances.median())
        return "" if worst <= self.tolerance else f"logits differ by {worst:.2g} standard deviations"

    def prefill(self, cache: GeneralCache, start: int, end: int) -> None:
        """Prefill tokens ``start`` to ``end`` and compare."""
        if start >= len(self.token_ids):
            return
        found = self.decoder.prefill(self.token_ids[start:end], cache, every_position=True)
        self.compare(found, self.expected[start:end])

    def compare(self, found: Tensor, expected: Tensor) -> None:
        if found.shape != expected.shape:
            raise _Differs(f"logits of shape {tuple(found.shape)} instead of {tuple(expected.shape)}")
        self._distances.append(distance(found, expected))

    def step(self, cache: GeneralCache, count: int) -> None:
        for position in range(cache.length, min(cache.length + count, len(self.token_ids))):
            found = self.decoder.decode(self.token_ids[position : position + 1], [cache]).logits
            self.compare(found, self.expected[position : position + 1])


class _Differs(Exception):  # noqa: N818 - a finding, not a fault
    """The results are not the expected ones."""


def prove(decoder: GeneralDecoder, precision: Precision, context_length: int) -> Proof:
    """Compute tokens in every way, and switch off the features, in the decoder too, that change the logits.

    Raises:
        UnprovenModelError: switching off is not enough; the message says what differs.
    """
    with torch.inference_mode():
        is_exact = precision == "float32"
        trial = _Trial(decoder, plain_tokens(decoder, context_length), TOLERANCE[precision], is_exact)
        _check_forward(trial)
        off = list(_switched_off(trial))
        if is_exact and not decoder.scaling:
            _check_generate(trial)
        if trial.problem(_embed):
            off.append("embeddings")
    return Proof(tuple(off))


def distance(found: Tensor, expected: Tensor) -> Tensor:
    """Return the RMS difference of each row of logits in standard deviations, shape (rows,); infinite for NaN."""
    # Without the means, because softmax ignores a constant.
    difference = (found - found.mean(-1, keepdim=True)) - (expected - expected.mean(-1, keepdim=True))
    return (difference.square().mean(-1).sqrt() / expected.std(-1).clamp_min(1e-6)).nan_to_num(torch.inf)


def _switched_off(trial: _Trial) -> Iterator[str]:
    """Yield the features that must be off; each is switched off before the next is checked."""
    features = trial.decoder.features
    if problem := trial.problem(_steps):
        features.keep = False
        if again := trial.problem(_steps):
            found = "; ".join(dict.fromkeys((problem, again)))
            raise UnprovenModelError(
                f"decoding token by token differs from a forward pass over the whole text: {found}"
            )
        yield "keep"
        return
    for name, check in (("chunks", _chunks), ("copy", _copies), ("crop", _crops)):
        if trial.problem(check):
            setattr(features, name, False)
            yield name


def _check_forward(trial: _Trial) -> None:
    """Set the expected logits; refuse a model that fails on text, computes NaN, or is not causal."""
    decoder, token_ids = trial.decoder, trial.token_ids

    def full_pass(_: _Trial) -> None:
        trial.expected = found = decoder.full_logits(token_ids)
        assert found.shape == (len(token_ids), decoder.vocab_size), f"logits of shape {tuple(found.shape)}"

    if problem := trial.problem(full_pass):
        raise UnprovenModelError(f"its forward pass fails on text alone: {problem}")
    if not bool(torch.isfinite(trial.expected).all()):
        raise UnprovenModelError("its forward pass computes NaN or infinite logits")
    half = len(token_ids) // 2

    def causal(_: _Trial) -> None:
        trial.compare(decoder.full_logits(token_ids[:half]), trial.expected[:half])

    if problem := trial.problem(causal):
        raise UnprovenModelError(
            f"its attention is not causal: later tokens change the logits of earlier ones ({problem})"
        )


def _steps(trial: _Trial) -> None:
    """Compare a prefill, long or short, and single steps of two texts in turn, which the model must not mix."""
    decoder, other_ids = trial.decoder, trial.token_ids[::-1]
    cache, other = decoder.new_cache(), decoder.new_cache()
    trial.prefill(decoder.new_cache(), 0, 1)
    long = decoder.new_cache()
    trial.prefill(long, 0, len(trial.token_ids) - 2)
    trial.step(long, 2)
    trial.prefill(cache, 0, _FIRST)
    found = [decoder.prefill(other_ids[: _FIRST - 4], other)]
    for token_id in other_ids[_FIRST - 4 : _FIRST - 2]:
        trial.step(cache, 1)
        found.append(decoder.decode([token_id], [other]).logits)
    trial.compare(torch.cat(found), decoder.full_logits(other_ids[: _FIRST - 2])[-3:])


def _chunks(trial: _Trial) -> None:
    cache = trial.decoder.new_cache()
    trial.prefill(cache, 0, _FIRST)
    trial.prefill(cache, _FIRST, _SECOND)
    trial.prefill(cache, _SECOND, len(trial.token_ids))


def _copies(trial: _Trial) -> None:
    """Compare two different continuations of copies of one cache."""
    decoder, length = trial.decoder, _FIRST
    cache = decoder.new_cache()
    trial.prefill(cache, 0, length)
    copy = cache.fork(length)
    if copy is None:
        raise _Differs("the cache cannot be copied")
    other = trial.token_ids[-2:]
    first = decoder.decode(other[:1], [copy]).logits
    trial.step(cache, 2)
    found = torch.cat((first, decoder.decode(other[1:], [copy]).logits))
    trial.compare(found, decoder.full_logits([*trial.token_ids[:length], *other])[-2:])


def _crops(trial: _Trial) -> None:
    cache = trial.decoder.new_cache()
    trial.prefill(cache, 0, _FIRST)
    trial.step(cache, 1)
    shorter = cache.fork(_FIRST - 3)
    if shorter is None:
        raise _Differs("the cache cannot be cropped")
    trial.step(shorter, 2)


def _check_generate(trial: _Trial) -> None:
    """Compare with `generate`, which may pass further arguments to the model."""
    decoder, prompt = trial.decoder, trial.token_ids[:-2]
    model: Any = decoder.model
    from transformers import GenerationConfig

    make: Any = GenerationConfig

    def same(_: _Trial) -> None:
        answer = model.generate(
            torch.tensor([prompt], device=model.device),
            max_new_tokens=_GENERATED,
            min_new_tokens=_GENERATED,
            do_sample=False,
            num_beams=1,
            return_dict_in_generate=True,
            output_logits=True,
        )
        logits = torch.cat(answer.logits).float().cpu()  # (generated, vocab)
        cache = decoder.new_cache()
        first, generated = decoder.prefill(prompt, cache), answer.sequences[0, len(prompt) : -1].tolist()
        trial.compare(torch.cat([first, *(decoder.decode([one], [cache]).logits for one in generated)]), logits)

    settings, model.generation_config = model.generation_config, make()
    try:  # the folder's settings change the choice of tokens, and some need a tokenizer
        problem = trial.problem(same)
    finally:
        model.generation_config = settings
    if problem:
        raise UnprovenModelError(f"transformers' generate computes other logits than its forward pass: {problem}")


def _embed(trial: _Trial) -> None:
    token_ids = trial.token_ids[:4]
    hidden = trial.decoder.embed(token_ids)
    if hidden.dim() != 2 or len(hidden) != len(token_ids) or not bool(torch.isfinite(hidden).all()):
        raise _Differs(f"hidden states of shape {tuple(hidden.shape)}")


def plain_tokens(decoder: GeneralDecoder, context_length: int) -> list[int]:
    """Return seeded tokens of the vocabulary, without special tokens that the config names."""
    count = min(TOKENS, context_length - 1, *([decoder.scaling.border] if decoder.scaling else []))
    config = decoder.model.config
    special = {
        value
        for part in (config, config.get_text_config(decoder=True))
        for name, value in part.to_dict().items()
        if name.endswith(("_token_id", "_token_index")) and isinstance(value, int)
    }
    generator = random.Random(0)  # noqa: S311 - for variety, not for secrecy
    found: list[int] = []
    while len(found) < max(count, 2):
        token_id = generator.randrange(decoder.vocab_size)
        if token_id not in special or decoder.vocab_size <= len(special):
            found.append(token_id)
    return found
