"""What a response carries beside the wire: token records, usage and notes for callers in the same process.

It never reaches JSON, so the wire format stays the protocol's, and a response read from JSON has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from workbench.protocol.responses import DetailedModel
from workbench.records.tokens import Inspector, TokenRecord, Usage


@dataclass(frozen=True)
class RunDetail:
    """Details of a response, or of one chunk of a stream."""

    tokens: tuple[TokenRecord, ...] = ()
    """New tokens of a chunk, or all tokens of a response."""
    end: TokenRecord | None = None
    """End token that the model chose, in a response or the last chunk of a stream. It is not in ``tokens``."""
    usage: Usage | None = None
    prompt_tokens: tuple[TokenRecord, ...] = ()
    """Records of the prompt's tokens, if requested."""
    inspector: Inspector | None = None
    """Access to the run's past positions, if the provider computes in this process."""
    seed: int | None = None
    """Seed of the sampling, also if the provider chose it; None if nothing is sampled or it is unknown."""
    notes: tuple[str, ...] = ()
    """Notes for the caller, such as a sampling parameter that had no effect."""
    call_opening: str = ""
    """Text that a tool call begins with in the syntax that is parsed; empty without tools."""

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled or copied deeply: all but the inspector, which holds on to a model of this process."""
        return self.__dict__ | {"inspector": None}


Item = TypeVar("Item", bound=DetailedModel)


def attach_detail(item: Item, detail: RunDetail) -> Item:
    """Attach ``detail`` to a response or chunk, replacing any other, and return the item."""
    item._detail = detail  # noqa: SLF001 - private to the module, not to the class
    return item


def detail_of(item: DetailedModel) -> RunDetail | None:
    """Return the attached detail; None if there is none, as for anything received over HTTP."""
    detail: RunDetail | None = item._detail  # noqa: SLF001
    return detail
