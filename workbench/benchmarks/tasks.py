"""Benchmark tasks, each of which measures figures with a contestant's methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from workbench.benchmarks.contestants import Contestant, Embedder, Program
from workbench.benchmarks.gemma import NAME as GEMMA_3
from workbench.benchmarks.prompts import Prompts, mixed_texts

TOGETHER = 8
TEXTS = 64
GEMMA = "gemma"
"""Name of the task that measures a second model, of another family."""

_LONGEST_TURN = 64
"""Tokens of an answer and the next question after the history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Lengths in tokens."""

    tokens: int
    """Tokens that the decode task generates."""
    prompt: int = 512
    """Tokens of the prefill task's prompt."""
    history: int = 1000
    """Tokens of a conversation before its next turn."""

    @classmethod
    def fitting(cls, tokens: int, context_length: int) -> Sizes:
        """Return the usual sizes, or smaller ones for a short context."""
        return cls(
            tokens=min(tokens, context_length // 2),
            prompt=min(512, context_length // 2),
            history=min(1000, context_length - 2 * _LONGEST_TURN),
        )

    @property
    def batch_tokens(self) -> int:
        """Tokens generated for each of the concurrent requests."""
        return min(self.tokens, 64)

    @property
    def context(self) -> int:
        """Length of the longest sequence of all tasks."""
        return max(self.history + 2 * _LONGEST_TURN, self.tokens + _LONGEST_TURN, self.prompt + 1)


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a task."""

    name: str
    unit: str
    better: Literal["higher", "lower"] = "higher"


@dataclass(frozen=True, slots=True)
class Task:
    """A task for contestants of one kind."""

    name: str
    kind: Literal["causal", "embedding", "program"]
    metrics: tuple[Metric, ...]
    measure: Callable[[Any, Prompts, Sizes], tuple[float, ...]]
    """Function that measures one round and returns the figures in the order of ``metrics``."""


def _decode(contestant: Contestant, prompts: Prompts, sizes: Sizes) -> tuple[float, ...]:
    return (contestant.generate(prompts.take(_LONGEST_TURN), sizes.tokens).tokens_per_s,)


def _prefill(contestant: Contestant, prompts: Prompts, sizes: Sizes) -> tuple[float, ...]:
    return (sizes.prompt / contestant.generate(prompts.take(sizes.prompt), 1).first_s,)


def _first_token(contestant: Contestant, prompts: Prompts, sizes: Sizes) -> tuple[float, ...]:
    history = prompts.take(sizes.history)
    answer = contestant.generate(history, 16).token_ids
    turn = [*history, *answer, *prompts.take(24, "And then? ")]
    warm_s = contestant.generate(turn, 1).first_s
    cold_s = contestant.generate(prompts.take(len(turn), "New: "), 1).first_s
    return cold_s * 1e3, warm_s * 1e3, cold_s / warm_s


def _batch(contestant: Contestant, prompts: Prompts, sizes: Sizes) -> tuple[float, ...]:
    tokens = sizes.batch_tokens
    alone_s = contestant.generate(prompts.take(32, "Alone "), tokens).last_s
    together_s = contestant.generate_together([prompts.take(32, f"{row}: ") for row in range(TOGETHER)], tokens)
    return tokens / alone_s, TOGETHER * tokens / together_s, TOGETHER * alone_s / together_s


def _embeddings(embedder: Embedder, _prompts: Prompts, _sizes: Sizes) -> tuple[float, ...]:
    return (TEXTS / embedder.embed(mixed_texts(TEXTS)),)


def _cold_start(program: Program, _prompts: Prompts, _sizes: Sizes) -> tuple[float, ...]:
    return (program.start() * 1e3,)


TASKS = (
    Task("decode", "causal", (Metric("decode", "tok/s"),), _decode),
    Task("prefill", "causal", (Metric("prefill", "tok/s"),), _prefill),
    Task(
        "first-token",
        "causal",
        (
            Metric("first token, cold", "ms", "lower"),
            Metric("first token, warm", "ms", "lower"),
            Metric("first token, warm against cold", "times"),
        ),
        _first_token,
    ),
    Task(
        "batch",
        "causal",
        (
            Metric("one alone", "tok/s"),
            Metric(f"{TOGETHER} together", "tok/s"),
            Metric(f"{TOGETHER} together against one alone", "times"),
        ),
        _batch,
    ),
    Task("embeddings", "embedding", (Metric("embeddings", "texts/s"),), _embeddings),
    Task("cold-start", "program", (Metric("cold process to the first token", "ms", "lower"),), _cold_start),
    Task(GEMMA, "causal", (Metric(f"decode, {GEMMA_3}", "tok/s"),), _decode),
)
