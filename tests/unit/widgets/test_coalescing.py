"""The ticker of a run: few messages, all tokens, and an end."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.widgets.fake_session import FakeRun, wait_until
from workbench.widgets.coalescing import MESSAGES_PER_S, pump, start_ticker


class FakeTime:
    """A clock that moves when somebody sleeps; the run emits its tokens while it does."""

    def __init__(self, run: FakeRun, gaps_s: list[float]) -> None:
        self.now_s = 100.0
        self._run = run
        self._due_s = [self.now_s + sum(gaps_s[: i + 1]) for i in range(len(gaps_s))]

    def clock(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> None:
        self._advance(self.now_s + seconds)

    def wait(self, news: threading.Event, timeout_s: float) -> bool:
        end = self.now_s + timeout_s
        while not news.is_set() and self.now_s < end:
            self._advance(min(end, self._due_s[0] if self._due_s else end))
        return news.is_set()

    def _advance(self, to_s: float) -> None:
        while self._due_s and self._due_s[0] <= to_s:
            self.now_s = max(self.now_s, self._due_s.pop(0))
            self._run.step()
        self.now_s = max(self.now_s, to_s)
        if not self._due_s:
            self._run.finish()


@given(st.lists(st.floats(0, 0.3), min_size=1, max_size=300))
def test_in_no_second_are_there_more_messages_than_allowed(gaps_s: list[float]) -> None:
    run = FakeRun(texts=["x"] * (len(gaps_s) + 5))
    time = FakeTime(run, gaps_s)
    sent: list[float] = []
    tokens: list[int] = []

    def publish() -> None:
        sent.append(time.now_s)
        tokens.append(len(run.tokens))

    pump(run, publish, publish, clock=time.clock, pause=time.pause, wait=time.wait)
    assert tokens[-1] == len(run.tokens)
    for first in sent:
        assert sum(first <= other < first + 1 - 1e-6 for other in sent) <= MESSAGES_PER_S


def test_a_pause_of_the_model_sends_nothing() -> None:
    run = FakeRun(texts=["a", "b", "c"])
    time, sent = FakeTime(run, [0.1, 30.0]), []
    pump(run, lambda: sent.append(1), lambda: sent.append(2), clock=time.clock, pause=time.pause, wait=time.wait)
    assert sent == [1, 2]


def test_the_end_is_told_even_if_telling_the_rest_fails() -> None:
    run, ended = FakeRun(), []

    def broken() -> None:
        run.finish()
        raise OSError

    run.step()
    threading.Timer(0.01, run.step).start()
    with pytest.raises(OSError):
        pump(run, broken, lambda: ended.append(True))
    assert ended == [True]
    assert run.subscribers == 0


def test_the_ticker_ends_with_its_run() -> None:
    run, calls = FakeRun(), []
    thread = start_ticker(run, lambda: calls.append("delta"), lambda: calls.append("end"))
    assert thread.daemon
    run.go(tokens_per_s=5000)
    thread.join(60)
    assert not thread.is_alive()
    assert calls[-1] == "end"
    assert calls.count("end") == 1


def test_a_run_that_has_already_ended_is_told_at_once() -> None:
    run, calls = FakeRun(), []
    run.finish()
    pump(run, lambda: calls.append("delta"), lambda: calls.append("end"))
    assert calls == ["end"]


def test_a_cancelled_run_ends_its_ticker() -> None:
    run = FakeRun(texts=["x"] * 20_000)
    thread = start_ticker(run, lambda: None, lambda: None)
    run.go(tokens_per_s=200)
    wait_until(lambda: len(run.tokens) > 2)
    run.cancel()
    thread.join(60)
    assert not thread.is_alive()
