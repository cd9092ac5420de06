"""A run is looked into and edited: tables with named rows, edits that are kept and replayed, and clear refusals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from tests import ended_runs
from tests.ended_runs import facts
from tests.fakes.models import FakeDecoder, scripted_speech
from tests.fakes.serving import FakeModels
from tests.tiny_models import save_model
from workbench import Edit, InvalidRequestError, SamplingParams, SamplingStrategy, UnsupportedFieldError, Workbench
from workbench.errors import InsufficientMemoryError, WorkbenchError

PATIENCE_S = 120.0
PROMPT = "the quick brown fox jumps over the lazy dog and runs away into the dark forest"
NO_END = {0: -100.0}
"""Bias that keeps a random model from ending its answer."""
GREEDY = SamplingParams(max_tokens=8, logit_bias=NO_END)
SAMPLED = SamplingParams(
    strategy=SamplingStrategy.top_p, temperature=0.9, top_p=0.95, max_tokens=8, seed=3, logit_bias=NO_END
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("insides") / "tiny", "llama")


@pytest.fixture(scope="module", params=["float32", "int4"])
def bench(request: pytest.FixtureRequest, folder: Path) -> Iterator[Workbench]:
    config = (
        {"models": [str(folder)], "quantization": {"type": request.param}}
        if request.param == "int4"
        else {"models": [str(folder)]}
    )
    provider = {"provider_id": "here", "provider_type": "inline::transformers", "config": config}
    with Workbench({"version": "2", "image_name": "tiny", "providers": {"inference": [provider]}}) as bench:
        yield bench


@pytest.fixture(scope="module")
def run(bench: Workbench) -> Any:
    return ended(bench.completion(PROMPT, sampling_params=SAMPLED))


def ended(run: Any) -> Any:
    return ended_runs.ended(run, PATIENCE_S)


# -------------------------------------------------------------------------------------------------------- looking in


def test_a_capture_has_named_arrays_axes_and_tables(run: Any) -> None:
    captured = run.capture(["z.1", "blocks.0.hook_resid_post", "lm_head", "attn_scores.0"], [0, 3, 5])
    assert list(captured) == ["attn_scores.0", "resid_post.0", "z.1", "lm_head"]
    assert captured.positions == (0, 3, 5)
    assert captured.axes("z.1") == ("token", "head", "component")
    assert captured["z.1"].shape == (3, 4, 8)
    assert captured["layers_output[0]"] is captured["resid_post.0"]
    assert "resid_post.0" in captured
    assert "resid_post.1" not in captured
    assert "nonsense" not in captured
    assert captured.is_derived("attn_scores.0")
    assert not captured.is_derived("z.1")
    assert np.isneginf(captured["attn_scores.0"][0, :, 1:]).all()
    table = captured.frame("z.1", head=2)
    assert table["text"].tolist() == list(captured.texts)
    assert table.drop(columns="text").to_numpy() == pytest.approx(captured["z.1"][:, 2])
    assert captured.nbytes == sum(array.nbytes for array in captured.values())


def test_the_memory_of_a_capture_is_told_before_and_is_at_least_what_it_takes(run: Any) -> None:
    points = ["resid_post", "attn_probs", "mlp_act", "lm_head"]
    assert run.capture_bytes(points) >= run.capture(points).nbytes


def test_a_capture_that_does_not_fit_is_refused_before_it_starts(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.providers.transformers.insides.memory_available_bytes", lambda: 0)
    with pytest.raises(InsufficientMemoryError, match="at 1 positions takes"):
        run.capture("resid_post", 0)


def test_looking_changes_nothing_and_each_table_fits_the_run(run: Any, bench: Workbench) -> None:
    before = facts(run)
    for position, token in enumerate(run.tokens):
        lens = run.lens(position, words=3)
        assert len(lens) == len(lens["layer"].unique()) == 2
        last = lens.iloc[-1]
        assert math.log(last["probability"]) == pytest.approx(token.logprob, abs=1e-5)
        assert last["rank"] == token.rank
        assert list(lens.columns) == [
            *("layer", "probability", "rank", "word 1", "word 2", "word 3"),
            *("probability 1", "probability 2", "probability 3"),
        ]
        parts = run.attribution(position)
        assert parts["part"].iloc[0] == "embeddings"
        logits = run.capture("lm_head", _before(run, position))["lm_head"][0]
        assert parts["logit"].sum() == pytest.approx(float(logits[token.token_id]), abs=1e-4)
    weights = run.attention(1, 2)
    assert weights.shape == (len(run.insides.token_ids),) * 2
    assert weights.sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-5)
    for position in (0, 5, len(weights) - 1):
        row = run.attention_row(1, 2, position)
        assert row.to_numpy() == pytest.approx(weights.iloc[position, : position + 1].to_numpy(), abs=1e-6)
        assert list(row.index) == list(weights.columns[: position + 1])
    some = run.attention_heads([1], [0, 3, 5])
    assert list(some["layer"]) == [1] * 4
    assert some.iloc[2]["on_previous"] == pytest.approx((weights.iloc[3, 2] + weights.iloc[5, 4]) / 2, abs=1e-6)
    heads = run.attention_heads()
    assert len(heads) == 8
    assert heads["entropy"].between(0, math.log(len(weights))).all()
    assert heads.iloc[6]["on_first"] == pytest.approx(weights.iloc[1:, 0].mean(), abs=1e-6)
    assert facts(run) == before
    assert facts(ended(bench.completion(PROMPT, sampling_params=SAMPLED))) == before


def _before(run: Any, position: int) -> int:
    return int(run.insides.prompt_length) + position - 1


def test_another_token_can_be_explained_in_a_tokens_place(run: Any) -> None:
    other = next(int(token_id) for token_id in run.distribution(2)["token_id"] if token_id != run.tokens[2].token_id)
    logits = run.capture("lm_head", _before(run, 2))["lm_head"][0]
    assert run.logit_parts(2, other).logit == pytest.approx(float(logits[other]), abs=1e-4)


def test_points_that_are_named_at_the_start_are_there_at_the_end(bench: Workbench) -> None:
    run = bench.completion(PROMPT, sampling_params=GREEDY, capture=["resid_post.1"])
    assert list(run.captured) == ["resid_post.1"]
    assert run.captured is run.captured
    again = ended(bench.completion(PROMPT, sampling_params=GREEDY))
    assert np.array_equal(run.captured["resid_post.1"], again.capture("resid_post.1")["resid_post.1"])
    with pytest.raises(InvalidRequestError, match="capture must be"):
        _ = again.captured


def test_a_reading_is_looked_into_from_its_second_token_on(bench: Workbench) -> None:
    reading = ended(bench.reading(PROMPT))
    last = reading.lens(3).iloc[-1]
    assert math.log(last["probability"]) == pytest.approx(reading.tokens[3].logprob, abs=0.05)
    assert len(reading.lens_columns()) == len(reading.tokens) - 1
    assert reading.capture("resid_post.0")["resid_post.0"].shape[0] == len(reading.tokens)
    with pytest.raises(InvalidRequestError, match="position must be a token of the run, from 1"):
        reading.lens(0)


def test_the_points_of_a_model_are_listed_with_what_it_lacks(bench: Workbench) -> None:
    points = bench.points()
    assert points["name"].tolist()[0] == "embeddings"
    assert points.set_index("name").loc["z.{layer}", "axes"] == "head 4, component 8"
    assert not points.set_index("name").loc["attn_probs.{layer}", "computed"]
    assert (points["missing"] == "").all()


def test_a_jacobian_lens_is_fitted_kept_and_used(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    run = ended(bench.completion(PROMPT, sampling_params=SAMPLED))
    with pytest.raises(UnsupportedFieldError, match="no Jacobian lens of tiny has been fitted"):
        run.lens(0, kind="jacobian")
    with pytest.raises(InvalidRequestError, match=r"texts\[1\] must be longer than 16 tokens"):
        bench.fit_lens([PROMPT, "short"])
    for wrong in ([], "text", [3], [" "]):
        with pytest.raises(InvalidRequestError, match="texts"):
            bench.fit_lens(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="seconds"):
        bench.fit_lens([PROMPT], seconds=0)
    told: list[tuple[int, int]] = []
    fit = bench.fit_lens([PROMPT, PROMPT[::-1]], progress=lambda found: told.append((found.texts_done, found.texts)))
    assert (fit.texts_done, fit.texts) == (2, 2)
    assert told == [(1, 2), (2, 2)]
    assert [path.suffixes for path in (tmp_path / "lenses").iterdir()] == [[".safetensors"]]
    jacobian, logit = run.lens(0, kind="jacobian"), run.lens(0)
    assert jacobian.iloc[-1].equals(logit.iloc[-1]), "after the last layer both read the same"
    assert jacobian.iloc[0]["probability"] != logit.iloc[0]["probability"]


# ------------------------------------------------------------------------------------------------------------ editing


def test_an_edit_that_changes_nothing_gives_the_run_again_bit_for_bit(run: Any) -> None:
    captured = run.capture(["resid_post.0", "z.1"])
    for name in captured:
        edits = [captured.patch(name, position) for position in captured.positions]
        assert facts(ended(run.edit(*edits))) == facts(run)


def test_a_patch_carries_a_number_from_one_run_to_another(bench: Workbench, run: Any) -> None:
    """All of the stream at the last position is the other run's, so the first token is the other's, too."""
    other = ended(bench.completion("a completely other text about some ships", sampling_params=GREEDY))
    source, target = _before(other, 0), _before(run, 0)
    patched = ended(run.edit(other.capture("resid_post.1").patch("resid_post.1", source, to=target)))
    assert patched.logprobs(0) == pytest.approx(other.logprobs(0), abs=1e-6)
    assert patched.tokens[0].token_id != -1


def test_edits_add_up_and_are_kept_by_branches_capsules_and_replays(bench: Workbench, run: Any) -> None:
    first = ended(run.edit(Edit(point="mlp_out.0", operation="scale", value=0.2)))
    second = ended(first.edit(Edit(point="resid_post.0", operation="add", value=0.3, start=4, stop=9)))
    assert len(second.request.edits) == 2
    assert second.parent is first
    assert facts(second) != facts(first) != facts(run)
    assert facts(ended(second.branch(4))) == facts(second)
    assert facts(ended(second.again(seed=3))) == facts(second)
    capsule = wb.Capsule.from_json(second.capsule.to_json())
    assert len(capsule.request.edits or []) == 2
    replayed = wb.replay(capsule, bench)
    assert facts(replayed.run) == facts(second)
    inside = second.capture("resid_post.0", [3, 4, 8, 9])["resid_post.0"]
    before = first.capture("resid_post.0", [3, 4, 8, 9])["resid_post.0"]
    assert inside - before == pytest.approx(np.array([[0.0], [0.3], [0.3], [0.0]]) * np.ones(32), abs=1e-5)


def test_with_the_same_tokens_every_position_can_be_compared(run: Any) -> None:
    edited = ended(run.edit(Edit(point="attn_out.1", operation="scale", value=0), keep_tokens=True))
    assert [token.token_id for token in edited.tokens] == [token.token_id for token in run.tokens]
    found = [wb.expect.effect(run, edited, position=position, kl_at_least=0.0) for position in range(len(run.tokens))]
    by_definition = [
        float((np.exp(run.logprobs(position)) * (run.logprobs(position) - edited.logprobs(position))).sum())
        for position in range(len(run.tokens))
    ]
    assert found == pytest.approx(by_definition, abs=1e-5)
    assert max(found) > 0.001


def test_edited_runs_are_the_same_together_as_alone(bench: Workbench) -> None:
    edits = [
        [],
        [Edit(point="z.0", operation="scale", value=0, head=1)],
        [Edit(point="value.1", operation="add", value=1.5)],
    ]
    alone = [ended(bench.completion(PROMPT, sampling_params=SAMPLED, edits=one)) for one in edits]
    together = [bench.completion(PROMPT, sampling_params=SAMPLED, edits=one) for one in edits]
    assert [facts(ended(one)) for one in together] == [facts(one) for one in alone]


def test_steering_adds_a_vector_that_is_the_difference_of_means(bench: Workbench) -> None:
    towards, away = ["ships and seas", "a long sea voyage"], ["the dark forest"]
    vector = bench.steering_vector(towards, away, point="resid_post.0")
    means = []
    for texts in (towards, away):
        arrays = [ended(bench.reading(text)).capture("resid_post.0")["resid_post.0"][1:] for text in texts]
        means.append(np.mean([array.mean(0) for array in arrays], 0))
    assert vector == pytest.approx(means[0] - means[1], abs=1e-6)
    steered = ended(bench.steer(PROMPT, vector, point="resid_post.0", factor=-2.0, sampling_params=GREEDY))
    value: Any = -2.0 * vector
    edit = Edit(point="resid_post.0", operation="add", value=value)
    assert facts(steered) == facts(ended(bench.completion(PROMPT, sampling_params=GREEDY, edits=[edit])))


# ----------------------------------------------------------------------------------------------------------- refusals

REFUSED: list[tuple[Callable[[Any], Any], str]] = [
    (lambda run: run.capture("resid_pots"), "points must be|points\\[0\\] must be"),
    (lambda run: run.capture([]), "points must be a list"),
    (lambda run: run.capture(["resid_post.2"]), "layer from 0 to 1"),
    (lambda run: run.capture("resid_post.0", 10_000), "positions must be from 0 to"),
    (lambda run: run.capture("resid_post.0", -1), "positions must be"),
    (lambda run: run.capture("resid_post.0", []), "positions must be at least one"),
    (lambda run: run.capture("resid_post.0", "all"), "positions must be"),
    (lambda run: run.capture("resid_post.0", [True]), "positions must be"),
    (lambda run: run.lens(100), "position must be a token of the run, from 0 to 7"),
    (lambda run: run.lens(0, kind="tuned"), "kind must be one of logit, jacobian"),
    (lambda run: run.lens(0, words=0), "words must be"),
    (lambda run: run.attention(2, 0), "layer must be a layer from 0 to 1"),
    (lambda run: run.attention(0, 4), "head must be a head from 0 to 3"),
    (lambda run: run.attention_row(0, 4, 0), "head must be a head from 0 to 3"),
    (lambda run: run.attention_row(0, 0, 10_000), "positions must be from 0 to"),
    (lambda run: run.attention_heads([0, 2]), "layer must be a layer from 0 to 1"),
    (lambda run: run.attribution(99), "position must be"),
    (lambda run: run.edit(), "edits must be at least one Edit"),
    (lambda run: run.edit("resid_post.0"), "edits must be at least one Edit"),
    (lambda run: run.capture("z.0").frame("z.0"), "head must be a head from 0 to 3"),
    (lambda run: run.capture("resid_post.0").frame("resid_post.0", head=1), "head must be None"),
    (lambda run: run.capture("resid_post.0", 3).patch("resid_post.0", 4), "position must be one that was captured"),
    (lambda run: run.capture("resid_post.0")["resid_post.1"], "point must be one that was captured"),
    (lambda run: wb.expect.lens(run, run.tokens[0].token_id, by_layer=2), "by_layer must be a layer from 0 to 1"),
    (lambda run: wb.expect.lens(run, run.tokens[0].token_id, by_layer=1, rank_at_most=0), "rank_at_most must be"),
    (lambda run: wb.expect.effect(run, run), "without a bound nothing is checked"),
    (lambda run: wb.expect.effect(run, run, logit_change=1.0), "token must be given together"),
]


@pytest.mark.parametrize("index", range(len(REFUSED)))
def test_a_wrong_value_is_refused_by_name_and_the_run_is_still_there(run: Any, index: int) -> None:
    call, message = REFUSED[index]
    with pytest.raises(InvalidRequestError, match=message):
        call(run)
    assert len(run.lens(0)) == 2


PLAIN: dict[str, Any] = {"point": "resid_post.0", "operation": "set", "value": 0.0}

EDITS: list[tuple[dict[str, Any], str]] = [
    ({"point": "resid_pots.1"}, "edits\\[0\\].point must be the name of a point"),
    ({"point": "resid_post"}, "edits\\[0\\].point must be a point of one layer"),
    ({"point": "resid_post.7"}, "layer from 0 to 1"),
    ({"value": [1.0, 2.0]}, "edits\\[0\\].value must be one number, or numbers of the shape \\(32,\\)"),
    ({"value": [[1.0] * 32] * 3}, "edits\\[0\\].value must be"),
    ({"value": [[1.0] * 32] * 3, "start": 1, "stop": 3}, "edits\\[0\\].value must be"),
    ({"value": [[1.0], [2.0, 3.0]]}, "nested lists of equal lengths"),
    ({"value": 1e39}, "numbers that float32 can hold"),
    ({"head": 0}, "edits\\[0\\].head must be absent"),
    ({"point": "z.0", "head": 4}, "edits\\[0\\].head must be a head from 0 to 3"),
]


@pytest.mark.parametrize("index", range(len(EDITS)))
def test_an_edit_that_the_model_cannot_have_fails_its_run_by_name(bench: Workbench, index: int) -> None:
    wrong, message = EDITS[index]
    edit = Edit(**PLAIN | wrong)
    with pytest.raises(InvalidRequestError, match=message):
        bench.completion(PROMPT, sampling_params=GREEDY, edits=[edit]).result(PATIENCE_S)
    ended(bench.completion(PROMPT, sampling_params=GREEDY))


@pytest.mark.parametrize(
    "wrong",
    [
        {"operation": "multiply"},
        {"value": "much"},
        {"value": float("nan")},
        {"value": None},
        {"value": True},
        {"start": -1},
        {"start": 2, "stop": 2},
        {"stop": 1.5},
        {"head": -1},
        {"point": 3},
        {"layer": 3},
    ],
)
def test_an_edit_that_makes_no_sense_is_refused_when_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(reversed(wrong)))):
        Edit(**PLAIN | wrong)


def test_an_edit_takes_the_whole_numbers_of_an_index() -> None:
    start: Any = np.int64(2)
    head: Any = np.int32(1)
    edit = Edit(point="z.0", operation="scale", value=0, start=start, stop=start + 1, head=head)
    assert [type(number) for number in (edit.start, edit.stop, edit.head)] == [int, int, int]
    assert edit == Edit(point="z.0", operation="scale", value=0, start=2, stop=3, head=1)


def test_a_model_elsewhere_has_no_insides(fake_models: FakeModels) -> None:
    """A fake model is in this process, but has no points; an echo has no model at all."""
    fake_models.add("hello", FakeDecoder(scripted_speech("hello")))
    echo = {"provider_id": "echo", "provider_type": "inline::echo", "config": {"models": ["echo"]}}
    with Workbench(fake_models.config) as bench:
        run = ended(bench.completion("\0", model="hello"))
        looks: list[Callable[[], Any]] = [
            lambda: run.capture("resid_post.0"),
            lambda: run.lens(0),
            lambda: run.attribution(0),
        ]
        for look in looks:
            with pytest.raises(UnsupportedFieldError, match="points"):
                look()
    with Workbench({"version": "2", "image_name": "e", "providers": {"inference": [echo]}}) as bench:
        run = ended(bench.completion("one two"))
        with pytest.raises(UnsupportedFieldError, match="model must be one in this process"):
            run.capture("resid_post.0")
        with pytest.raises(WorkbenchError, match="edits"):
            bench.completion("x", edits=[Edit(point="resid_post.0", operation="add", value=1.0)]).result()
        with pytest.raises(UnsupportedFieldError, match="does not look into models"):
            bench.points()
