"""Retrieval inside a chat: which memory bank to query, what was found, and what it did to the answer. All additions."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from workbench.protocol.base import ProtocolModel
from workbench.protocol.memory import Chunk


class RetrievalConfig(ProtocolModel):
    """Request to answer with the chunks that a memory bank has on the last message.

    The chunks become the ``context`` of that message, which must be a user's.
    """

    bank_id: str
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the query, as for ``Memory.query_documents``."""
    attribution: bool = Field(default=False, strict=True)
    """Whether to measure what each chunk did to each token of the answer; costs about one answer for each chunk."""


class TokenAttribution(ProtocolModel):
    """What the chunks did to one token of an answer."""

    token_id: int
    text: str
    """The token decoded alone."""
    logprob: float
    """Log probability with all chunks, in nats."""
    without: list[float]
    """Log probability without each of the chunks, in their order, and otherwise the same prompt and answer."""


class RetrievedChunks(ProtocolModel):
    """Chunks in the prompt of an answer, in the order in which it has them."""

    chunks: list[Chunk]
    scores: list[float]
    """One for each chunk, as in `QueryDocumentsResponse`."""
    attribution: list[TokenAttribution] | None = Field(default=None, exclude_if=lambda found: found is None)
    """One entry for each token of the answer, if it was requested; only the end of a stream has it."""
