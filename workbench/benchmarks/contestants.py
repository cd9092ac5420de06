"""What a program must be able to do to be measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Stream:
    """A generation as its reader saw it, in seconds since it was asked for."""

    token_ids: tuple[int, ...]
    first_s: float
    last_s: float

    @property
    def tokens_per_s(self) -> float:
        """Speed after the first token, so without the reading of the prompt."""
        return (len(self.token_ids) - 1) / (self.last_s - self.first_s)


class Contestant(Protocol):
    """A causal model in one program and one precision. All generation is greedy and goes on past end tokens."""

    name: str
    memory_bytes: int | None
    """Held by the weights, as the program says; None where it does not."""
    is_rival: bool

    def generate(self, prompt_ids: Sequence[int], tokens: int) -> Stream:
        """Stream so many tokens; whatever the program keeps of earlier prompts may be used."""

    def generate_together(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        """Generate so many tokens for each prompt, all at once; seconds until the last one has ended."""

    def close(self) -> None:
        """Give the memory back."""


@runtime_checkable
class GivesLogprobs(Protocol):
    """A contestant that says how probable it finds given tokens."""

    name: str
    is_rival: bool

    def forced(self, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> Iterator[Tensor]:
        """Logprobs (vocab,) at each position of ``token_ids``, each read in a decode step of one token."""


class Embedder(Protocol):
    """A sentence model in one program."""

    name: str
    memory_bytes: int | None
    is_rival: bool

    def embed(self, texts: Sequence[str]) -> float:
        """Compute one vector per text; seconds that this took."""

    def close(self) -> None:
        """Give the memory back."""


Entrant = Contestant | Embedder
