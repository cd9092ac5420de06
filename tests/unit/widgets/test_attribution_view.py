"""The attribution view: what it shows of an answer and its chunks, when, and how it can be given up."""

from __future__ import annotations

import math
from concurrent.futures import CancelledError

import pytest
import traitlets

from tests.budget import some
from tests.unit.widgets.fake_attribution import ANSWER, TEXTS, FakeAskedRun, attributed, chunk, large, with_unknown
from tests.unit.widgets.fake_session import FakeSession, token, wait_until
from tests.unit.widgets.hostile import PAYLOADS
from tests.unit.widgets.html.test_twins import Reader, shown
from tests.unit.widgets.recorded_page import Page
from workbench.errors import InvalidRequestError, UnsupportedFieldError
from workbench.records import TokenRecord
from workbench.session.views import Views
from workbench.widgets import AttributionView, attribution
from workbench.widgets.attribution_view import STOPPED, WAITING
from workbench.widgets.attribution_words import summary
from workbench.widgets.html.attribution import attribution_html
from workbench.widgets.html.twins import MOST_ROWS

PATIENCE_S = 10


def measured(run: FakeAskedRun) -> AttributionView:
    view = AttributionView(run)
    wait_until(lambda: len(run.futures) == 1)
    run.measure()
    assert view.wait(PATIENCE_S)
    return view


def test_an_attribution_is_shown_at_once(page: Page) -> None:
    found = attributed()
    view = AttributionView(found)
    assert (view.state, view.message, view.attribution) == ("done", "", found)
    assert view.wait(0)
    assert repr(view) == "AttributionView(state='done', tokens=13, chunks=3)"
    assert "".join(wire[-1] if len(wire) > 6 else wire[1] for wire in view.tokens) == ANSWER
    assert [one["document"] for one in view.chunks] == list(TEXTS)
    for one, changes, total in zip(view.chunks, found.changes, found.totals, strict=True):
        assert one["changes"] == pytest.approx(changes, abs=1e-6)
        assert one["total"] == pytest.approx(total, abs=1e-6)
    assert [one["score"] for one in view.chunks] == [0.9, 0.89, 0.88]


def test_an_answer_is_shown_before_it_is_measured_and_measured_when_it_has_ended(page: Page) -> None:
    run = FakeAskedRun(done=False)
    view = AttributionView(run)
    assert (view.state, view.message, view.tokens) == ("waiting", WAITING, [])
    run.end()
    wait_until(lambda: len(run.futures) == 1)
    assert view.state == "measuring"
    assert view.message == "Measuring: the model reads the answer again without each of the 3 chunks …"
    assert (len(view.tokens), [one["changes"] for one in view.chunks]) == (13, [[], [], []])
    assert "Measuring" in Reader(view.static_html()).text
    run.measure()
    assert view.wait(PATIENCE_S)
    assert (view.state, view.attribution, len(view.chunks[0]["changes"])) == ("done", run.measured, 13)
    assert page.writes(view, "state") == ["measuring", "done"]


def test_the_page_gets_tokens_and_chunks_once_each_and_together(page: Page) -> None:
    view = measured(FakeAskedRun())
    updates = [data["state"] for _, kind, data in page.messages if kind == "comm_msg" and data["method"] == "update"]
    assert [set(state) for state in updates if "chunks" in state][-1] >= {"chunks", "state", "message"}
    assert len(page.writes(view, "chunks")) == 2
    assert len(page.writes(view, "tokens")) == 1  # the same when they are measured


@pytest.mark.parametrize("is_done", [False, True])
def test_measuring_can_be_given_up_and_begun_again(page: Page, is_done: bool) -> None:
    run = FakeAskedRun(done=is_done)
    view = AttributionView(run)
    if is_done:
        wait_until(lambda: len(run.futures) == 1)
    page.send(view, {"kind": "stop", "id": 7})
    assert page.customs(view) == [{"kind": "reply", "id": 7, "error": None}]
    assert (view.state, view.message) == ("stopped", STOPPED)
    assert [future.cancelled() for future in run.futures] == [True] * is_done
    assert view.wait(PATIENCE_S)
    assert view.state == "stopped"
    view.stop()
    assert run.state == ("finished" if is_done else "running")  # the answer goes on
    if not is_done:
        run.end()
    page.send(view, {"kind": "measure", "id": 8})
    wait_until(lambda: len(run.futures) == 1 + is_done)
    view.measure()  # it goes on
    run.measure()
    assert view.wait(PATIENCE_S)
    assert view.state == "done"
    view.measure()
    assert (len(run.futures), view.state) == (1 + is_done, "done")


def test_a_measurement_that_was_given_up_shows_nothing_when_it_ends_all_the_same(page: Page) -> None:
    run = FakeAskedRun()
    view = AttributionView(run)
    wait_until(lambda: len(run.futures) == 1)
    run.futures[0].set_running_or_notify_cancel()  # too late to be cancelled
    view.stop()
    run.measure()
    assert view.wait(PATIENCE_S)
    assert (view.state, view.attribution) == ("stopped", None)


def test_a_closed_view_measures_no_more(page: Page) -> None:
    run = FakeAskedRun()
    view = AttributionView(run)
    wait_until(lambda: len(run.futures) == 1)
    view.close()
    assert run.futures[0].cancelled()
    assert view.wait(PATIENCE_S)
    view.measure()
    assert len(run.futures) == 1


@pytest.mark.parametrize(
    "problem, words",
    [
        (
            InvalidRequestError("attribution", "a", "b", in_form="This answer has no chunks."),
            "This answer has no chunks.",
        ),
        (UnsupportedFieldError("model", "tiny", "one whose provider offers branch"), "offers branch"),
        (CancelledError(), "The workbench was closed. Open a new one and ask again."),
        (RuntimeError("odd"), "The attribution cannot be measured: odd."),
    ],
)
def test_an_error_is_shown_in_words_and_measuring_can_be_tried_again(
    page: Page, problem: BaseException, words: str
) -> None:
    run = FakeAskedRun()
    view = AttributionView(run)
    wait_until(lambda: len(run.futures) == 1)
    run.futures[0].set_exception(problem)
    assert view.wait(PATIENCE_S)
    assert (view.state, view.attribution) == ("failed", None)
    assert words in view.message
    assert words in Reader(view.static_html()).text
    view.measure()
    wait_until(lambda: len(run.futures) == 2)
    run.measure()
    assert view.wait(PATIENCE_S)
    assert (view.state, view.message) == ("done", "")


def test_a_refusal_before_anything_is_measured_is_shown_too(page: Page) -> None:
    run = FakeAskedRun()
    run.refusal = InvalidRequestError(
        "attribution", "tokens without ids", "used with a provider that reports token ids"
    )
    view = AttributionView(run)
    assert view.wait(PATIENCE_S)
    assert (view.state, run.futures) == ("failed", [])
    assert "reports token ids" in view.message


def test_an_answer_that_failed_is_not_measured(page: Page) -> None:
    run = FakeAskedRun(done=False)
    view = AttributionView(run)
    run.end("failed", RuntimeError("out of memory"))
    assert view.wait(PATIENCE_S)
    assert (view.state, view.message) == ("failed", "The answer failed: out of memory.")
    assert run.futures == []


@pytest.mark.parametrize("given", [None, "run-1", 3, object()])
def test_anything_else_than_an_answer_is_refused_by_name(page: Page, given: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"run must be an answer of bench\.ask\(\), or its attribution"):
        AttributionView(given)  # type: ignore[arg-type]
    assert page.messages == []


@pytest.mark.parametrize("name, given", [("selected", -1), ("selected", 13), ("chosen", -1), ("chosen", 3)])
def test_a_selection_out_of_range_is_refused(page: Page, name: str, given: int) -> None:
    view = AttributionView(attributed())
    with pytest.raises(traitlets.TraitError, match=f"{name} must be"):
        setattr(view, name, given)
    assert getattr(view, name) is None
    setattr(view, name, 2)
    setattr(view, name, None)


def test_a_selection_is_refused_while_there_is_nothing_to_select(page: Page) -> None:
    view = AttributionView(FakeAskedRun(done=False))
    with pytest.raises(traitlets.TraitError, match="selected must be None: there are no tokens"):
        view.selected = 0
    with pytest.raises(traitlets.TraitError, match="chosen must be None: there are no chunks"):
        view.chosen = 0
    view.stop()


class Bench(FakeSession, Views):
    """A session with the methods that open widgets."""


def test_a_cell_that_asks_the_same_again_replaces_its_view(page: Page) -> None:
    session = Bench()
    first = session.attribution(FakeAskedRun())
    other = FakeAskedRun()
    other.prompt = ["another question"]
    kept = session.attribution(other)
    second = session.attribution(FakeAskedRun(run_id="run-2"))
    assert (first.closed, kept.closed, second.closed) == (True, False, False)
    one, same = (attribution(session, attributed()) for _ in range(2))
    assert (one.closed, same.closed) == (True, False)


# --------------------------------------------------------------------------------------------------------- the twin


def test_the_twin_has_the_answer_its_numbers_and_every_chunk() -> None:
    found = attributed()
    reader = Reader(found._repr_html_())
    assert "The 3observatory 1opens at 1nine on 1Fridays, and 2Marta Quill keeps the 2key." in reader.text
    assert "7 of 13 tokens are at least 1.5 times as probable because of a chunk." in reader.text
    assert reader.titles[2] == "raised by [1]: +3.40 nats, ×30.0"
    assert "[1] hours.md · score 0.90 · +6.00 nats on the answer" in reader.text
    assert "[3] history.md · score 0.88 · −1.00 nats on the answer" in reader.text
    assert TEXTS["staff.md"] in reader.text
    assert "behind the school. The observatory was built in 1911 on the…" in reader.text  # folded
    assert "#tokenprobability[1], nats[2], nats[3], nats" in reader.text
    assert "5␣nine89.5 %+3.400.00−1.10" in reader.text
    assert "[1], bits" in Reader(attribution_html(found, "bits")).text


def test_the_widgets_twin_is_that_of_its_attribution_in_its_unit(page: Page) -> None:
    found = attributed()
    view = AttributionView(found)
    assert view.static_html() == found._repr_html_()
    view.unit = "bits"
    assert view.static_html() == attribution_html(found, "bits")


def test_a_long_answer_is_a_table_of_its_first_tokens() -> None:
    text = Reader(attribution_html(large(MOST_ROWS + 40, 2))).text
    assert "40 more tokens." in text
    assert f"{MOST_ROWS}␣w{MOST_ROWS - 1}" in text


def test_what_is_unknown_is_a_dash(page: Page) -> None:
    found = with_unknown(attributed(), 4)
    view = AttributionView(found)
    assert [one["changes"][4] for one in view.chunks] == [None] * 3
    assert [one["total"] for one in view.chunks] == [None] * 3
    text = Reader(view.static_html()).text
    assert "5␣nine––––" in text
    assert "– on the answer" in text
    assert "6 of 13 tokens" in text


def test_an_answer_without_tokens_or_chunks_says_so(page: Page) -> None:
    empty = AttributionView(attributed([], [chunk("a.md", "text")]))
    assert "The answer has no tokens." in Reader(empty.static_html()).text
    assert (empty.tokens, empty.chunks[0]["changes"], empty.chunks[0]["total"]) == ([], [], None)
    alone = AttributionView(attributed(["Yes"], []))
    assert "The prompt has no chunks, so none raised a token." in Reader(alone.static_html()).text
    assert summary([None, None], 3) == "No chunk made any of the 2 tokens 1.5 times as probable."
    assert summary([None, 1], 3) == "1 of 2 tokens is at least 1.5 times as probable because of a chunk."


def test_characters_of_several_tokens_are_whole_in_the_text(page: Page) -> None:
    first, second = "é".encode()[:1], "é".encode()[1:]
    records = [token(0, "\ufffd", raw=first), token(1, "\ufffd", raw=second), token(2, " né")]
    found = attributed(chunks=[chunk("a.md", "x")], records=records, raised={(0, 0): 2.0, (0, 1): 2.0})
    assert "1é né" in Reader(found._repr_html_()).text
    assert [wire[1] for wire in AttributionView(found).tokens] == ["⟨C3⟩", "⟨A9⟩", " né"]


def test_the_number_of_a_stretch_stands_over_its_first_visible_token() -> None:
    raised = {(0, at): 3.0 for at in (1, 2, 3, 5)}
    found = attributed(["One.", "\n", " Two", " words", " and", "\n"], [chunk("a.md", "x")], raised)
    assert found._repr_html_().count("<sup>") == 1
    assert "One.\n 1Two words and\n" in Reader(found._repr_html_()).text


@pytest.mark.parametrize("payload", some(PAYLOADS))
def test_whatever_a_chunk_or_the_model_says_reads_as_text(payload: str) -> None:
    record = TokenRecord(0, 5, payload, payload.encode(), -0.5, 1, 1.0)
    found = attributed(chunks=[chunk(payload, payload)], records=[record], raised={(0, 0): 3.0})
    html = found._repr_html_()
    assert Reader(html).text.count(shown(payload).strip()) >= 1
    assert not {"\x00", "\x1b"} & set(html)


def test_a_name_and_a_text_of_ten_thousand_characters_are_cut() -> None:
    found = attributed([" a"], [chunk("n" * 10_000, "wörd " * 2_000)], {(0, 0): 1.0})
    text = Reader(found._repr_html_()).text
    assert f"[1] {'n' * 59}…" in text
    assert len(text) < 1_000


def test_thousands_of_tokens_and_many_chunks_take_one_pass(page: Page) -> None:
    found = large(2_000, 20)
    view = AttributionView(found)
    assert len(view.tokens) == 2_000
    assert all(len(one["changes"]) == 2_000 for one in view.chunks)
    assert page.size(view) < 600_000
    assert [found.strongest(at) for at in (0, 21, 1_999)] == [0, 1, 19]
    assert not math.isnan(sum(found.totals))
