"""Interfaces of the programs that are measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Stream:
    """A generation as its reader received it; times are in seconds since the request."""

    token_ids: tuple[int, ...]
    first_s: float
    last_s: float

    @property
    def tokens_per_s(self) -> float:
        """Speed after the first token, without the prefill."""
        return (len(self.token_ids) - 1) / (self.last_s - self.first_s)


class Contestant(Protocol):
    """A causal model in one program and one precision. Generation is greedy and continues past end tokens."""

    name: str
    memory_bytes: int | None
    """Size of the weights according to the program; None if unknown."""
    is_rival: bool
    instruction_set: str
    """The largest instruction set that the program says it uses, as `processors.widest` names it; empty if none."""

    def generate(self, prompt_ids: Sequence[int], tokens: int) -> Stream:
        """Stream ``tokens`` tokens; the program may use its prompt cache."""

    def generate_together(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        """Generate ``tokens`` tokens for each prompt concurrently; return the seconds until the last has ended."""

    def close(self) -> None:
        """Free the memory."""


@runtime_checkable
class GivesLogprobs(Protocol):
    """A contestant that reports logprobs of given tokens."""

    name: str
    is_rival: bool

    def forced(self, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> Iterator[Tensor]:
        """Yield logprobs, shape (vocab,), at each position of ``token_ids``, decoded one token at a time."""


class Embedder(Protocol):
    """A sentence model in one program."""

    name: str
    memory_bytes: int | None
    is_rival: bool
    instruction_set: str

    def embed(self, texts: Sequence[str]) -> float:
        """Compute one vector per text; return the seconds that this took."""

    def close(self) -> None:
        """Free the memory."""


class Program(Protocol):
    """A command that starts a process of its own each time."""

    name: str
    is_rival: bool

    def start(self) -> float:
        """Run the command to its end; return the seconds until it has done what is measured."""


Entrant = Contestant | Embedder | Program
