"""The layers view computes the columns that someone looks at, in the background, and says what it does."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.budget import budget, some
from tests.unit.widgets.fake_insides import LAYERS, FakeInsides, fake_column
from tests.unit.widgets.fake_session import FakeRun, FakeSession, token, wait_until
from tests.unit.widgets.hostile import PAYLOADS
from tests.unit.widgets.html.test_twins import Reader
from tests.unit.widgets.recorded_page import Page
from workbench.errors import ClosedError, InvalidRequestError, UnsupportedFieldError
from workbench.records import LensCell, LensColumn, LensWord
from workbench.widgets import LayersView, RunFeed, layers, playground
from workbench.widgets.html.layers import MOST_COLUMNS, layers_html
from workbench.widgets.layers_view import NO_RUN, NO_TOKENS, NOT_HERE
from workbench.widgets.wire.layers import wire_column

PATIENCE_S = 60


def finished(run: FakeRun) -> FakeRun:
    run.step(100_000)
    return run


def long_run(count: int, run_id: str = "run-1") -> FakeRun:
    return finished(FakeRun(run_id, records=[token(i, f" t{i}") for i in range(count)]))


def insides(run: FakeRun) -> FakeInsides:
    assert run.inspector is not None
    assert run.inspector.insides is not None
    return run.inspector.insides


def settled(view: LayersView) -> LayersView:
    assert view.wait(PATIENCE_S)
    return view


def look(page: Page, view: LayersView, start: int, stop: int | None, wanted: list[int] | None = None) -> None:
    run = view.feed.run
    assert run is not None
    content = {"kind": "look", "run": run.id, "from": start, "to": stop, "wanted": wanted or []}
    page.send(view, content)


def sent(page: Page, view: LayersView) -> list[int]:
    """Positions of the columns that the page got, in that order."""
    return [position for message in page.customs(view, "columns") for position, _ in message["columns"]]


# ------------------------------------------------------------------------------------------------ what is computed


def test_without_a_page_the_last_columns_are_computed_for_the_twin(page: Page) -> None:
    view = settled(LayersView(long_run(100)))
    assert list(view.columns) == list(range(100 - MOST_COLUMNS, 100))
    assert (view.state, view.message) == ("idle", "")
    assert "76 of 100 tokens are left out." in Reader(view.static_html()).text


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=budget(30), deadline=None)
def test_after_any_looks_the_columns_on_the_screen_are_there_and_each_was_computed_once(
    page: Page, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, 60))
    run = long_run(count)
    view = settled(LayersView(run))
    first = insides(run).prompt_length
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, count))
        stop = data.draw(st.one_of(st.none(), st.integers(0, count + 9)))
        look(page, view, start, stop)
        settled(view)
        assert set(range(start, count if stop is None else min(stop, count))) <= set(view.columns)
    asked = [index - first for _, indices in insides(run).asked for index in indices]
    assert sorted(asked) == sorted(view.columns)
    assert sent(page, view) == asked
    assert all(view.columns[at] == fake_column(first + at, run.tokens[at], "logit", 5) for at in view.columns)


def test_only_what_is_looked_at_is_computed_of_a_long_text(page: Page) -> None:
    run = long_run(5000)
    view = LayersView(feed=RunFeed(run), active=False)
    look(page, view, 4980, None)
    assert (settled(view).columns, insides(run).asked) == ({}, [])
    view.active = True
    assert list(settled(view).columns) == list(range(4980, 5000))
    look(page, view, 0, 5000)  # more than a screen shows: the most recent ones
    assert list(settled(view).columns) == list(range(4800, 5000))
    page.send(view, {"kind": "hide"})
    look_at = view.feed.run
    view.feed.follow(long_run(50, "run-2"))
    assert settled(view).columns == {}
    view.feed.follow(look_at)
    assert settled(view).columns == {}


def test_a_page_gets_what_it_lacks_and_no_more(page: Page) -> None:
    view = settled(LayersView(long_run(30)))
    before = len(page.customs(view, "columns"))
    look(page, view, 10, 20, [12, 15])
    settled(view)
    later = page.customs(view, "columns")[before:]
    assert [at for message in later for at, _ in message["columns"]] == [12, 15]
    assert later[0]["columns"][0] == wire_column(12, view.columns[12])
    assert (later[0]["run"], later[0]["lens"]) == ("run-1", "logit")


@pytest.mark.parametrize(
    "message",
    [
        None,
        7,
        {},
        {"kind": "look"},
        {"kind": "look", "run": "other", "from": 0, "to": 9, "wanted": []},
        {"kind": "look", "run": "run-1", "from": "0", "to": 9, "wanted": []},
        {"kind": "look", "run": "run-1", "from": 0, "to": [], "wanted": []},
        {"kind": "look", "run": "run-1", "from": 0, "to": 9, "wanted": None},
        {"kind": "words", "run": "run-1"},
        {"kind": "words", "run": "run-1", "position": "3"},
        {"kind": "words", "run": "run-1", "position": 3},
        {"kind": "words", "run": "other", "position": 95},
    ],
)
def test_a_message_that_is_none_changes_nothing(page: Page, message: Any) -> None:
    view = settled(LayersView(long_run(100)))
    columns, messages = view.columns, len(page.messages)
    page.send(view, message)
    assert settled(view).columns == columns
    assert len(page.messages) == messages


def test_the_words_of_a_column_come_when_they_are_wanted(page: Page) -> None:
    run = finished(FakeRun())
    view = settled(LayersView(run))
    page.send(view, {"kind": "words", "run": "run-1", "position": 30})
    (message,) = page.customs(view, "words")
    assert (message["lens"], message["position"]) == ("logit", 30)
    assert len(message["words"]) == LAYERS
    for words, cell in zip(message["words"], view.columns[30].cells, strict=True):
        assert [one[0] for one in words] == [one.token_id for one in cell.words]
        assert [one[2] for one in words] == pytest.approx([one.probability for one in cell.words], rel=1e-3)


# --------------------------------------------------------------------------------------------------- while it runs


def test_columns_are_appended_while_the_run_goes_on_and_one_computation_runs_at_a_time(page: Page) -> None:
    run = FakeRun()
    view = LayersView(run)
    assert view.message == NO_TOKENS
    look(page, view, 0, None)
    run.step(3)
    wait_until(lambda: list(view.columns) == [0, 1, 2])
    wait_until(lambda: view.message == "Computing the logit lens of each token as it comes …")
    for count in range(4, 20):
        run.step()
        if count % 5 == 0:
            wait_until(lambda count=count: len(view.columns) == count)  # type: ignore[misc]
    run.pause()
    wait_until(lambda: len(view.columns) == 19 and view.state == "idle")
    assert view.message == ""
    run.resume()
    run.step(1000)
    assert list(settled(view).columns) == list(range(len(run.tokens)))
    assert (view.state, insides(run).most_computing) == ("idle", 1)
    assert sorted(sent(page, view)) == list(range(len(run.tokens)))


def test_a_slow_computation_blocks_neither_the_run_nor_the_widget_and_is_named(page: Page) -> None:
    run = FakeRun()
    run.step(1)
    insides(run).may_answer.clear()
    view = LayersView(run)
    run.step(30)
    wait_until(lambda: insides(run).computing == 1)
    assert (len(run.tokens), view.columns) == (31, {})
    page.send(view, {"kind": "words", "run": "run-1", "position": 3})
    view.kind = "jacobian"
    view.kind = "logit"
    insides(run).may_answer.set()
    wait_until(lambda: len(view.columns) >= MOST_COLUMNS)
    run.finish()
    settled(view)
    assert insides(run).most_computing == 1
    said = [one for one in page.writes(view, "message") if one]
    assert any(re.fullmatch(r"Computing the logit lens of tokens? \d+( to \d+)? of 31 …", one) for one in said)


def test_a_new_run_replaces_the_old_one_also_in_the_middle_of_a_computation(page: Page) -> None:
    old = long_run(40)
    insides(old).may_answer.clear()
    view = LayersView(old)
    wait_until(lambda: insides(old).computing == 1)
    fresh = long_run(12, "run-2")
    view.feed.follow(fresh)
    insides(old).may_answer.set()
    settled(view)
    assert list(view.columns) == list(range(12))
    assert {message["run"] for message in page.customs(view, "columns")} == {"run-2"}
    assert insides(old).most_computing == 1


def test_a_closed_view_computes_nothing_more(page: Page) -> None:
    run = long_run(40)
    insides(run).may_answer.clear()
    view = LayersView(run)
    wait_until(lambda: insides(run).computing == 1)
    view.close()
    insides(run).may_answer.set()
    assert view.wait(PATIENCE_S)
    assert (view.columns, len(insides(run).asked), view.feed.closed) == ({}, 1, True)


# ------------------------------------------------------------------------------------------------------ which lens


def test_a_lens_that_is_missing_is_refused_in_words_and_the_other_one_stays(page: Page) -> None:
    run = long_run(20)
    view = settled(LayersView(run))
    page.set(view, kind="jacobian")
    settled(view)
    assert (view.kind, view.refused) == ("logit", "No Jacobian lens of tiny has been fitted.")
    assert (view.state, len(view.columns)) == ("idle", 20)
    assert page.writes(view, "kind")[-1] == "logit"
    view.feed.follow(long_run(20, "run-2"))  # of another model, for all one knows
    assert settled(view).refused == ""


def test_each_lens_has_columns_of_its_own_which_are_kept(page: Page) -> None:
    run = long_run(20)
    insides(run).jacobian = None
    view = settled(LayersView(run, kind="jacobian"))
    jacobian = view.columns
    view.kind = "logit"
    settled(view)
    assert view.columns.keys() == jacobian.keys()
    assert view.columns != jacobian
    asked = len(insides(run).asked)
    view.kind = "jacobian"
    assert settled(view).columns == jacobian
    assert len(insides(run).asked) == asked
    assert repr(view) == "LayersView(kind='jacobian', columns=20)"
    with pytest.raises(InvalidRequestError, match="one of logit, jacobian"):
        LayersView(run, kind="tuned")  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- what is said


def test_a_model_elsewhere_is_told_in_one_sentence(page: Page) -> None:
    run = finished(FakeRun())
    run.inspector = None  # type: ignore[assignment]
    view = settled(LayersView(run))
    assert (view.state, view.message) == ("failed", NOT_HERE)
    assert NOT_HERE in Reader(view.static_html()).text


@pytest.mark.parametrize(
    "problem, said",
    [
        (
            ClosedError("the model of this run was closed"),
            "The layers cannot be read: the model of this run was closed.",
        ),
        (
            UnsupportedFieldError("points", "a run with images", "used on a run of text"),
            "The layers cannot be read: points must be used on a run of text; got 'a run with images'.",
        ),
        (RuntimeError(""), "The layers cannot be read: RuntimeError."),
    ],
)
def test_an_error_is_told_and_the_next_look_tries_again(page: Page, problem: Exception, said: str) -> None:
    run = finished(FakeRun())
    insides(run).problem = problem
    view = settled(LayersView(run))
    assert (view.state, view.message, view.columns) == ("failed", said, {})
    insides(run).problem = None
    look(page, view, 0, 10)
    settled(view)
    assert (view.state, view.message, len(view.columns)) == ("idle", "", 10)


def test_a_view_without_a_run_or_tokens_says_so(page: Page) -> None:
    view = LayersView()
    assert (settled(view).message, view.columns) == (NO_RUN, {})
    assert NO_RUN in view.static_html()
    run = FakeRun(records=[])
    view.feed.follow(run)
    wait_until(lambda: view.message == NO_TOKENS)
    run.finish()
    assert (settled(view).message, view.state) == (NO_TOKENS, "idle")


def test_the_first_token_of_a_reading_has_no_column(page: Page) -> None:
    session = FakeSession(tokens_per_s=5000)
    run = session.reading("One two three four")
    assert run.wait(PATIENCE_S)
    view = settled(LayersView(run))
    assert list(view.columns) == [1, 2, 3]
    assert [column.text for column in view.columns.values()] == [" two", " three", " four"]
    look(page, view, 0, None, [0, 1])
    assert list(settled(view).columns) == [1, 2, 3]


# -------------------------------------------------------------------------------------------------- where it is shown


def test_the_playground_computes_while_its_tab_is_open(page: Page) -> None:
    opened = playground(FakeSession(tokens_per_s=5000))
    opened.start("Hello").wait(PATIENCE_S)
    opened.wait(PATIENCE_S)
    assert settled(opened.layers).columns == {}
    page.set(opened, tab="layers")
    assert len(settled(opened.layers).columns) == MOST_COLUMNS
    page.set(opened, tab="tokens")
    opened.start("Again").wait(PATIENCE_S)
    opened.wait(PATIENCE_S)
    assert settled(opened.layers).columns == {}
    opened.close()
    assert opened.layers.closed


def test_running_a_cell_again_closes_the_earlier_view(page: Page) -> None:
    session = FakeSession()
    first, other = layers(session, finished(FakeRun())), layers(session, finished(FakeRun(prompt="Another")))
    second = layers(session, finished(FakeRun()), kind="logit")
    assert (first.closed, second.closed, other.closed) == (True, False, False)


# ------------------------------------------------------------------------------------------------------------ the twin


def test_the_twin_has_all_layers_the_last_columns_and_what_was_said(page: Page) -> None:
    run = finished(FakeRun())
    view = settled(LayersView(run))
    reader = Reader(view.static_html())
    rows = [row for table in re.findall(r"<tbody>(.*?)</tbody>", view.static_html()) for row in table.split("</tr>")]
    assert len([row for row in rows if row]) == 2 * (LAYERS + 1)  # two tables side by side
    for position in list(view.columns):
        assert f'<th scope="col">{position + 1}</th>' in view.static_html()
    assert "20 of 44 tokens are left out." in reader.text
    hits = sum(cell.words[0].token_id == column.token_id for column in view.columns.values() for cell in column.cells)
    assert view.static_html().count(" ●</td>") == hits > 0


def test_the_twin_marks_what_was_said_and_shades_by_probability() -> None:
    words = (LensWord(7, " yes", 0.625), LensWord(8, " no", 0.125))
    column = LensColumn(5, 8, " no", (LensCell(words, 0.125, 2), LensCell(words[::-1], 0.125, 1)))
    html = layers_html({0: column}, [token(0, " no")], kind="jacobian")
    assert "Jacobian lens, computed" in html
    assert (
        'title="said: 12.5 %, rank 2" style="background:rgba(79,110,190,0.34)"><code>␣yes</code> 63\u00a0%</td>' in html
    )
    assert "<code>␣no</code> 13\u00a0% ●</td>" in html
    assert "left out" not in html


@pytest.mark.parametrize("payload", some(PAYLOADS[:20], at_least=4))
def test_whatever_a_model_says_is_text_in_the_twin(page: Page, payload: str) -> None:
    run = finished(FakeRun(records=[token(i, payload) for i in range(3)]))
    twin = settled(LayersView(run)).static_html()
    assert not any(tag in twin.lower() for tag in ("<script", "<img", "<svg", "<iframe", "<a ", "<style", "<form"))
