"""The tree of a prompt's runs: read from their tokens alone, and the same for every way in which they came about."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.widgets.fake_session import FakeRun, FakeSession, token
from tests.unit.widgets.hostile import PAYLOADS
from tests.unit.widgets.recorded_page import Page
from workbench.errors import InvalidRequestError
from workbench.records import TokenRecord
from workbench.widgets import RunFeed, TokenTree, playground
from workbench.widgets.branches import MOST_COLUMNS, arrange, common_length, forks, wire_branches
from workbench.widgets.contract import RunLike

IDS = st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=8)


def run_of(name: str, ids: list[int]) -> FakeRun:
    records = [
        TokenRecord(i, token_id, f" {token_id}", f" {token_id}".encode(), -1.0, 1, 1.0)
        for i, token_id in enumerate(ids)
    ]
    return finished(FakeRun(name, records=records))


def finished(run: FakeRun) -> FakeRun:
    run.step(100_000)
    return run


def ids_of(run: RunLike) -> list[int]:
    return [record.token_id for record in run.tokens]


@given(IDS)
def test_every_run_is_a_branch_or_the_beginning_of_one(lists: list[list[int]]) -> None:
    runs = [run_of(f"run-{i}", ids) for i, ids in enumerate(lists)]
    for shown in (None, *runs):
        rows = [ids_of(branch.run) for branch in arrange(runs, shown)]
        for run in runs:
            assert any(row[: len(run.tokens)] == ids_of(run) for row in rows)
        assert shown is None or ids_of(shown) in rows


@given(IDS)
def test_a_branch_leaves_the_one_with_which_it_shares_most_and_stands_below_it(lists: list[list[int]]) -> None:
    runs = [run_of(f"run-{i}", ids) for i, ids in enumerate(lists)]
    branches = arrange(runs, runs[-1])
    for row, branch in enumerate(branches):
        if branch.parent is None:
            assert (row, branch.at) == (0, 0)
            continue
        assert branch.parent < row
        own = ids_of(branch.run)
        assert branch.at == common_length(own, ids_of(branches[branch.parent].run))
        assert branch.at >= branches[branch.parent].at


@given(IDS)
def test_no_line_down_to_a_branch_crosses_another_branch(lists: list[list[int]]) -> None:
    branches = arrange([run_of(f"run-{i}", ids) for i, ids in enumerate(lists)], None)
    for row, branch in enumerate(branches):
        for between in branches[(branch.parent or 0) + 1 : row]:
            assert branch.parent is None or between.at >= branch.at


@given(IDS)
def test_forks_are_where_another_run_has_another_token(lists: list[list[int]]) -> None:
    runs = [run_of(f"run-{i}", ids) for i, ids in enumerate(lists)]
    shown = ids_of(runs[0])
    for position in range(len(shown)):
        parts = [ids for run in runs if (ids := ids_of(run))[:position] == shown[:position] and len(ids) > position]
        assert (position in forks(runs[0], runs)) == any(ids[position] != shown[position] for ids in parts)


def test_a_continuation_takes_the_place_of_what_it_continues_unless_that_is_shown() -> None:
    part, whole = run_of("run-1", [1, 2]), run_of("run-2", [1, 2, 3])
    assert [branch.run for branch in arrange([part, whole], whole)] == [whole]
    assert [branch.run for branch in arrange([part, whole], part)] == [part, whole]


def test_branches_are_numbered_without_a_gap_and_a_continuation_keeps_the_number() -> None:
    part, other, whole = run_of("run-1", [1, 2]), run_of("run-2", [1, 3]), run_of("run-3", [1, 2, 3])

    def names(runs: list[FakeRun], shown: FakeRun) -> dict[str, int]:
        return {branch["run"]: branch["name"] for branch in wire_branches(arrange(runs, shown), shown, runs)}

    assert names([part, whole], whole) == {"run-3": 1}
    assert names([part, other], other) == {"run-1": 1, "run-2": 2}
    assert names([part, other, whole], whole) == {"run-3": 1, "run-2": 2}
    assert names([part, other, whole], part) == {"run-1": 1, "run-2": 2, "run-3": 3}


def test_a_branch_of_many_tokens_has_no_more_bars_than_there_is_room_for() -> None:
    long, other = run_of("run-1", [1] * 1000), run_of("run-2", [1] * 500 + [2] * 500)
    first, second = wire_branches(arrange([long, other], long), long, [long, other])
    assert len(first["bits"]) == MOST_COLUMNS
    assert len(second["bits"]) == MOST_COLUMNS // 2
    assert (second["at"], second["own"][0], second["instead"][0]) == (500, " 2", " 1")


# ------------------------------------------------------------------------------------------------- feed and widget


@pytest.fixture
def feed(page: Page) -> Iterator[RunFeed]:
    made = RunFeed()
    yield made
    made.close()


def test_the_feed_keeps_the_runs_of_one_prompt_and_begins_anew_with_another(feed: RunFeed) -> None:
    first, second = finished(FakeRun("run-1")), finished(FakeRun("run-2", texts=["Else"]))
    feed.follow(first)
    feed.follow(second)
    assert (feed.runs, feed.forks) == ((first, second), [0])
    feed.follow(first)
    assert feed.runs == (first, second)
    feed.follow(finished(FakeRun("run-3", prompt="Another")))
    assert (len(feed.runs), feed.forks) == (1, [])


def test_a_run_that_goes_on_unseen_joins_the_tree_when_it_ends(feed: RunFeed) -> None:
    tree = TokenTree(feed=feed)
    unseen, seen = FakeRun("run-1", texts=["One", " two"]), finished(FakeRun("run-2", texts=["One", " three"]))
    feed.follow(unseen)
    unseen.step(1)
    ticker = feed._ticker
    feed.follow(seen)
    assert len(tree.branches) == 1
    finished(unseen)
    assert ticker is not None
    ticker.join(60)
    assert [branch["run"] for branch in tree.branches] == ["run-1", "run-2"]
    assert tree.runs == (unseen, seen)


def test_a_branch_is_chosen_in_the_page_and_in_python(page: Page, feed: RunFeed) -> None:
    runs = [finished(FakeRun(f"run-{i}", texts=["One", f" {i}"])) for i in (1, 2)]
    tree = TokenTree(runs)
    page.send(tree, {"kind": "choose", "id": 1, "run": "run-1"})
    assert page.customs(tree, "reply") == [{"kind": "reply", "id": 1, "error": None}]
    assert tree.feed.run is runs[0]
    tree.choose(runs[1])
    assert (tree.feed.run, repr(tree)) == (runs[1], "TokenTree(branches=2, shown='run-2')")
    page.send(tree, {"kind": "choose", "id": 2, "run": "run-9"})
    assert "one of run-1, run-2" in page.customs(tree, "reply")[-1]["error"]
    with pytest.raises(InvalidRequestError, match="run-9"):
        tree.choose("run-9")
    tree.close()
    assert tree.feed.closed


def test_the_twin_of_a_tree_tells_where_its_branches_part(page: Page) -> None:
    tree = TokenTree([finished(FakeRun(f"run-{i}", texts=["One", text])) for i, text in enumerate(PAYLOADS)])
    html = tree.static_html()
    assert "<script" not in html
    assert html.count("<tr>") == 1 + len(tree.branches) > 20


def test_the_playground_counts_its_branches(page: Page) -> None:
    opened = playground(FakeSession())
    assert opened.branches == 0
    opened.feed.follow(finished(FakeRun("run-1", records=[token(0, "a")])))
    opened.feed.follow(finished(FakeRun("run-2", records=[token(0, "b")])))
    assert (opened.branches, len(opened.tree.branches)) == (2, 2)
    opened.close()
