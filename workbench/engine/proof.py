"""A model proves itself: what our ways of reading compute is what one forward of transformers over the whole computes.

Nothing that a folder says tells for certain how its model may be read. So some tokens are read in every way that the
decode loop uses, and what differs is switched off where that mends it; where nothing does, the model is refused.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig

from workbench.engine.decoders import GeneralDecoder, Ways
from workbench.errors import UnprovenModelError

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.engine.decoders import GeneralCache
    from workbench.engine.precision import Precision

TOKENS = 32
"""Read in the proof; fewer where the context is shorter."""

_FIRST, _SECOND = 13, 22
"""Where chunks end, neither at a power of two."""

_GENERATED = 2

TOLERANCE: dict[Precision, float] = {"float32": 1e-4, "bf16": 0.25, "fp8": 0.4, "int8": 0.4, "int4": 0.6}
"""How far logits may be apart, as a share of their spread. Rounding alone moves those of few bits; a position that is
lost, or a state that two sequences share, moves them by about their whole spread."""

LOST = {
    "chunks": "no chunked prefill: a prompt read in chunks gives other logits",
    "crop": "no reuse of part of a cached text: its KV cache or state cannot be cropped",
    "copy": "no shared prefixes: its KV cache or state cannot be copied",
    "keep": "no KV cache: every token reads the whole text again, because cached states give other logits",
    "embeddings": "no embeddings: the model returns no last hidden states",
}
"""What is said of each ability that a model does not have."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a model was found to be able to do."""

    switched_off: tuple[str, ...] = ()
    """Of `LOST`."""

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(LOST[name] for name in self.switched_off)

    @property
    def ways(self) -> Ways:
        return Ways(**{name: False for name in self.switched_off if name != "embeddings"})


ALL_PROVEN = Proof()
"""Of a model that can do everything."""


@dataclass(slots=True)
class _Trial:
    """The decoder on trial with the tokens that it reads and what is right for them."""

    decoder: GeneralDecoder
    token_ids: list[int]
    tolerance: float
    is_exact: bool
    """Whether each row is to be right, or most of them: with few bits, rounding sends a token to another expert."""
    right: Tensor = field(init=False)
    """Logits of every position, shape (tokens, vocab)."""
    _apart: list[Tensor] = field(default_factory=list)

    def problem(self, check: Callable[[_Trial], None]) -> str:
        """What is wrong with what a check computes, in words; empty where nothing is."""
        self._apart.clear()
        try:
            check(self)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            return str(error).strip().partition("\n")[0] or type(error).__name__
        apart = torch.cat(self._apart) if self._apart else torch.zeros(1)
        worst = float(apart.max() if self.is_exact else apart.median())
        return "" if worst <= self.tolerance else f"logits differ by {worst:.2g} standard deviations"

    def read(self, cache: GeneralCache, start: int, end: int) -> None:
        """Read a piece and compare."""
        if start >= len(self.token_ids):
            return
        found = self.decoder.prefill(self.token_ids[start:end], cache, every_position=True)
        self.compare(found, self.right[start:end])

    def compare(self, found: Tensor, right: Tensor) -> None:
        if found.shape != right.shape:
            raise _Differs(f"logits of shape {tuple(found.shape)} instead of {tuple(right.shape)}")
        self._apart.append(distance(found, right))

    def step(self, cache: GeneralCache, count: int) -> None:
        for position in range(cache.length, min(cache.length + count, len(self.token_ids))):
            found = self.decoder.decode(self.token_ids[position : position + 1], [cache]).logits
            self.compare(found, self.right[position : position + 1])


class _Differs(Exception):  # noqa: N818 - a finding, not a fault
    """What was computed is not what is right."""


def prove(decoder: GeneralDecoder, precision: Precision, context_length: int) -> Proof:
    """Read some tokens in every way and switch off, in the decoder too, what gives other logits.

    Raises:
        UnprovenModelError: nothing mends it; says what differs.
    """
    with torch.inference_mode():
        is_exact = precision == "float32"
        trial = _Trial(decoder, _tokens(decoder, context_length), TOLERANCE[precision], is_exact)
        _check_forward(trial)
        off = list(_switched_off(trial))
        if is_exact and not decoder.scaling:
            _check_generate(trial)
        if trial.problem(_embed):
            off.append("embeddings")
    return Proof(tuple(off))


def distance(found: Tensor, right: Tensor) -> Tensor:
    """How far each row of logits is from the right one, as a share of its spread, shape (rows,); NaN counts as far."""
    apart = (found - found.mean(-1, keepdim=True)) - (right - right.mean(-1, keepdim=True))  # a constant means nothing
    return (apart.square().mean(-1).sqrt() / right.std(-1).clamp_min(1e-6)).nan_to_num(torch.inf)


def _switched_off(trial: _Trial) -> Iterator[str]:
    """What has to be given up, each switched off before the next is tried."""
    ways = trial.decoder.ways
    if problem := trial.problem(_steps):
        ways.keep = False
        if again := trial.problem(_steps):
            found = "; ".join(dict.fromkeys((problem, again)))
            raise UnprovenModelError(
                f"decoding token by token differs from a forward pass over the whole text: {found}"
            )
        yield "keep"
        return
    for name, check in (("chunks", _chunks), ("copy", _copies), ("crop", _crops)):
        if trial.problem(check):
            setattr(ways, name, False)
            yield name


def _check_forward(trial: _Trial) -> None:
    """The right logits; refuses a model that reads no text, computes no numbers, or looks ahead."""
    decoder, token_ids = trial.decoder, trial.token_ids

    def whole(_: _Trial) -> None:
        trial.right = decoder.whole(token_ids)
        assert trial.right.shape == (len(token_ids), decoder.vocab_size), f"logits of shape {tuple(trial.right.shape)}"

    if problem := trial.problem(whole):
        raise UnprovenModelError(f"its forward pass fails on text alone: {problem}")
    if not bool(torch.isfinite(trial.right).all()):
        raise UnprovenModelError("its forward pass computes NaN or infinite logits")
    half = len(token_ids) // 2

    def looks_back(_: _Trial) -> None:
        trial.compare(decoder.whole(token_ids[:half]), trial.right[:half])

    if problem := trial.problem(looks_back):
        raise UnprovenModelError(
            f"its attention is not causal: later tokens change the logits of earlier ones ({problem})"
        )


def _steps(trial: _Trial) -> None:
    """A first piece, long or short, and single steps, of two texts in turn: neither may leave anything in the model."""
    decoder, other_ids = trial.decoder, trial.token_ids[::-1]
    cache, other = decoder.new_cache(), decoder.new_cache()
    trial.read(decoder.new_cache(), 0, 1)
    nearly_all = decoder.new_cache()
    trial.read(nearly_all, 0, len(trial.token_ids) - 2)
    trial.step(nearly_all, 2)
    trial.read(cache, 0, _FIRST)
    found = [decoder.prefill(other_ids[: _FIRST - 4], other)]
    for token_id in other_ids[_FIRST - 4 : _FIRST - 2]:
        trial.step(cache, 1)
        found.append(decoder.decode([token_id], [other]).logits)
    trial.compare(torch.cat(found), decoder.whole(other_ids[: _FIRST - 2])[-3:])


def _chunks(trial: _Trial) -> None:
    cache = trial.decoder.new_cache()
    trial.read(cache, 0, _FIRST)
    trial.read(cache, _FIRST, _SECOND)
    trial.read(cache, _SECOND, len(trial.token_ids))


def _copies(trial: _Trial) -> None:
    """Two copies of one beginning, gone on from in different ways."""
    decoder, length = trial.decoder, _FIRST
    cache = decoder.new_cache()
    trial.read(cache, 0, length)
    copy = cache.fork(length)
    if copy is None:
        raise _Differs("the cache cannot be copied")
    other = trial.token_ids[-2:]
    first = decoder.decode(other[:1], [copy]).logits
    trial.step(cache, 2)
    found = torch.cat((first, decoder.decode(other[1:], [copy]).logits))
    trial.compare(found, decoder.whole([*trial.token_ids[:length], *other])[-2:])


def _crops(trial: _Trial) -> None:
    cache = trial.decoder.new_cache()
    trial.read(cache, 0, _FIRST)
    trial.step(cache, 1)
    shorter = cache.fork(_FIRST - 3)
    if shorter is None:
        raise _Differs("the cache cannot be cropped")
    trial.step(shorter, 2)


def _check_generate(trial: _Trial) -> None:
    """`generate` itself, for what it passes to a model beyond what its forward asks for."""
    decoder, prompt = trial.decoder, trial.token_ids[:-2]
    model: Any = decoder.model
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
        logits = torch.cat(answer.logits).float()  # (generated, vocab)
        cache = decoder.new_cache()
        first, said = decoder.prefill(prompt, cache), answer.sequences[0, len(prompt) : -1].tolist()
        trial.compare(torch.cat([first, *(decoder.decode([one], [cache]).logits for one in said)]), logits)

    settings, model.generation_config = model.generation_config, make()
    try:  # the folder's settings choose among tokens, and some of them ask for what is not here, such as a tokenizer
        problem = trial.problem(same)
    finally:
        model.generation_config = settings
    if problem:
        raise UnprovenModelError(f"transformers' generate computes other logits than its forward pass: {problem}")


def _embed(trial: _Trial) -> None:
    read = trial.token_ids[:4]
    hidden = trial.decoder.embed(read)
    if hidden.dim() != 2 or len(hidden) != len(read) or not bool(torch.isfinite(hidden).all()):
        raise _Differs(f"hidden states of shape {tuple(hidden.shape)}")


def _tokens(decoder: GeneralDecoder, context_length: int) -> list[int]:
    """Seeded tokens of the vocabulary, without those that stand for something else than text."""
    count = min(TOKENS, context_length - 1, *([decoder.scaling.border] if decoder.scaling else []))
    config = decoder.model.config
    standing = {
        value
        for part in (config, config.get_text_config(decoder=True))
        for name, value in part.to_dict().items()
        if name.endswith(("_token_id", "_token_index")) and isinstance(value, int)
    }
    generator = random.Random(0)  # noqa: S311 - for variety, not for secrecy
    found: list[int] = []
    while len(found) < max(count, 2):
        token_id = generator.randrange(decoder.vocab_size)
        if token_id not in standing or decoder.vocab_size <= len(standing):
            found.append(token_id)
    return found
