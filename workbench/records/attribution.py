"""Attribution of an answer's tokens to the retrieved chunks in its prompt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from workbench.protocol import Chunk
    from workbench.records.tokens import TokenRecord


@dataclass(frozen=True, slots=True, repr=False)
class Attribution:
    """What each chunk in the prompt did to the log probability of each token of an answer.

    The model is asked for the same tokens once more for each chunk, with a prompt that lacks only this chunk. All log
    probabilities are in nats.
    """

    tokens: tuple[TokenRecord, ...]
    """Tokens of the answer; their logprobs are those of the run."""
    chunks: tuple[Chunk, ...]
    without: tuple[tuple[float, ...], ...]
    """Logprob of each token without a chunk, shape ``(chunks, tokens)``."""
    scores: tuple[float, ...] = ()
    """Score of each chunk in the query that found it; empty if unknown."""

    @property
    def logprob(self) -> float:
        """Sum of the tokens' logprobs with all chunks: that of the run."""
        return math.fsum(token.logprob for token in self.tokens)

    @property
    def changes(self) -> tuple[tuple[float, ...], ...]:
        """How much a chunk raised each token's logprob, shape ``(chunks, tokens)``; negative where it lowered it."""
        return tuple(
            tuple(token.logprob - logprob for token, logprob in zip(self.tokens, logprobs, strict=True))
            for logprobs in self.without
        )

    @property
    def totals(self) -> tuple[float, ...]:
        """How much each chunk raised the logprob of the whole answer, shape ``(chunks,)``."""
        return tuple(math.fsum(row) for row in self.changes)

    def strongest(self, position: int) -> int | None:
        """Return the index of the chunk that raised the token at a position most; None if no chunk raised it."""
        logprob = self.tokens[position].logprob
        changes = [logprob - row[position] for row in self.without]
        raised = [index for index, change in enumerate(changes) if change > 0]
        return max(raised, key=changes.__getitem__, default=None)

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row for each token, and one column for the change by each chunk, named by number.

        The other columns are position, text and logprob. Chunks are numbered from 1, as in the prompt.
        """
        import pandas as pd

        columns = {name: [getattr(token, name) for token in self.tokens] for name in ("position", "text", "logprob")}
        return pd.DataFrame(columns | {f"[{number}]": row for number, row in enumerate(self.changes, 1)})

    def __repr__(self) -> str:
        return f"{type(self).__name__}(tokens={len(self.tokens)}, chunks={len(self.chunks)})"
