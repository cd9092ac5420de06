"""Divergence of the contestants' distributions from the float32 model's, on text that the model itself wrote.

The reference samples answers to a few questions and keeps its distribution at every position. Each contestant then
decodes the same tokens one at a time (teacher forcing). The results are the mean Kullback-Leibler divergence
KL(reference || contestant) in nats with its standard error, and how often both have the same most probable token.

Another comparison is of greedy answers in float32: how many of their ids are those of the reference's own answers.

The divergence is over the whole vocabulary. Each distribution is first normalized in float64: llama.cpp's sum to 1 only
within 1e-4, because it adds them up in float32, and that would count as divergence.
"""

from __future__ import annotations

import itertools
import operator
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from workbench.benchmarks.contestants import Contestant, GivesLogprobs, Stream
from workbench.benchmarks.interleaving import Absence, Log, Result

SAME_IDS = "ids equal to those of transformers float32"
"""Metric of greedy answers, as a share from 0 to 1."""

_ANSWER_TOKENS = 32
_LONGEST_TEXT = 256
"""Maximum tokens of one answer, whose reference distributions are all in memory."""


class Reference(Protocol):
    """The float32 model in transformers."""

    def generate(self, prompt_ids: Sequence[int], tokens: int) -> Stream:
        """Stream a greedy answer, which continues past end tokens."""

    def sample(self, prompt_ids: Sequence[int], tokens: int, seed: int) -> tuple[list[int], Tensor]:
        """Sample at most ``tokens`` tokens at temperature 1, up to an end token, with logprobs (tokens, vocab)."""


@dataclass(frozen=True, slots=True)
class Exactness:
    """Comparison of one contestant with the reference."""

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
    reference: Reference, contestants: Sequence[Contestant], prompts: Sequence[Sequence[int]], tokens: int, log: Log
) -> Iterator[Exactness | Absence]:
    """Compare contestants over ``tokens`` tokens of the reference's own text."""
    compared = [contestant for contestant in contestants if isinstance(contestant, GivesLogprobs)]
    for contestant in contestants:
        if contestant not in compared:
            yield Absence(contestant.name, "exactness", "it does not report the logprobs of given tokens")
    tallies = {contestant.name: _Tally() for contestant in compared}
    done = 0
    for seed, prompt_ids in enumerate(itertools.cycle(prompts)):
        if done >= tokens:
            break
        log(f"exactness, {done} of {tokens} tokens: sampling reference text")
        token_ids, logprobs = reference.sample(prompt_ids, min(_LONGEST_TEXT, tokens - done), seed)
        for contestant in list(compared):
            log(f"exactness, {done} of {tokens} tokens: {contestant.name}")
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


def same_ids(
    reference: Reference, contestants: Sequence[Contestant], prompts: Sequence[Sequence[int]], metric: str, log: Log
) -> Iterator[Result]:
    """Compare greedy answers of the workbench in float32 with the reference's, id by id."""
    exact = [one for one in contestants if not one.is_rival and one.name.endswith(" float32")]
    if not exact:
        return
    equal = dict.fromkeys((contestant.name for contestant in exact), 0)
    for index, prompt_ids in enumerate(prompts):
        log(f"{metric}: question {index + 1} of {len(prompts)}")
        expected = reference.generate(prompt_ids, _ANSWER_TOKENS).token_ids
        for contestant in exact:
            found = contestant.generate(prompt_ids, _ANSWER_TOKENS).token_ids
            equal[contestant.name] += sum(map(operator.eq, found, expected))
    for name, count in equal.items():
        share = count / (_ANSWER_TOKENS * len(prompts))
        yield Result("exactness", metric, "share", "higher", name, False, (share,))


def divergence(reference: Tensor, found: Tensor) -> float:
    """Return KL(reference || found) in nats, of logprobs of shape (vocab,)."""
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
        name, count, statistics.fmean(tally.divergences), spread / count**0.5, sum(tally.agreements) / count
    )
