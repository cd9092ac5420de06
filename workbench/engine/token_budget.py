"""Bringing an answer to its end within the tokens that it may have: never a token that leaves no way there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.engine.constraints import GrammarState

_LOOKS = 8
"""A way to an end is looked for again when one part in so many of the tokens beyond it has been used up."""


class WrapUp:
    """Watches over one answer in a grammar.

    Args:
        grammar: of the answer, at its beginning.
        end_ids: tokens that end it where the grammar allows an end.
    """

    def __init__(self, grammar: GrammarState, end_ids: frozenset[int]) -> None:
        self._grammar = grammar
        self._end_ids = end_ids
        self._way: list[int] | None = None
        """To an end from here on, as far as it is known."""
        self._looked: tuple[int, list[int]] | None = None
        """A token that was looked at, and the way to an end after it."""
        self._next_look: int | None = None
        """How many tokens will be left when it is time to look again."""

    def instead(self, token_id: int, left: int) -> int | None:
        """Return the token to take instead of one after which no end could be reached; None where it may stand.

        Args:
            left: tokens that may follow this one.
        """
        if token_id in self._end_ids or not self._is_time(token_id, left):
            return None
        way = self._grammar.ending(token_id, room=left)
        if way is not None and len(way) <= left:
            self._looked = token_id, way
            self._next_look = left - 1 - (left - len(way)) // _LOOKS
            return None
        if self._way is None:
            self._way = self._grammar.ending(room=left + 1)
        if self._way is None or len(self._way) > left + 1:
            self._next_look = left - 1 - left // _LOOKS  # there may be a way that was not found from here
            return None
        return self._way[0] if self._way else min(self._end_ids, default=None)

    def took(self, token_id: int) -> None:
        """Note a token that the answer has got."""
        if self._looked is not None and self._looked[0] == token_id:
            self._way = self._looked[1]
        elif self._way and self._way[0] == token_id:
            self._way = self._way[1:]
        else:
            self._way = None
        self._looked = None

    def _is_time(self, token_id: int, left: int) -> bool:
        if self._way and self._way[0] == token_id and len(self._way) <= left + 1:
            return False
        return self._next_look is None or left <= self._next_look or self._grammar.opens(token_id)
