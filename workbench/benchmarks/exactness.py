"""How near a contestant's distributions are to the float32 model's, on text that the model itself wrote.

The reference samples answers to a few questions and keeps its distribution at every position. Each contestant then
reads the same tokens one decode step at a time (teacher forcing). Reported are the mean Kullback-Leibler divergence
KL(reference || contestant) in nats with its standard error, and how often both find the same token most probable.

The divergence is over the whole vocabulary. Each distribution is normalised again in float64 first: llama.cpp adds up
its shares in float32 and ends beside 1 by 1e-4, which would count as divergence.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from workbench.benchmarks.contestants import Contestant, GivesLogprobs
from workbench.benchmarks.interleaving import Absence, Told

_LONGEST_TEXT = 256
"""Tokens of one answer: the reference's distributions over them are in memory at once."""


class Reference(Protocol):
    """The model in float32 as transformers computes it."""

    def sample(self, prompt_ids: Sequence[int], tokens: int, seed: int) -> tuple[list[int], Tensor]:
        """At most so many tokens at temperature 1, the end token included, and logprobs, shape (tokens, vocab)."""


@dataclass(frozen=True, slots=True)
class Exactness:
    """One contestant's nearness to the reference."""

    contestant: str
    tokens: int
    mean_kl_nat: float
    standard_error_nat: float
    top1_agreement: float


@dataclass(slots=True)
class _Tally:
    divergences: list[float] = field(default_factory=list)
    agreements: list[bool] = field(default_factory=list)


def exactness(
    reference: Reference, contestants: Sequence[Contestant], prompts: Sequence[Sequence[int]], tokens: int, told: Told
) -> Iterator[Exactness | Absence]:
    """Compare contestants over so many tokens of the reference's own text."""
    compared = [contestant for contestant in contestants if isinstance(contestant, GivesLogprobs)]
    for contestant in contestants:
        if contestant not in compared:
            yield Absence(contestant.name, "exactness", "it does not report the logprobs of given tokens")
    tallies = {contestant.name: _Tally() for contestant in compared}
    done = 0
    for seed, prompt_ids in enumerate(itertools.cycle(prompts)):
        if done >= tokens:
            break
        told(f"exactness, {done} of {tokens} tokens: sampling reference text")
        token_ids, logprobs = reference.sample(prompt_ids, min(_LONGEST_TEXT, tokens - done), seed)
        for contestant in list(compared):
            told(f"exactness, {done} of {tokens} tokens: {contestant.name}")
            try:
                _count(tallies[contestant.name], logprobs, contestant.forced(prompt_ids, token_ids))
            except Exception as error:
                if not contestant.is_rival:
                    raise
                del tallies[contestant.name]
                compared.remove(contestant)
                yield Absence(contestant.name, "exactness", f"{type(error).__name__}: {error}")
        done += len(token_ids)
    for name, tally in tallies.items():
        yield _summary(name, tally)


def divergence(reference: Tensor, found: Tensor) -> float:
    """KL(reference || found) in nats, of logprobs of shape (vocab,)."""
    p_log, q_log = (logprobs.double().log_softmax(-1) for logprobs in (reference, found))
    return float((p_log.exp() * (p_log - q_log)).sum())


def _count(tally: _Tally, reference: Tensor, distributions: Iterator[Tensor]) -> None:
    for expected, found in zip(reference, distributions, strict=True):
        tally.divergences.append(divergence(expected, found))
        tally.agreements.append(int(found.argmax()) == int(expected.argmax()))


def _summary(name: str, tally: _Tally) -> Exactness:
    count = len(tally.divergences)
    spread = statistics.stdev(tally.divergences) if count > 1 else float("nan")
    return Exactness(
        name,
        count,
        statistics.fmean(tally.divergences),
        spread / count**0.5,
        sum(tally.agreements) / count,
    )
