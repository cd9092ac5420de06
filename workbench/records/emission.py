"""What a provider yields while it answers, and what it returns for embeddings.

These are the values inside the workbench; the protocol's chunks and responses are made of them where they leave it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from workbench.records.tokens import Inspector, TokenRecord, Usage

if TYPE_CHECKING:
    from workbench.protocol import StopReason, TokenLogProbs, ToolCallDelta


@dataclass(frozen=True, slots=True)
class Emission:
    """One step of an answer: what it adds to the text or to a tool call, and the records of its tokens.

    The fields after ``logprobs`` describe the whole answer so far; one that is None or empty says nothing about it.
    """

    delta: str | ToolCallDelta = ""
    """Text in whole characters, or the news of a tool call, which only a chat has."""
    tokens: tuple[TokenRecord, ...] = ()
    """Records of the tokens that are new since the emission before."""
    stop_reason: StopReason | None = None
    """Why generation stopped; it ends the answer."""
    logprobs: tuple[TokenLogProbs, ...] | None = None
    """The protocol's logprobs, from a source without records; None makes them of the records, where requested."""
    prompt_tokens: tuple[TokenRecord, ...] = ()
    """Records of the prompt's tokens, if requested; given once, with the first emission that has any."""
    end: TokenRecord | None = None
    """End token that the model chose. It is not in ``tokens``."""
    usage: Usage | None = None
    inspector: Inspector | None = None
    """Access to the run's past positions, if the provider computes in this process."""
    seed: int | None = None
    """Seed of the sampling, also if the provider chose it; None if nothing is sampled or it is unknown."""
    notes: tuple[str, ...] = ()
    """Notes for the caller, such as a sampling parameter that had no effect."""
    call_opening: str = ""
    """Text that a tool call begins with in the syntax that is parsed; empty without tools."""

    def __getstate__(self) -> list[Any]:
        """Return all fields but the inspector, which refers to a model of this process: for pickles and copies."""
        return [None if one.name == "inspector" else getattr(self, one.name) for one in fields(self)]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Embeddings of several contents."""

    vectors: list[list[float]]
    """One vector per content in the order of the request, shape ``(contents, dimensions)``."""
    usage: Usage = field(default_factory=Usage)
    """Number of tokens that were read; 0 if it is unknown."""
