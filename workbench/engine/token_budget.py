"""Completion of an answer's grammar within its token budget: no token is chosen after which the end is out of reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.engine.constraints import GrammarState

_SEARCHES = 8
"""The search for an ending is repeated when 1/8 of the tokens that exceed the last ending have been used."""


class TokenBudget:
    """The tokens that one answer has left to complete its grammar.

    Args:
        grammar: state of the answer's grammar, at its beginning.
        end_ids: tokens that end the answer if the grammar allows an end.
    """

    def __init__(self, grammar: GrammarState, end_ids: frozenset[int]) -> None:
        self._grammar = grammar
        self._end_ids = end_ids
        self._ending: list[int] | None = None
        """Tokens that complete the grammar from here on, if known."""
        self._candidate: tuple[int, list[int]] | None = None
        """The token last passed to `replacement`, and an ending after it."""
        self._next_search: int | None = None
        """Number of tokens left at which to search again."""

    def replacement(self, token_id: int, left: int) -> int | None:
        """Return the token to choose instead of one after which no ending fits, or None to keep it.

        Args:
            left: number of tokens that may follow this one.
        """
        if token_id in self._end_ids or not self._must_search(token_id, left):
            return None
        ending = self._grammar.ending(token_id, room=left)
        if ending is not None and len(ending) <= left:
            self._candidate = token_id, ending
            self._next_search = left - 1 - (left - len(ending)) // _SEARCHES
            return None
        if self._ending is None:
            self._ending = self._grammar.ending(room=left + 1)
        if self._ending is None or len(self._ending) > left + 1:
            self._next_search = left - 1 - left // _SEARCHES  # the search is bounded, and may have missed an ending
            return None
        return self._ending[0] if self._ending else min(self._end_ids, default=None)

    def consume(self, token_id: int) -> None:
        """Advance by a token of the answer."""
        if self._candidate is not None and self._candidate[0] == token_id:
            self._ending = self._candidate[1]
        elif self._ending and self._ending[0] == token_id:
            self._ending = self._ending[1:]
        else:
            self._ending = None
        self._candidate = None

    def _must_search(self, token_id: int, left: int) -> bool:
        if self._ending and self._ending[0] == token_id and len(self._ending) <= left + 1:
            return False
        return self._next_search is None or left <= self._next_search or self._grammar.opens(token_id)
