"""The attention view without a browser: what is read, when, what is sent, and what its static twin says."""

from __future__ import annotations

import math
import threading
from functools import partial

import numpy as np
import pytest

from tests.unit.widgets.fake_insides import HEADS, LAYERS
from tests.unit.widgets.fake_session import FakeInspector, FakeRun, FakeSession, wait_until, words
from tests.unit.widgets.hostile import PAYLOADS
from tests.unit.widgets.recorded_page import Page
from workbench.errors import ClosedError
from workbench.protocol import UserMessage
from workbench.widgets import AttentionView, RunFeed, attention
from workbench.widgets.attention_view import NO_RUN, NOT_HERE
from workbench.widgets.attention_words import MOST_ARCS, rest_words, strongest
from workbench.widgets.background import Newest
from workbench.widgets.wire.attention import MOST_AVERAGED, MOST_WEIGHTS, sampled

PATIENCE_S = 30
PROMPT_TOKENS = 10
HELLO = [UserMessage(content="Hello you")]


def ended(texts: list[str] | None = None, *, prompt: object = HELLO) -> FakeRun:
    run = FakeRun(texts=texts or ["The", " sky"], prompt=prompt)
    run.step(100_000)
    return run


def read(view: AttentionView) -> AttentionView:
    assert view.wait(PATIENCE_S)
    return view


def test_the_last_token_is_shown_first_with_one_row_of_weights(page: Page) -> None:
    run = ended()
    view = read(AttentionView(run))
    assert (view.shape, view.position, view.message) == ([LAYERS, HEADS], PROMPT_TOKENS + 1, "")
    assert view.prompt == [token.text for token in run.render().tokens]
    assert view.row == {"layer": 0, "head": 0, "position": PROMPT_TOKENS + 1, "weights": view.row["weights"]}
    assert sum(view.row["weights"]) == pytest.approx(1, abs=1e-3)
    assert np.allclose(view.row["weights"], run.attention(0, 0).iloc[-1], atol=1e-4)
    assert view.feed.selected == ()  # nobody has selected it
    assert max(len(one.get("weights", ())) for one in page.writes(view, "row")) == PROMPT_TOKENS + 2


@pytest.mark.parametrize("layer, head, position", [(0, 1, 0), (5, 3, 4), (2, 2, PROMPT_TOKENS), (4, 0, 1)])
def test_any_choice_gets_its_own_row_of_the_whole_matrix(page: Page, layer: int, head: int, position: int) -> None:
    run = ended()
    view = read(AttentionView(run))
    page.set(view, layer=layer, head=head, position=position)
    assert (read(view).row["layer"], view.row["head"], view.row["position"]) == (layer, head, position)
    whole = run.attention(layer, head).iloc[position]
    assert np.allclose(view.row["weights"], whole[: position + 1], atol=1e-4)
    assert not whole[position + 1 :].any()


def test_another_head_of_a_token_is_not_computed_again(page: Page) -> None:
    run = ended()
    view = read(AttentionView(run))
    assert run.inspector.insides is not None
    captured = run.inspector.insides.captured
    before = len(captured)
    for layer in range(LAYERS):
        page.set(view, layer=layer, head=layer % HEADS)
        assert (read(view).row["layer"], view.row["head"]) == (layer, layer % HEADS)
    assert len(captured) == before
    page.set(view, position=3)
    assert read(view).row["position"] == 3
    assert captured[before:] == [([f"attn_probs.{layer}" for layer in range(LAYERS)], [3])]


def test_of_a_large_model_one_layer_is_read_at_a_time(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.widgets.attention_view._MOST_NUMBERS", 50)
    run = ended()
    view = read(AttentionView(run))
    assert run.inspector.insides is not None
    page.set(view, layer=4, head=1)
    assert np.allclose(read(view).row["weights"], run.attention(4, 1).iloc[-1], atol=1e-4)
    assert (["attn_probs.4"], [PROMPT_TOKENS + 1]) in run.inspector.insides.captured


def test_the_numbers_of_all_heads_are_those_of_their_whole_matrices(page: Page) -> None:
    run = ended()
    view = read(AttentionView(run))
    assert (len(view.heads), view.averaged) == (LAYERS, PROMPT_TOKENS + 1)
    for layer, head in [(0, 0), (3, 1), (5, 3)]:
        matrix = run.attention(layer, head).to_numpy()[1:]
        previous = np.mean([row[at] for at, row in enumerate(matrix)])
        logs = np.log(matrix, out=np.zeros_like(matrix), where=matrix > 0)
        expected = [matrix[:, 0].mean(), previous, -(matrix * logs).sum(1).mean()]
        assert view.heads[layer][head] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("length", [1, 2, 60, 5_000, 131_072])
def test_of_long_texts_the_heads_are_averaged_over_tokens_that_fit_in_memory(length: int) -> None:
    heads = LAYERS * 64
    positions = sampled(length, heads)
    assert positions[-1] == length - 1
    assert positions[0] >= min(1, length - 1)
    assert heads * sum(positions) <= MOST_WEIGHTS or len(positions) == 1
    assert len(positions) == min(MOST_AVERAGED, max(1, length - 1)) or length > 500


def test_a_selection_elsewhere_is_the_choice_here_and_the_other_way_round(page: Page) -> None:
    feed = RunFeed(ended())
    view = read(AttentionView(feed=feed))
    feed.selected = 0
    assert read(view).row["position"] == PROMPT_TOKENS
    page.set(view, position=PROMPT_TOKENS + 1)
    assert read(view).row["position"] == PROMPT_TOKENS + 1
    assert feed.selected == (1,)
    page.set(view, position=3)  # a token of the prompt, which other views do not have
    assert read(view).row["position"] == 3
    assert feed.selected == (1,)


def test_another_run_begins_anew_and_a_text_that_was_read_has_no_prompt(page: Page) -> None:
    feed = RunFeed(ended())
    view = read(AttentionView(feed=feed))
    reading = FakeSession(tokens_per_s=1e6).reading("one two three")
    assert reading.wait(PATIENCE_S)
    feed.follow(reading)
    assert (read(view).prompt, view.position, len(view.row["weights"])) == ([], 2, 3)
    feed.clear()
    assert (view.message, view.shape, view.row, view.position) == (NO_RUN, [], {}, None)


def test_while_a_run_goes_on_rows_are_read_and_the_heads_wait_for_its_end(page: Page) -> None:
    run = FakeRun(texts=["The", " sky", " is"], prompt=HELLO)
    view = AttentionView(run)
    assert view.message.startswith("Waiting")
    run.step()
    assert read(view).position == PROMPT_TOKENS
    assert view.heads == []
    run.step(100)
    wait_until(lambda: len(view.heads) == LAYERS)
    assert view.position == PROMPT_TOKENS  # it stays where it was


def test_nothing_is_read_while_nobody_looks(page: Page) -> None:
    run = ended()
    view = AttentionView(run, active=False)
    assert read(view).shape == []
    assert run.inspector.insides is not None
    assert run.inspector.insides.captured == []
    view.active = True
    assert len(read(view).heads) == LAYERS


class Elsewhere(FakeInspector):
    @property
    def insides(self) -> None:
        return None


def test_a_model_elsewhere_an_empty_answer_and_a_closed_model_are_told_in_words(page: Page) -> None:
    run = ended()
    run.inspector = Elsewhere(run)
    view = read(AttentionView(run))
    assert view.message == NOT_HERE
    assert NOT_HERE in view.static_html()
    empty = FakeRun(texts=[])
    empty.finish()
    assert read(AttentionView(empty)).message == "There is no token to look at."
    closed = ended()
    assert closed.inspector.insides is not None
    closed.inspector.insides.is_closed = True
    assert "the model of this run was closed" in read(AttentionView(closed)).message


def test_a_layer_that_another_model_lacks_becomes_its_last(page: Page) -> None:
    feed = RunFeed(ended())
    view = AttentionView(feed=feed)
    view.layer, view.head = 70, 90
    assert (read(view).row["layer"], view.row["head"]) == (LAYERS - 1, HEADS - 1)


def test_the_twin_has_arcs_their_weights_and_a_table_of_heads(page: Page) -> None:
    view = read(AttentionView(ended(words("one two three four five " * 12))))
    page.set(view, head=1, position=50)
    twin = read(view).static_html()
    assert twin.count("<path") == len([one for one in view.row["weights"][11:] if one >= 0.005])
    assert twin.count("<text") == 40
    assert "Token 51 in layer 0, head 1. Derived: the weights are computed again" in twin
    assert twin.count('<th scope="row">') == LAYERS
    assert "share on the first token" in twin
    view.measure = "entropy"
    assert f"<td>{view.heads[0][3][2] / math.log(2):.2f}</td>" in view.static_html()


def test_whatever_tokens_say_is_text_in_the_twin(page: Page) -> None:
    twin = read(AttentionView(ended(list(PAYLOADS), prompt="Hi"))).static_html()
    assert not any(word in twin.lower() for word in ("<script", "<img", "<iframe"))


def test_opening_it_again_closes_the_one_before(page: Page) -> None:
    session, run = FakeSession(), ended()
    first = attention(session, run)
    assert attention(session, run).closed is False
    assert first.closed


@pytest.mark.parametrize(
    "weights, keys, rest",
    [
        ([0.25, 0.5, 0.25], [1, 0, 2], ""),
        ([0.001, 0.999], [1], "1 other token: 0.100 %"),
        ([0.0, None, 1.0], [2], ""),
        ([0.02] * 50, list(range(MOST_ARCS)), "26 other tokens: 52.0 %"),
    ],
)
def test_the_strongest_are_shown_and_the_others_summed_up(
    weights: list[float | None], keys: list[int], rest: str
) -> None:
    assert strongest(weights) == keys
    assert rest_words(weights, keys) == rest


def test_of_work_that_waits_only_the_newest_is_done() -> None:
    begun, may_end = threading.Event(), threading.Event()
    done: list[int] = []

    def first() -> None:
        begun.set()
        may_end.wait(PATIENCE_S)
        done.append(0)

    newest = Newest("test")
    newest.start(first)
    assert begun.wait(PATIENCE_S)
    for number in range(1, 10):
        newest.start(partial(done.append, number))
    may_end.set()
    assert newest.wait(PATIENCE_S)
    assert done == [0, 9]
    newest.start(lambda: done.append(10))
    assert newest.wait(PATIENCE_S)
    assert done[-1] == 10


def test_a_closed_view_reads_no_more(page: Page) -> None:
    run = ended()
    view = read(AttentionView(run))
    view.close()
    assert run.inspector.insides is not None
    before = len(run.inspector.insides.captured)
    view.position = 0
    assert view.wait(PATIENCE_S)
    assert len(run.inspector.insides.captured) == before
    run.inspector.insides.is_closed = True
    with pytest.raises(ClosedError):
        run.attention_row(0, 0, 0)
