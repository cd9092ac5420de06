"""Contestants whose figures a test decides: nothing is computed and no time is taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from workbench.benchmarks.contestants import Stream


@dataclass
class FakeContestant:
    """Needs ``first_s`` for the first token and ``step_s`` for each other one; remembers what it was asked."""

    name: str
    first_s: float = 1.0
    step_s: float = 0.1
    is_rival: bool = False
    memory_bytes: int | None = 1_000_000
    instruction_set: str = ""
    fails_at_call: int | None = None
    asked: list[tuple[tuple[int, ...], int]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    """Names in the order of calls; tests hand one list to several contestants."""
    closed: int = 0

    def generate(self, prompt_ids: Sequence[int], tokens: int) -> Stream:
        self.asked.append((tuple(prompt_ids), tokens))
        self.log.append(self.name)
        if len(self.asked) == self.fails_at_call:
            raise RuntimeError("out of order")
        return Stream(tuple(range(tokens)), self.first_s, self.first_s + (tokens - 1) * self.step_s)

    def generate_together(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        self.asked += [(tuple(prompt_ids), tokens) for prompt_ids in prompts]
        return self.first_s + (tokens - 1) * self.step_s

    def resident_bytes(self) -> int:
        return 2_000_000

    def close(self) -> None:
        self.closed += 1


@dataclass
class FakeReader(FakeContestant):
    """Finds the same distribution at each position."""

    logits: Tensor = field(default_factory=lambda: torch.zeros(4))

    def forced(self, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> Iterator[Tensor]:
        for _ in token_ids:
            self.generate(prompt_ids, 1)
            yield self.logits.log_softmax(-1)


@dataclass
class FakeReference:
    """Writes texts of a fixed length with the same distribution at each position."""

    logprobs: Tensor
    text_tokens: int = 5
    seeds: list[int] = field(default_factory=list)
    answer: tuple[int, ...] | None = None
    """Ids that every greedy answer begins with; those of `FakeContestant` if None."""

    def generate(self, prompt_ids: Sequence[int], tokens: int) -> Stream:
        token_ids = tuple(range(tokens)) if self.answer is None else self.answer
        return Stream(token_ids[:tokens], 1.0, 2.0)

    def sample(self, prompt_ids: Sequence[int], tokens: int, seed: int) -> tuple[list[int], Tensor]:
        self.seeds.append(seed)
        count = min(tokens, self.text_tokens)
        return [0] * count, self.logprobs.expand(count, -1)


@dataclass
class FakeEmbedder:
    name: str
    is_rival: bool = False
    memory_bytes: int | None = None
    instruction_set: str = ""
    texts: list[str] = field(default_factory=list)
    closed: int = 0

    def embed(self, texts: Sequence[str]) -> float:
        self.texts += texts
        return 0.5

    def resident_bytes(self) -> int:
        return 2_000_000

    def close(self) -> None:
        self.closed += 1


@dataclass
class FakeProgram:
    """A command that needs ``seconds``."""

    name: str
    seconds: float
    is_rival: bool = False

    def start(self) -> float:
        return self.seconds
