"""Stop strings, found in streamed text before any character of one is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class StopMatch:
    """A completed stop string; the text ends at character ``start``."""

    start: int
    stop: str


class StopMatcher:
    """Matcher of stop strings in one growing text.

    Of several stop strings the one completed earliest wins, and of those completed by the same character the longest,
    because it started first. ``safe`` is the length of the text that no stop string can include any more; the caller
    must buffer the rest.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(dict.fromkeys(stops))
        self._longest = max(map(len, self._stops), default=0)
        self._tail = ""
        self._length = 0
        self.safe = 0

    def feed(self, text: str) -> StopMatch | None:
        """Append text; return the match that ends the whole text, if there is one."""
        self._length += len(text)
        if not self._stops:
            self.safe = self._length
            return None
        self._tail += text
        if match := self._earliest():
            return match
        partial = self._partial_match()
        self.safe = self._length - partial
        # Enough text to complete any stop string, so that the cost of a step does not grow with the text.
        self._tail = self._tail[-self._longest :]
        return None

    def _earliest(self) -> StopMatch | None:
        offset = self._length - len(self._tail)
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := self._tail.find(stop)) >= 0]
        if not found:
            return None
        _, start, stop = min(found)
        return StopMatch(offset + start, stop)

    def _partial_match(self) -> int:
        """Return the length of the longest suffix of the text that is a prefix of a stop string."""
        for length in range(min(self._longest - 1, len(self._tail)), 0, -1):
            if any(stop.startswith(self._tail[-length:]) for stop in self._stops if len(stop) > length):
                return length
        return 0
