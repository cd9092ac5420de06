"""The edit view with the embedded model: what it changes, and the distances that it shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.widgets.recorded_page import recorded_page
from workbench import Edit, SamplingParams, UserMessage, Workbench, expect
from workbench.widgets import EditView

PATIENCE_S = 100
GREEDY = SamplingParams(max_tokens=12)


@pytest.fixture(scope="module")
def bench(smollm2_path: Path) -> Iterator[Workbench]:
    assert smollm2_path.exists()
    with Workbench() as bench:
        yield bench


@pytest.fixture
def run(bench: Workbench) -> Any:
    run = bench.completion("The capital of France is", sampling_params=GREEDY)
    run.result()
    return run


@pytest.fixture
def view(bench: Workbench, run: Any) -> Iterator[EditView]:
    with recorded_page():
        view = bench.edit(run)
        assert view.wait(PATIENCE_S)
        assert view.message == ""
        yield view


def started(view: EditView) -> Any:
    """The edited runs: the one that answers anew, and the one that is given the tokens of the original."""
    view.start()
    assert view.wait(PATIENCE_S)
    assert view.message == ""
    return view.comparison.runs[1:]


def test_an_ablated_layer_is_measured_at_every_token(view: EditView, run: Any) -> None:
    view.ablate("layer", 3)
    edited, given = started(view)
    assert [token.token_id for token in given.tokens] == [token.token_id for token in run.tokens]
    free, kept = view.comparison.comparison.pairs
    assert kept.divergence is None
    assert len(kept.kl_nats) == len(run.tokens)
    for position, distance in enumerate(kept.kl_nats):
        assert distance == pytest.approx(expect.effect(run, given, position=position, kl_at_least=0.0), abs=1e-5)
    assert kept.mean_kl_nats is not None
    assert kept.mean_kl_nats > 0.1
    own = run.edit(
        Edit(point="attn_out.3", operation="scale", value=0.0), Edit(point="mlp_out.3", operation="scale", value=0.0)
    )
    assert own.result().completion_message == edited.result().completion_message
    assert free.divergence is None or free.divergence.position < len(run.tokens)


def test_numbers_put_back_where_they_were_change_nothing(view: EditView, run: Any) -> None:
    view.patch(run, 12, 4)
    edited, given = started(view)
    assert [token.token_id for token in edited.tokens] == [token.token_id for token in run.tokens]
    _, kept = view.comparison.comparison.pairs
    assert max(kept.kl_nats) == 0
    assert np.array_equal(given.logprobs(3), run.logprobs(3))


def test_a_patch_from_a_second_prompt_moves_the_answer(view: EditView, run: Any) -> None:
    view._read_prompt("The capital of Italy is")
    assert view.wait(PATIENCE_S)
    assert view.source["labels"][:5] == ["The", " capital", " of", " Italy", " is"]
    before = _probability(run, " Rome")
    other = next(one for one in view._known if one.id == view.source["id"])
    for layer in (6, 9, 12):
        view.patch(other, layer, 3)
    edited, _ = started(view)
    assert _probability(edited, " Rome") > 10 * before


def test_means_and_single_heads_are_the_edits_that_they_name(view: EditView, run: Any) -> None:
    view.ablate("head", 2, 5, method="mean", position=3)
    edited, _ = started(view)
    (edit,) = edited.request.edits
    assert (edit.point, edit.operation, edit.head, edit.start, edit.stop) == ("z.2", "set", 5, 3, 4)
    assert np.allclose(edit.value, run.capture("z.2")["z.2"][:, 5].mean(0), atol=1e-6)


def test_steering_moves_words_of_one_set_of_texts_up(bench: Workbench) -> None:
    run = bench.chat_completion([UserMessage(content="How was the film?")], sampling_params=GREEDY)
    run.result()
    with recorded_page():
        view = bench.edit(run)
        assert view.wait(PATIENCE_S)
        view.steer("I love this so much.\nWonderful, great!", "I hate this so much.\nTerrible, awful!", 12, 2.0)
        started(view)
        _, kept = view.comparison.comparison.pairs
        assert kept.mean_kl_nats is not None
        assert kept.mean_kl_nats > 0.01
        assert "Steer after layer 12: +2.0" in view.static_html()


def _probability(run: Any, text: str) -> float:
    frame = run.distribution(0)
    return float(frame[frame.text == text].probability.iloc[0])
