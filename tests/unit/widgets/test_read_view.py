"""Texts are read from Python and from the page, alone or side by side."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from ipywidgets.widgets import widget as ipywidget

from tests.budget import some
from tests.unit.widgets.fake_session import FakeSession, wait_until, words
from tests.unit.widgets.hostile import PAYLOADS
from tests.unit.widgets.html.test_twins import Reader, shown
from tests.unit.widgets.recorded_page import Page
from workbench.errors import ClosedError, InvalidRequestError, ModelNotFoundError
from workbench.widgets import ReadView, read

ONE, OTHER = "I drink coffee with sugar.", "I drink coffee with concrete."


def ended(view: ReadView) -> ReadView:
    assert view.wait(60)
    return view


def test_one_text_is_read_at_once_and_shown_by_itself(page: Page) -> None:
    session = FakeSession(tokens_per_s=5000)
    view = ended(read(session, ONE))
    assert [(call["method"], call["prompt"]) for call in session.calls] == [("reading", ONE)]
    (run,) = view.runs
    assert (run.text, view.state) == (ONE, "done")
    first, second = (feed.snapshot for feed in view.feeds)
    assert (first["reads"], [token[1] for token in first["tokens"]]) == (True, words(ONE))
    assert first["tokens"][0][2:5] == [None, 0, None]
    assert second["run"] is None


def test_two_texts_are_read_by_one_model_and_shown_side_by_side(page: Page) -> None:
    session = FakeSession(tokens_per_s=5000)
    view = ended(read(session, ONE, OTHER, model="exact/smollm2-135m-instruct", alternatives=2))
    assert [run.text for run in view.runs] == [ONE, OTHER]
    assert {(call["model"], call["alternatives"]) for call in session.calls} == {("exact/smollm2-135m-instruct", 2)}
    view.start(other="")
    assert [run.text for run in ended(view).runs] == [ONE]


def test_read_in_the_page_takes_the_texts_as_they_stand_there(page: Page) -> None:
    session = FakeSession(tokens_per_s=5000)
    view = ReadView(session)
    page.send(view, {"kind": "state", "state": {"text": ONE, "other": OTHER}})
    page.send(view, {"kind": "run", "id": 1})
    assert page.customs(view, "reply") == [{"kind": "reply", "id": 1, "error": None}]
    assert [run.text for run in ended(view).runs] == [ONE, OTHER]
    assert (view.text, view.other) == (ONE, OTHER)
    page.send(view, {"kind": "state", "state": {"text": ""}})
    page.send(view, {"kind": "run", "id": 2})
    assert page.customs(view, "reply")[-1]["error"] == "Paste a text first."
    assert len(view.runs) == 2


def test_stop_in_the_page_stops_all_that_is_being_read(page: Page) -> None:
    session = FakeSession(tokens_per_s=20)
    view = read(session, ONE * 50, OTHER * 50)
    wait_until(lambda: all(run.tokens for run in session.runs))
    assert view.state == "running"
    page.send(view, {"kind": "stop", "id": 1})
    ended(view)
    assert ([run.state for run in view.runs], view.state) == (["cancelled"] * 2, "done")


def test_the_code_gives_what_is_shown(page: Page) -> None:
    view = read(FakeSession(tokens_per_s=5000), ONE, OTHER)
    wanted = f'bench.read(\n    "{ONE}",\n    "{OTHER}",\n    model="smollm2-135m-instruct",\n    alternatives=5,\n)'
    assert view.code.endswith(f"\n{wanted}")
    view.other = ""
    view.model = "exact/smollm2-135m-instruct"
    wanted = f'bench.read(\n    "{ONE}",\n    model="exact/smollm2-135m-instruct",\n    alternatives=5,\n)'
    assert view.code.endswith(f"\n{wanted}")


def test_a_text_that_the_model_refuses_leaves_what_was_read_before_it(page: Page) -> None:
    session = FakeSession(tokens_per_s=5000)
    view = ended(read(session, ONE))
    session._error = InvalidRequestError("text", "9000 tokens", "shorter than the model's context")
    before = view.runs
    view.start("too long")
    assert ended(view).runs == before
    assert "shorter than the model's context" in view.feeds[0].problem


@pytest.mark.parametrize(
    "arguments, options, error, words_",
    [
        ((5,), {}, InvalidRequestError, "text must be a string"),
        ((ONE, None), {}, InvalidRequestError, "other must be a string"),
        (("", OTHER), {}, InvalidRequestError, "text must be a string of at least one character"),
        ((ONE,), {"alternatives": -1}, InvalidRequestError, "alternatives"),
        ((ONE,), {"model": "gpt-5"}, ModelNotFoundError, "gpt-5"),
        ((ONE,), {"modle": "x"}, TypeError, "modle"),
    ],
)
def test_what_cannot_be_read_is_refused_before_any_work(
    page: Page, arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], words_: str
) -> None:
    before, session = set(ipywidget._instances), FakeSession()
    with pytest.raises(error, match=words_):
        read(session, *arguments, **options)
    assert session.calls == []
    assert set(ipywidget._instances) == before


def test_a_closed_view_reads_nothing_and_leaves_nothing(page: Page) -> None:
    before = set(ipywidget._instances)
    view = ended(read(FakeSession(tokens_per_s=5000), ONE))
    view.close()
    assert set(ipywidget._instances) == before
    assert threading.active_count() < 50
    with pytest.raises(ClosedError):
        view.start()


@pytest.mark.parametrize("payload", some(PAYLOADS))
def test_the_static_twin_shows_the_texts_once_and_runs_nothing(page: Page, payload: str) -> None:
    view = ReadView(FakeSession(tokens_per_s=5000), f"a {payload}", "b")
    assert "Not read yet." in view.static_html()
    view.start()
    twin = Reader(ended(view).static_html())
    assert shown(f"a {payload}") in twin.text
    assert "perplexity" in twin.text
    assert "generated" not in twin.text
