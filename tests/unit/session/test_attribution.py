"""The attribution of a run: started without waiting, given up, and shown in a notebook."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.widgets.fake_attribution import attributed
from workbench.errors import ClosedError, InvalidRequestError
from workbench.providers.requests import Request
from workbench.records import Attribution, TokenRecord
from workbench.session.attribution import RunAttribution, attribution_of, started_attribution
from workbench.session.event_loop_thread import BackgroundLoop
from workbench.session.run_protocols import RunHost

PATIENCE_S = 10


@pytest.fixture
def loop() -> Iterator[BackgroundLoop]:
    opened = BackgroundLoop("attribution")
    yield opened
    opened.close()


class Measuring:
    """Measures when the test says so."""

    def __init__(self) -> None:
        self.begun, self.cancelled = threading.Event(), threading.Event()
        self.is_held = True

    async def attribute(self, request: Request, tokens: Sequence[TokenRecord]) -> Attribution:
        self.begun.set()
        try:
            await asyncio.Event().wait() if self.is_held else None
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        found = attributed()
        return Attribution(tuple(tokens), found.chunks, found.without, found.scores)


def ended(loop: BackgroundLoop, measuring: Measuring, *, done: bool = True) -> Any:
    def none(*_: Any) -> Any:
        raise AssertionError

    host = RunHost(loop.start, none, none, none, measuring.attribute)
    request = Request("tiny", "When does it open?")
    tokens = list(attributed().tokens)
    return SimpleNamespace(done=done, state="running", request=request, tokens=tokens, host=host)


def test_an_attribution_is_that_which_was_measured(loop: BackgroundLoop) -> None:
    measuring = Measuring()
    measuring.is_held = False
    found = attribution_of(started_attribution(ended(loop, measuring)))
    assert found == attributed()
    assert repr(found) == "RunAttribution(tokens=13, chunks=3)"


def test_cancelling_the_future_cancels_the_measurement(loop: BackgroundLoop) -> None:
    measuring = Measuring()
    future = started_attribution(ended(loop, measuring))
    assert measuring.begun.wait(PATIENCE_S)
    assert future.cancel()
    assert measuring.cancelled.wait(PATIENCE_S)


def test_a_workbench_that_is_closed_ends_the_wait(loop: BackgroundLoop) -> None:
    measuring = Measuring()
    future = started_attribution(ended(loop, measuring))
    assert measuring.begun.wait(PATIENCE_S)
    loop.close()
    with pytest.raises(ClosedError):
        attribution_of(future)
    with pytest.raises(ClosedError):
        started_attribution(ended(loop, measuring))


def test_a_run_that_goes_on_is_refused_before_anything_is_measured(loop: BackgroundLoop) -> None:
    measuring = Measuring()
    with pytest.raises(InvalidRequestError, match="attribution must be used after the run has ended"):
        started_attribution(ended(loop, measuring, done=False))
    assert not measuring.begun.is_set()


def test_a_table_has_a_column_for_each_chunk() -> None:
    frame = attributed().to_frame()
    assert list(frame.columns) == ["position", "text", "logprob", "[1]", "[2]", "[3]"]
    assert frame["[1]"].idxmax() == 4
    assert frame["[1]"].sum() == pytest.approx(6.0)


def test_a_notebook_shows_the_marked_answer() -> None:
    html = attributed()._repr_html_()
    assert isinstance(attributed(), RunAttribution)
    assert "<sup>1</sup>" in html
    assert "<script" not in html
