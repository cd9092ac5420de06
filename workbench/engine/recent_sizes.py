"""The size of buffers that are used again and again: large enough for the last uses, and not much larger."""

from __future__ import annotations

from collections import deque

USES = 64
"""Uses after which larger buffers are given back: as many as the chunks of a prompt of 32,768 tokens."""

_MOST_TOO_LARGE = 2

Size = tuple[int, ...]


class RecentSizes:
    """Chooses the size of a buffer from the sizes of its last `USES` uses.

    Equal uses, and those that repeat within so many, never change the size once it has grown to the largest of them.
    """

    def __init__(self) -> None:
        self._recent: deque[Size] = deque(maxlen=USES)

    def chosen(self, needed: Size, held: Size | None) -> Size:
        """Return ``held`` if it has room for this use and is not too large, or else what the last uses needed.

        Args:
            needed: least length of each dimension.
            held: the present lengths; None before the first use.
        """
        self._recent.append(needed)
        largest = tuple(map(max, zip(*self._recent, strict=True)))
        if held is None or any(one < least for one, least in zip(held, needed, strict=True)):
            return largest
        is_too_large = any(one > _MOST_TOO_LARGE * used for one, used in zip(held, largest, strict=True))
        return largest if is_too_large else held
