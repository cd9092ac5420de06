"""How many threads compute a decode step, by what the last steps took.

The threads of a step wait for each other many times. While another program keeps a core busy, the thread on that core
is pushed aside for milliseconds at a time and all others wait, so that fewer threads are faster.
"""

from __future__ import annotations

_WINDOW = 6
"""Steps whose mean time is compared."""

_SLOWER = 1.35
"""A mean this many times the fastest of the full team suggests that the team is disturbed."""

_FASTER = 0.95
"""Another size is kept if its mean is at most this many times the mean before."""

_GROWTH = 1.02
"""How much slower each window may be than the fastest: sequences grow, and so do their steps."""

_FIRST_WAIT, _LONGEST_WAIT = 8, 128
"""Windows until a larger team is tried again; the wait doubles each time that it is no faster."""


class TeamSize:
    """Number of threads for steps of one batch size.

    Args:
        threads: number of threads of the full team.
    """

    def __init__(self, threads: int) -> None:
        self._sizes = sorted({threads, max(1, threads - 1), max(1, threads // 2), 1}, reverse=True)
        self._index = 0
        self._times: list[float] = []
        self._fastest = float("inf")
        self._before: tuple[int, float] | None = None  # index and mean of the size to return to
        self._wait, self._waited = _FIRST_WAIT, 0

    @property
    def threads(self) -> int:
        """Number of threads for the next step."""
        return self._sizes[self._index]

    def record(self, seconds: float) -> None:
        """Take note of what a step with that number of threads took."""
        if len(self._sizes) == 1:
            return
        self._times.append(seconds)
        if len(self._times) == _WINDOW:
            mean, self._times = sum(self._times) / _WINDOW, []
            self._judge(mean)

    def _judge(self, mean: float) -> None:
        if self._index == 0:
            self._fastest = min(_GROWTH * self._fastest, mean)
        if self._before is not None:
            self._end_trial(*self._before, mean)
        elif self._index == 0:
            if mean > _SLOWER * self._fastest:
                self._try(1, mean)
        else:
            self._waited += 1
            if self._waited >= self._wait:
                self._try(self._index - 1, mean)
            elif mean > _SLOWER * self._fastest and self._waited == 1 and self._index + 1 < len(self._sizes):
                self._try(self._index + 1, mean)

    def _try(self, index: int, mean: float) -> None:
        self._before, self._index = (self._index, mean), index

    def _end_trial(self, index: int, mean_before: float, mean: float) -> None:
        """Keep the size that was tried if it is faster, and else return to ``index``."""
        was_larger = self._index < index
        if mean > _FASTER * mean_before:
            self._index = index
            if was_larger:
                self._wait = min(2 * self._wait, _LONGEST_WAIT)
            elif index == 0:  # no other program is to blame
                self._fastest = mean_before
        elif was_larger:
            self._wait = _FIRST_WAIT
        self._before, self._waited = None, 0
