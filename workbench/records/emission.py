"""Results of providers: the emissions of an answer, and embeddings.

They are internal: the session and the server convert them to the protocol's chunks and responses.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from workbench.records.tokens import Inspector, TokenRecord, Usage

if TYPE_CHECKING:
    from workbench.protocol import RetrievedChunks, StopReason, TokenLogProbs, ToolCallDelta


@dataclass(frozen=True, slots=True)
class Emission:
    """One step of an answer: what it adds to the text or to a tool call, and the records of its tokens.

    The fields after ``logprobs`` describe the whole answer so far; None or an empty value leaves it unchanged.
    """

    delta: str | ToolCallDelta = ""
    """Text in whole characters, or in a chat the change of a tool call."""
    tokens: tuple[TokenRecord, ...] = ()
    """Records of the tokens generated since the previous emission."""
    stop_reason: StopReason | None = None
    """Reason why generation stopped; None before the end."""
    logprobs: tuple[TokenLogProbs, ...] | None = None
    """The protocol's logprobs, from a source without records; None derives them from the records, if requested."""
    prompt_tokens: tuple[TokenRecord, ...] = ()
    """Records of the prompt's tokens, if requested; only one emission has them."""
    end: TokenRecord | None = None
    """End token that the model chose. It is not in ``tokens``."""
    usage: Usage | None = None
    inspector: Inspector | None = None
    """Access to the run's past positions, if the provider computes in this process."""
    seed: int | None = None
    """Seed of the sampling, also if the provider chose it; None if nothing is sampled or it is unknown."""
    notes: tuple[str, ...] = ()
    """Notes for the caller, such as a sampling parameter that had no effect."""
    retrieved: RetrievedChunks | None = None
    """Chunks in the prompt, if it was made with some: in the first emission, and with attribution in the last."""
    call_opening: str = ""
    """Text that begins a tool call in the syntax that is parsed; empty without tools."""

    def __getstate__(self) -> list[Any]:
        """Return all fields without the inspector, which refers to a model of this process."""
        return [None if one.name == "inspector" else getattr(self, one.name) for one in fields(self)]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Embeddings of several contents."""

    vectors: list[list[float]]
    """One vector per content in the order of the request, shape ``(contents, dimensions)``."""
    usage: Usage = field(default_factory=Usage)
    """Number of tokens that were read; 0 if it is unknown."""


@dataclass(frozen=True, slots=True)
class TokenSpans:
    """Places of a text's tokens, as a sentence model reads it."""

    spans: tuple[tuple[int, int], ...]
    """First character of each token and the one after its last, in order; without special tokens."""
    max_tokens: int | None
    """Most tokens of a text that the model reads at once, without special tokens; None for no limit."""
