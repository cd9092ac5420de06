"""The feed: what crosses to the page, how often, and that nothing is lost."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import traitlets

from tests.unit.widgets.fake_session import FakeRun, token, wait_until
from tests.unit.widgets.recorded_page import Page
from workbench.widgets import RunFeed, TokenTable, run_html
from workbench.widgets.wire.run import RunStream, wire_token


def text_of(tokens: list[list[Any]]) -> str:
    return "".join(wire[6] if len(wire) > 6 else wire[1] for wire in tokens)


def finished(page: Page, run: FakeRun, tokens_per_s: float = 5000) -> RunFeed:
    feed = RunFeed(run)
    run.go(tokens_per_s)
    assert feed.wait(60)
    return feed


def test_a_run_is_one_write_at_its_start_deltas_and_what_is_left_at_its_end(page: Page) -> None:
    run = FakeRun()
    feed = finished(page, run, tokens_per_s=400)
    (start,) = page.writes(feed, "snapshot")
    assert (start["state"], start["tokens"]) == ("queued", [])
    news = [delta["news"] for delta in page.customs(feed, "delta")]
    assert [(run_id, sequence) for run_id, sequence, *_ in news] == [("run-1", i + 1) for i in range(len(news))]
    told = [wire for _, _, _, tokens, _ in news for wire in tokens]
    (end,) = page.customs(feed, "end")
    assert (end["state"], end["stop_reason"], end["at"]) == ("finished", "end_of_turn", len(told))
    assert text_of(told + end["tokens"]) == run.text
    assert feed.get_state("snapshot")["snapshot"]["tokens"] == told + end["tokens"]


def test_a_run_whose_tokens_turn_out_otherwise_at_its_end_is_written_as_a_whole(page: Page) -> None:
    run = FakeRun(texts=["one", " two"])
    feed = RunFeed(run)
    run.step(2)
    wait_until(lambda: sum(len(delta["news"][3]) for delta in page.customs(feed, "delta")) == 2)
    run._text = "one to"
    run.finish()
    assert feed.wait(60)
    assert page.customs(feed, "end") == []
    assert text_of(page.writes(feed, "snapshot")[-1]["tokens"]) == "one to"


def test_a_message_says_only_what_has_changed(page: Page) -> None:
    run = FakeRun()
    stream = RunStream(run)
    run.step()
    assert stream.delta()["usage"] == [48, 36, 1, 0.034, None]
    run.step(3)
    assert set(stream.delta()) == {"kind", "news"}
    run.pause()
    assert stream.delta()["state"] == "paused"


def test_a_branch_tells_the_tokens_that_it_kept_once_and_counts_its_own(page: Page) -> None:
    run = FakeRun()
    run.step(100)
    branch = run.branch(30)
    stream = RunStream(branch)
    branch.step()
    assert stream.delta()["usage"] == [48, 66, 1, 0.034, None, 30]
    branch.step()
    assert set(stream.delta()) == {"kind", "news"}
    assert "48 prompt tokens and 30 kept (66 cached) · 2 generated" in run_html(branch)


def test_a_thousand_tokens_that_come_one_by_one_are_a_hundred_and_fifty_kilobytes_at_most(page: Page) -> None:
    run = FakeRun(texts=[f" word{i % 97}" for i in range(1000)])
    stream = RunStream(run)
    size = 0
    for _ in range(1000):
        run.step()
        size += len(json.dumps({"method": "custom", "content": stream.delta()}))
    run.finish()
    assert size + len(json.dumps({"method": "custom", "content": stream.end()[1]})) < 150_000


def test_two_thousand_fast_tokens_stay_below_thirty_messages_and_a_hundred_kilobytes_a_second(page: Page) -> None:
    run = FakeRun(texts=[f" word{i % 97}" for i in range(2000)])
    began_s = time.monotonic()
    feed = finished(page, run, tokens_per_s=900)
    elapsed_s = max(1.0, time.monotonic() - began_s)
    assert len(page.messages) / elapsed_s < 30
    assert page.size(feed) < 150_000 * 2
    assert text_of(feed.snapshot["tokens"]) == run.text


def test_a_page_that_missed_something_asks_and_gets_everything(page: Page) -> None:
    run = FakeRun()
    feed = RunFeed(run)
    run.step(7)
    page.send(feed, {"kind": "snapshot", "id": 9})
    answer = page.customs(feed, "snapshot")[-1]
    assert answer["id"] == 9
    assert text_of(answer["snapshot"]["tokens"]) == run.text
    run.finish("cancelled")
    assert feed.wait(60)


def test_alternatives_come_for_the_positions_that_are_looked_at(page: Page) -> None:
    run = FakeRun()
    feed = finished(page, run)
    page.send(feed, {"kind": "alternatives", "id": 1, "run": "run-1", "from": 3, "to": 5})
    answer = page.customs(feed, "alternatives")[-1]
    assert answer["from"] == 3
    assert [[item[1] for item in items] for items in answer["items"]] == [
        [other.text for other in run.tokens[i].alternatives] for i in (3, 4)
    ]


END = replace(token(44, "<|im_end|>"), is_special=True)


def test_the_end_of_the_turn_crosses_when_the_run_has_ended_and_stands_behind_its_tokens(page: Page) -> None:
    run = FakeRun(end=END)
    feed = RunFeed(run)
    assert (feed.snapshot["end"], feed.end) == (None, None)
    run.go(5000)
    assert feed.wait(60)
    assert page.customs(feed, "end")[-1]["end"] == wire_token(END, "")
    assert text_of(feed.snapshot["tokens"]) == run.text
    assert (len(feed.tokens), feed.steps) == (44, [*run.tokens, END])
    page.set(feed, selected=[44])
    assert feed.selected_tokens == [END]
    page.send(feed, {"kind": "alternatives", "id": 1, "run": "run-1", "from": 43, "to": 45})
    assert [len(items) for items in page.customs(feed, "alternatives")[-1]["items"]] == [5, 5]


def test_a_table_has_a_row_for_the_end_and_a_frame_with_it(page: Page) -> None:
    run = FakeRun(end=END)
    run.step(100)
    table = TokenTable(run)
    assert table.rows == list(range(45))
    assert table.to_frame()["text"].iloc[-1] == "<|im_end|>"
    table.query = "im_end"
    assert table.rows == [44]
    assert "<td>end</td>" in table.static_html()


@pytest.mark.parametrize("span", [{"from": 5, "to": 5}, {"from": -1, "to": 2}, {"from": "0", "to": 2}, {}])
def test_a_request_for_no_positions_is_answered_in_words(page: Page, span: dict[str, Any]) -> None:
    feed = finished(page, FakeRun())
    page.send(feed, {"kind": "alternatives", "id": 1, "run": "run-1", **span})
    assert "positions with 0 <= from < to" in page.customs(feed, "alternatives")[-1]["error"]


def test_a_request_for_the_run_before_is_refused(page: Page) -> None:
    feed = finished(page, FakeRun("run-1"))
    feed.follow(FakeRun("run-2"))
    page.send(feed, {"kind": "alternatives", "id": 1, "run": "run-1", "from": 0, "to": 3})
    assert page.customs(feed, "alternatives")[-1]["error"] == "this run is no longer shown"
    feed.close()


@pytest.mark.parametrize("message", [None, 3, {}, {"kind": "dance"}, {"kind": ["snapshot"]}])
def test_messages_that_mean_nothing_are_ignored(page: Page, message: Any) -> None:
    feed = RunFeed()
    page.send(feed, message)
    assert page.customs(feed) == []


def test_a_new_run_takes_over_and_the_old_one_is_silent(page: Page) -> None:
    first, second = FakeRun("run-1"), FakeRun("run-2")
    feed = RunFeed(first)
    feed.follow(second)
    first.step(100)
    second.step(100)
    assert feed.wait(60)
    assert page.customs(feed, "end")[-1]["run"] == "run-2"
    assert {delta["news"][0] for delta in page.customs(feed, "delta")} <= {"run-2"}


def test_a_failure_is_told_in_words(page: Page) -> None:
    run = FakeRun(texts=["a"], error=MemoryError("memory ran out during a step"))
    feed = finished(page, run)
    end = page.customs(feed, "end")[-1]
    assert (end["state"], end["error"]) == ("failed", "memory ran out during a step")


def test_nothing_is_sent_after_close(page: Page) -> None:
    run = FakeRun()
    feed = RunFeed(run)
    before = len(page.messages)
    feed.close()
    closed = len(page.messages)
    run.step(100)
    feed.wait(60)
    assert before < closed == len(page.messages)


def test_a_selection_may_be_a_number_a_list_or_an_index_of_a_frame(page: Page) -> None:
    feed = RunFeed()
    frame = pd.DataFrame({"rank": [1, 5, 1, 9]})
    for given, expected in [(3, (3,)), ([2, 1], (2, 1)), (None, ()), (frame.index[frame["rank"] > 1], (1, 3))]:
        feed.selected = given
        assert feed.selected == expected
    for wrong in ("5", -1, [1.5, "x"], object()):
        with pytest.raises(traitlets.TraitError):
            feed.selected = wrong
    assert feed.selected == (1, 3)


def test_the_selected_tokens_are_the_records_themselves(page: Page) -> None:
    run = FakeRun(records=[token(i, str(i)) for i in range(5)])
    feed = finished(page, run)
    page.set(feed, selected=[4, 2, 99])
    assert [record.text for record in feed.selected_tokens] == ["4", "2"]


def test_a_report_leaves_the_run_that_is_shown(page: Page) -> None:
    run = FakeRun(texts=["a", " b"])
    run.step(10)
    feed = RunFeed(run)
    feed.report("nobody answers")
    assert (feed.run, feed.snapshot["run"], feed.problem) == (run, run.id, "nobody answers")
    feed.follow(run)
    assert feed.problem == ""
