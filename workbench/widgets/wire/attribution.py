"""The wire form of an attribution: the tokens of the answer as in a run, and each chunk with its changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.protocol import Chunk
from workbench.records import Attribution, TokenRecord
from workbench.widgets.attribution_words import total
from workbench.widgets.wire.chat import text_of
from workbench.widgets.wire.run import Pieces, WireToken, logprob_number, number, wire_token


def answer_pieces(tokens: Sequence[TokenRecord]) -> list[str]:
    """Return the characters that each token adds to the text of an answer."""
    text = b"".join(token.bytes for token in tokens if not token.is_special).decode(errors="replace")
    return Pieces().take(tokens, text, final=True)


def wire_answer(tokens: Sequence[TokenRecord]) -> list[WireToken]:
    """Return the tokens of an answer, as `wire_token` does."""
    return [wire_token(token, piece) for token, piece in zip(tokens, answer_pieces(tokens), strict=True)]


def wire_chunks(attribution: Attribution) -> list[dict[str, Any]]:
    """Return each chunk with its document, text and score, and the changes of the tokens' logprobs in nats."""
    return [
        wire_chunk(chunk, score_of(attribution, index), changes)
        for index, (chunk, changes) in enumerate(zip(attribution.chunks, attribution.changes, strict=True))
    ]


def wire_chunk(chunk: Chunk, score: float | None = None, changes: Sequence[float] = ()) -> dict[str, Any]:
    """Return the wire form of a chunk; without changes, of one that is not measured yet."""
    return {
        "document": chunk.document_id,
        "text": text_of(chunk.content),
        "score": number(score, digits=6),
        "total": logprob_number(total(changes)) if changes else None,
        "changes": [logprob_number(change) for change in changes],
    }


def score_of(attribution: Attribution, index: int) -> float | None:
    """Return the score of a chunk; None if it is unknown."""
    return attribution.scores[index] if attribution.scores else None
