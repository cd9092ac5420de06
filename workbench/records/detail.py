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
    """Facts about a response, or about one chunk of a stream."""

    tokens: tuple[TokenRecord, ...] = ()
    """The tokens that are new in this chunk; all of them in a response."""
    end: TokenRecord | None = None
    """The end token that the model chose, in a response and in the last chunk of a stream. It is none of ``tokens``."""
    usage: Usage | None = None
    prompt_tokens: tuple[TokenRecord, ...] = ()
    """Records of the prompt's tokens, where they were asked for."""
    inspector: Inspector | None = None
    """Looks back at the run's positions, where the provider computes in this process."""
    seed: int | None = None
    """Of the random numbers, also where the provider chose it; None where none are drawn or nobody tells."""
    notes: tuple[str, ...] = ()
    """What the caller should know, such as a sampling parameter that had no effect."""
    call_opening: str = ""
    """What a tool call begins with in the way of writing them that is read here; empty without tools."""

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled or copied deeply: all but the inspector, which holds on to a model of this process."""
        return self.__dict__ | {"inspector": None}


Item = TypeVar("Item", bound=DetailedModel)


def attach_detail(item: Item, detail: RunDetail) -> Item:
    """Put ``detail`` on a response or chunk, in place of any other, and return the item."""
    item._detail = detail  # noqa: SLF001 - private to the module, not to the class
    return item


def detail_of(item: DetailedModel) -> RunDetail | None:
    """What was attached to the item; None where nothing was, as for anything that came over HTTP."""
    detail: RunDetail | None = item._detail  # noqa: SLF001
    return detail
