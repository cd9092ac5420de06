"""A capsule's run comes out the same, or the first token that differs is named, with what has changed since."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from tests.fakes.models import FakeDecoder, Gate, endless_speech, random_speech, scripted_speech
from tests.fakes.serving import FakeModels
from workbench import Capsule, Workbench
from workbench.errors import InvalidRequestError, ModelNotFoundError
from workbench.protocol import LogProbConfig, RegexResponseFormat, SamplingParams, SamplingStrategy, UserMessage

SAMPLED = SamplingParams(strategy=SamplingStrategy.top_p, temperature=1.0, top_p=0.9, seed=11, max_tokens=12)


@pytest.fixture
def bench(fake_models: FakeModels) -> Iterator[Workbench]:
    fake_models.add("first", FakeDecoder(random_speech()))
    fake_models.add("second", FakeDecoder(scripted_speech("something else")))
    with Workbench(fake_models.config) as bench:
        yield bench


@pytest.fixture
def capsule(bench: Workbench) -> Capsule:
    run = bench.completion("\0abc", sampling_params=SAMPLED, logprobs=LogProbConfig(top_k=2))
    run.result(30)
    return run.capsule


def with_token(capsule: Capsule, position: int, token_id: int) -> Capsule:
    tokens = list(capsule.tokens)
    tokens[position] = tokens[position].model_copy(update={"token_id": token_id, "text": chr(token_id)})
    return capsule.model_copy(update={"tokens": tokens})


def test_the_same_bench_gives_the_same_ids(bench: Workbench, capsule: Capsule) -> None:
    replay = wb.replay(capsule, bench)
    assert replay.same
    assert replay.again.token_ids == capsule.token_ids
    assert replay.drift == 0
    assert replay.changes == ()
    assert repr(replay) == f"the same {len(capsule.tokens)} tokens"


def test_a_chat_is_asked_again_with_all_that_it_had(bench: Workbench) -> None:
    run = bench.chat_completion(
        [UserMessage(content="\0?")], sampling_params=SAMPLED, response_format=RegexResponseFormat(regex="[a-c]{6}")
    )
    run.result(60)
    replay = wb.replay(Capsule.from_json(run.capsule.to_json()), bench)
    assert replay.same
    assert replay.run.text == run.text
    assert set(replay.run.text) <= set("abc")


def test_a_capsule_keeps_every_parameter_of_sampling(bench: Workbench) -> None:
    more: dict[str, Any] = {"min_p": 0.05, "frequency_penalty": 0.5, "presence_penalty": 0.5, "logit_bias": {97: 3.0}}
    run = bench.completion("\0abc", sampling_params=SAMPLED.model_copy(update=more))
    run.result(60)
    capsule = Capsule.from_json(run.capsule.to_json())
    assert {name: getattr(capsule.sampling_params, name) for name in more} == more
    assert wb.replay(capsule, bench).same


def test_a_capsule_is_taken_from_a_file_or_as_json(bench: Workbench, capsule: Capsule, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    capsule.save(path)
    assert wb.replay(path, bench).same
    assert wb.replay(str(path), bench).same
    assert wb.replay(capsule._repr_mimebundle_()["application/vnd.workbench.capsule+json"], bench).same


def test_a_token_that_was_changed_is_named_with_its_place(bench: Workbench, capsule: Capsule) -> None:
    other_id = (capsule.token_ids[4] + 1) % 200
    replay = wb.replay(with_token(capsule, 4, other_id), bench)
    assert not replay.same
    assert (replay.where, replay.position) == ("answer", 4)
    said = repr(replay)
    assert "the first difference is at position 4 of the answer" in said
    assert f"token {other_id}" in said
    assert f"token {capsule.token_ids[4]}" in said
    assert "<- sampled" in said
    assert "4 tokens before it differ by at most 0 nats" in said
    assert "nothing recorded in the capsule has changed" in said


def test_an_answer_that_ends_sooner_or_later_differs_from_there_on(bench: Workbench, capsule: Capsule) -> None:
    longer = capsule.model_copy(update={"tokens": [*capsule.tokens, capsule.tokens[0]]})
    replay = wb.replay(longer, bench)
    assert replay.position == len(capsule.tokens)
    assert "is the end" in repr(replay)
    shorter = capsule.model_copy(update={"tokens": capsule.tokens[:3]})
    assert wb.replay(shorter, bench).position == 3
    assert "it was the end" in repr(wb.replay(shorter, bench))


def test_a_prompt_that_is_read_otherwise_is_named_before_the_answer(bench: Workbench, capsule: Capsule) -> None:
    assert capsule.prompt_ids is not None
    ids = [*capsule.prompt_ids[:2], 77, *capsule.prompt_ids[3:]]
    replay = wb.replay(capsule.model_copy(update={"prompt_ids": ids}), bench)
    assert (replay.where, replay.position) == ("prompt", 2)
    assert f"it was token 77 and is token {capsule.prompt_ids[2]}" in repr(replay)
    assert replay.drift is None
    longer = wb.replay(capsule.model_copy(update={"prompt_ids": [*capsule.prompt_ids, 77]}), bench)
    assert "it was token 77 and is the end" in repr(longer)


@pytest.mark.parametrize(
    "part, name, value, said",
    [
        ("machine", "versions", {"torch": "0.1"}, "machine.versions.torch was 0.1 and is 2.13.0"),
        ("machine", "threads", 99, "machine.threads was 99 and is"),
        ("model", "precision", "int4", "model.precision was int4 and is float32: weights and sums are rounded"),
        ("model", "template_sha256", "0" * 64, "model.template_sha256 was 000000000000... and is absent"),
        ("model", "files", {"model.safetensors": "1" * 64}, "model.files.model.safetensors was 111111111111..."),
    ],
)
def test_what_has_changed_is_said_as_the_reason(
    bench: Workbench, capsule: Capsule, part: str, name: str, value: object, said: str
) -> None:
    changed = capsule.model_copy(update={part: getattr(capsule, part).model_copy(update={name: value})})
    alike = wb.replay(changed, bench)
    assert alike.same
    assert said in repr(alike)
    apart = wb.replay(with_token(changed, 0, 1), bench)
    assert "possible reasons:" in repr(apart)
    assert said in repr(apart)


def test_another_model_is_asked_where_that_is_meant(bench: Workbench, capsule: Capsule) -> None:
    replay = wb.replay(capsule, bench, model="second")
    assert replay.run.model == "second"
    assert replay.position == 0
    assert "model.source was first and is second: it is another model" in repr(replay)


def test_a_model_that_nobody_serves_is_an_error(bench: Workbench, capsule: Capsule) -> None:
    request = capsule.request.model_copy(update={"model": "third"})
    with pytest.raises(ModelNotFoundError, match="third"):
        wb.replay(capsule.model_copy(update={"request": request}), bench)


def test_a_seed_that_was_not_asked_for_is_told_and_draws_the_same_again(bench: Workbench) -> None:
    drawn = bench.completion("\0abc", sampling_params=SAMPLED.model_copy(update={"seed": None}))
    drawn.result(30)
    assert drawn.seed is not None
    assert drawn.capsule.sampling_params.seed == drawn.seed
    assert wb.replay(drawn.capsule, bench).same


def test_what_was_drawn_with_a_seed_that_nobody_tells_is_refused_and_greedy_needs_none(
    bench: Workbench, capsule: Capsule
) -> None:
    unknown = capsule.sampling_params.model_copy(update={"seed": None})
    request = capsule.request.model_copy(update={"sampling_params": unknown})
    with pytest.raises(InvalidRequestError, match=r"request\.sampling_params\.seed"):
        wb.replay(capsule.model_copy(update={"request": request}), bench)
    greedy = bench.completion("\0abc", sampling_params=SamplingParams(max_tokens=5))
    greedy.result(30)
    assert greedy.seed is None
    assert wb.replay(greedy.capsule, bench).same


@pytest.mark.parametrize("given", [None, 5, ["x"]])
def test_what_is_no_capsule_is_refused(bench: Workbench, given: Any) -> None:
    with pytest.raises(InvalidRequestError, match="capsule must be a Capsule"):
        wb.replay(given, bench)


def test_of_a_cancelled_run_only_what_came_is_compared(fake_models: FakeModels) -> None:
    gate = Gate()
    decoder = fake_models.add("endless", FakeDecoder(endless_speech))
    with Workbench(fake_models.config) as bench:
        decoder.before_decode = lambda _: gate()
        run = bench.completion("\0", sampling_params=SamplingParams(max_tokens=30))
        gate.step(3)
        next(chunk for chunk in run if chunk.delta)
        run.cancel()
        gate.open()
        run.wait(30)
        assert 0 < len(run.tokens) < 30
        assert wb.replay(run.capsule, bench).same


def test_a_run_that_takes_too_long_is_cancelled(fake_models: FakeModels) -> None:
    decoder = fake_models.add("endless", FakeDecoder(endless_speech))
    with Workbench(fake_models.config) as bench:
        run = bench.completion("\0", sampling_params=SamplingParams(max_tokens=5))
        run.result(30)
        gate = Gate()
        decoder.before_decode = lambda _: gate()
        with pytest.raises(TimeoutError):
            wb.replay(run.capsule, bench, timeout=0.05)
        gate.open()


def test_a_capsule_is_made_and_replayed_from_a_recording_without_the_model(bench: Workbench, tmp_path: Path) -> None:
    path = tmp_path / "lesson.jsonl"
    with bench.record(path):
        live = bench.completion("\0abc", model="first", sampling_params=SAMPLED)
        live.result(30)
        assert wb.replay(live.capsule, bench).same
    config: Any = {"provider_id": "trace", "provider_type": "inline::trace", "config": {"path": str(path)}}
    with Workbench({"image_name": "played", "providers": {"inference": [config]}}) as played:
        run = played.completion("\0abc", model="first", sampling_params=SAMPLED)
        run.result(30)
        assert run.capsule.token_ids == live.capsule.token_ids
        assert run.capsule.prompt_ids == live.capsule.prompt_ids
        assert wb.replay(live.capsule, played).same
