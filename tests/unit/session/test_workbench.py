"""The facade: plain calls, models by name, and nothing left behind when it is closed."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.models import EOS, FakeDecoder, Gate, scripted_speech
from tests.fakes.serving import FakeModels
from tests.tiny_models import save_model, save_sentence_model
from workbench import Workbench
from workbench.errors import ClosedError, ConfigError, InvalidRequestError, ModelNotFoundError, UnsupportedFieldError
from workbench.protocol import (
    BatchInference,
    Inference,
    Inspect,
    LogProbConfig,
    Models,
    SamplingParams,
    SamplingStrategy,
    UserMessage,
)


@pytest.fixture
def bench(fake_models: FakeModels) -> Iterator[Workbench]:
    fake_models.add("first", FakeDecoder(scripted_speech("one")))
    fake_models.add("second", FakeDecoder(scripted_speech("two")))
    with Workbench(fake_models.config) as bench:
        yield bench


def all_gone(before: set[threading.Thread], timeout_s: float = 60.0) -> bool:
    """Whether every thread that was started since has ended, or does so soon."""
    deadline = time.monotonic() + timeout_s
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.005)
    return not set(threading.enumerate()) - before


def test_the_first_model_answers_unless_another_is_named(bench: Workbench) -> None:
    assert bench.completion("\0").result(60).completion_message.content == "one"
    assert bench.completion("\0", model="second").result(60).completion_message.content == "two"
    assert bench.completion("\0", model="fakes/second").result(60).completion_message.content == "two"


def test_an_unknown_model_is_refused_at_once_with_the_names_served(bench: Workbench) -> None:
    for call in (lambda name: bench.completion("x", model=name), bench.card, bench.load):
        with pytest.raises(ModelNotFoundError, match=r"third.*first, second"):
            call("third")


def test_without_an_embedding_model_none_is_found(bench: Workbench) -> None:
    with pytest.raises(ModelNotFoundError, match="embedding"):
        bench.embeddings(["x"])


def test_the_protocol_objects_satisfy_the_protocols(bench: Workbench) -> None:
    inference: Any = bench.inference
    assert isinstance(inference, Inference)
    assert isinstance(inference, BatchInference)
    assert isinstance(bench.models, Models)
    assert isinstance(bench.inspect, Inspect)


def test_batches_come_back_in_order(bench: Workbench) -> None:
    batch = bench.batch_completion(["\0", "\0"], model="second")
    assert [message.content for message in batch.completion_message_batch] == ["two", "two"]
    chats = bench.batch_chat_completion([[UserMessage(content="\0")]] * 2)
    assert len(chats.completion_message_batch) == 2


def test_one_bad_item_of_a_batch_is_named(bench: Workbench) -> None:
    with pytest.raises(InvalidRequestError, match=r"content_batch\[1\]"):
        bench.batch_completion(["\0", ""])


@pytest.mark.parametrize("params", [{"temperature": 1.0}, "greedy", 5])
def test_sampling_params_of_another_type_are_refused(bench: Workbench, params: Any) -> None:
    with pytest.raises(InvalidRequestError, match="sampling_params"):
        bench.completion("x", sampling_params=params)


def test_values_out_of_range_are_refused_before_a_run_is_made(bench: Workbench) -> None:
    params = SamplingParams()
    params.top_p = 7.0
    with pytest.raises(InvalidRequestError, match=r"sampling_params\.top_p"):
        bench.completion("x", sampling_params=params)


def test_a_strategy_that_ignores_a_temperature_is_noted_on_the_run(bench: Workbench) -> None:
    params = SamplingParams(strategy=SamplingStrategy.greedy, temperature=0.7)
    with pytest.warns(UserWarning, match="greedy") as caught:
        run = bench.completion("\0", sampling_params=params)
    assert len(caught) == 1
    run.result(60)
    assert any("temperature" in note for note in run.notes)


def test_nothing_is_loaded_before_it_is_needed(fake_models: FakeModels, bench: Workbench) -> None:
    bench.list_models()
    assert not bench.card().loaded
    assert fake_models.loads == []
    assert bench.load("second").loaded
    assert fake_models.loads == ["second"]


def test_the_repr_names_what_is_served(bench: Workbench) -> None:
    assert repr(bench) == "<Workbench fakes: first, second>"


def test_two_runs_of_one_session_have_two_ids(bench: Workbench) -> None:
    assert [bench.completion("\0").id, bench.completion("\0").id] == ["run-1", "run-2"]


async def test_everything_works_inside_a_running_event_loop(bench: Workbench) -> None:
    """As in a notebook: the calls that wait do so without that loop's help."""
    assert bench.batch_completion(["\0"]).completion_message_batch[0].content == "one"
    response = await bench.inference.completion("first", "\0")
    assert response.completion_message.content == "one"
    assert (await bench.completion("\0")).completion_message.content == "one"


def test_closing_ends_every_thread_and_twice_is_harmless(fake_models: FakeModels) -> None:
    before = set(threading.enumerate())
    fake_models.add("script", FakeDecoder(scripted_speech("said")))
    bench = Workbench(fake_models.config)
    bench.completion("\0").result(60)
    assert set(threading.enumerate()) - before
    bench.close()
    bench.close()
    assert all_gone(before)


def test_closing_ends_runs_in_flight_and_keeps_what_they_had(fake_models: FakeModels) -> None:
    gate = Gate()
    fake_models.add("held", FakeDecoder(scripted_speech("a long answer"))).before_decode = gate
    bench = Workbench(fake_models.config)
    runs = [bench.completion("\0") for _ in range(3)]
    gate.wait()
    gate.open()
    bench.close()
    assert all(run.wait(60) for run in runs)
    assert all(run.state in {"cancelled", "finished"} for run in runs)
    assert all("a long answer".startswith(run.text) for run in runs)


def test_a_closed_workbench_refuses_by_type(fake_models: FakeModels) -> None:
    fake_models.add("script", FakeDecoder(scripted_speech("said")))
    bench = Workbench(fake_models.config)
    bench.close()
    with pytest.raises(ClosedError):
        bench.completion("x")
    with pytest.raises(ClosedError):
        bench.batch_completion(["x"])
    with pytest.raises(ClosedError):
        bench.load()


def test_a_finished_run_keeps_no_engine_alive(fake_models: FakeModels) -> None:
    fake_models.add("script", FakeDecoder(scripted_speech("said")))
    bench = Workbench(fake_models.config)
    run = bench.completion("\0")
    run.result(60)
    engine = weakref.ref(fake_models.engines.pop("script"))
    bench.close()
    del bench
    gc.collect()
    assert engine() is None
    assert run.text == "said"


def with_provider(
    config: dict[str, Any], provider_type: str = "inline::transformers", times: int = 1
) -> dict[str, Any]:
    return {
        "providers": {"inference": [{"provider_id": "a", "provider_type": provider_type, "config": config}] * times}
    }


@pytest.mark.parametrize(
    "config,words",
    [
        (with_provider({}, "inline::nobody"), "inline::nobody"),
        (with_provider({"modles": []}), "modles"),
        (with_provider({}, times=2), "unique"),
        (with_provider({"models": ["${env.NOT_SET_ANYWHERE}"]}), "NOT_SET_ANYWHERE"),
        ({"providers": {"dreams": []}}, "dreams"),
        ({"provider": {}}, "provider"),
    ],
)
def test_a_wrong_config_starts_nothing_and_names_the_key(config: dict[str, Any], words: str) -> None:
    before = set(threading.enumerate())
    with pytest.raises(ConfigError, match=words):
        Workbench(config)
    assert not set(threading.enumerate()) - before


def test_a_config_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml"):
        Workbench(tmp_path / "nothing.yaml")


def test_the_environment_names_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("image_name: from-the-environment\nproviders: {inference: []}\n")
    monkeypatch.setenv("WORKBENCH_CONFIG", str(path))
    with Workbench() as bench:
        assert repr(bench) == "<Workbench from-the-environment: >"


def test_runs_of_many_threads_do_not_disturb_each_other(bench: Workbench) -> None:
    answers: list[str] = []

    def ask(model: str) -> None:
        answers.extend(bench.completion("\0", model=model).result(60).completion_message.content for _ in range(10))  # type: ignore[misc]

    threads = [threading.Thread(target=ask, args=(model,)) for model in ("first", "second") * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["one"] * 30 + ["two"] * 30


def test_many_runs_at_once_can_be_awaited_together(bench: Workbench) -> None:
    async def ask() -> list[Any]:
        return await asyncio.gather(*[_await(bench.completion("\0")) for _ in range(20)])

    assert {response.completion_message.content for response in asyncio.run(ask())} == {"one"}
    assert EOS not in {token.token_id for token in bench.completion("\0").tokens}


async def _await(run: Any) -> Any:
    return await run


# ------------------------------------------------------------------------------------- scores, logprobs, embeddings


def test_scores_are_those_of_the_first_model_unless_another_is_named(bench: Workbench) -> None:
    """One model says "one" after a NUL byte and the other "two"; each thinks its own word by far the likelier."""
    for model, expected in ((None, "one"), ("second", "two"), ("fakes/second", "two")):
        scores = bench.score("\0", ["two", "one", "o"], model=model)
        assert [score.text for score in scores] == ["two", "one", "o"]
        assert max(scores[:2], key=lambda score: score.logprob).text == expected
        assert [len(score.tokens) for score in scores] == [3, 3, 1]


def test_scores_name_as_many_alternatives_as_were_asked_for(bench: Workbench) -> None:
    for count, logprobs in ((0, None), (0, LogProbConfig()), (4, LogProbConfig(top_k=4))):
        (score,) = bench.score("\0", ["one"], logprobs=logprobs)
        assert [len(token.alternatives) for token in score.tokens] == [count] * 3


@pytest.mark.parametrize("continuations", [[], None, "text", ("a",)])
def test_continuations_that_are_no_list_of_texts_are_refused(bench: Workbench, continuations: Any) -> None:
    with pytest.raises(InvalidRequestError, match="continuations"):
        bench.score("x", continuations)


def bad_logprobs() -> list[Any]:
    assigned = []
    for value in (-1, 2.5, "3"):
        config: Any = LogProbConfig()
        config.top_k = value
        assigned.append(config)
    return [*assigned, 5, True, {"top_k": 3}]


@pytest.mark.parametrize("logprobs", bad_logprobs(), ids=repr)
def test_bad_logprobs_are_refused_by_name_before_anything_is_loaded(
    fake_models: FakeModels, bench: Workbench, logprobs: Any
) -> None:
    for ask in (
        lambda: bench.completion("x", logprobs=logprobs),
        lambda: bench.chat_completion([UserMessage(content="x")], logprobs=logprobs),
        lambda: bench.batch_completion(["x"], logprobs=logprobs),
        lambda: bench.score("x", ["y"], logprobs=logprobs),
    ):
        with pytest.raises(InvalidRequestError, match="logprobs"):
            ask()
    assert fake_models.loads == []


def test_prompt_logprobs_are_one_fewer_than_its_tokens_and_the_same_with_a_warm_cache(fake_models: FakeModels) -> None:
    fake_models.add("random")
    asked = LogProbConfig(top_k=2, prompt=True)
    params = SamplingParams(max_tokens=3)
    with Workbench(fake_models.config) as bench:
        runs = []
        for _ in range(2):
            runs.append(bench.completion("the same prompt " * 4, logprobs=asked, sampling_params=params))
            runs[-1].result(60)
            bench.completion("the same prompt " * 5, sampling_params=params).result(60)
        cold, warm = runs
        assert len(cold.prompt_tokens) == cold.usage.prompt_tokens - 1
        assert cold.prompt_tokens == warm.prompt_tokens
        assert "".join(token.text for token in cold.prompt_tokens) == ("the same prompt " * 4)[1:]
        assert [token.position for token in cold.prompt_tokens] == list(range(1, cold.usage.prompt_tokens))
        assert [len(token.alternatives) for token in warm.prompt_tokens] == [2] * len(warm.prompt_tokens)


def test_without_asking_there_are_no_prompt_logprobs(bench: Workbench) -> None:
    run = bench.completion("\0", logprobs=LogProbConfig(top_k=1))
    run.result(60)
    assert run.prompt_tokens == ()


def test_a_session_of_both_kinds_finds_the_right_one(tmp_path: Path) -> None:
    folders = [save_sentence_model(tmp_path / "tiny-bert"), save_model(tmp_path / "tiny-llama", "llama")]
    config = with_provider({"models": [str(folder) for folder in folders]})
    with Workbench(config) as bench:
        assert len(bench.embeddings(["fox", "dog"]).embeddings[0]) == 32
        run = bench.completion("The", sampling_params=SamplingParams(max_tokens=2))
        run.result(60)
        assert run.model == "tiny-llama"
        assert bench.embeddings(["fox"], model="tiny-llama").embeddings
        cards = [bench.load(name) for name in ("tiny-bert", "tiny-llama")]
        assert [(card.kind, card.loaded) for card in cards] == [("embedding", True), ("causal", True)]
        assert all(card.memory_bytes for card in cards)
        with pytest.raises(InvalidRequestError, match="tiny-bert"):
            bench.completion("x", model="tiny-bert").result(60)


def test_a_closed_workbench_gives_no_scores_and_no_embeddings(fake_models: FakeModels) -> None:
    fake_models.add("script", FakeDecoder(scripted_speech("said")))
    bench = Workbench(fake_models.config)
    bench.close()
    with pytest.raises(ClosedError):
        bench.score("x", ["y"])
    with pytest.raises(ClosedError):
        bench.embeddings(["x"], model="script")


def test_what_the_caller_changes_later_changes_no_run(fake_models: FakeModels) -> None:
    fake_models.add("first", FakeDecoder(scripted_speech("one")))
    fake_models.may_load.clear()
    with Workbench(fake_models.config) as bench:
        messages: list[Any] = [UserMessage(content="\0")]
        params = SamplingParams(max_tokens=2)
        run = bench.chat_completion(messages, sampling_params=params)
        messages.append(UserMessage(content="more"))
        params.max_tokens = 1
        fake_models.may_load.set()
        run.result(60)
        assert run.prompt == messages[:1]
        assert run.sampling_params.max_tokens == 2
        same = bench.chat_completion(messages[:1])
        same.result(60)
        assert run.usage.prompt_tokens == same.usage.prompt_tokens


@pytest.mark.parametrize("wrong", [None, 3, "abc", {}])
def test_what_is_no_list_is_refused_by_field(bench: Workbench, wrong: Any) -> None:
    for call, field in (
        (bench.chat_completion, "messages"),
        (bench.batch_completion, "content_batch"),
        (bench.batch_chat_completion, "messages_batch"),
    ):
        with pytest.raises(InvalidRequestError, match=f"^{field} must be a list"):
            call(wrong)


def test_whoever_waits_while_it_is_closed_hears_that_it_was_closed(fake_models: FakeModels) -> None:
    decoder, gate = FakeDecoder(scripted_speech("said")), Gate()
    decoder.before_decode = lambda _: gate()
    fake_models.add("held", decoder)
    bench = Workbench(fake_models.config)

    def close_while_it_waits() -> None:
        gate.wait()
        bench._loop.close()
        gate.open()

    threading.Thread(target=close_while_it_waits).start()
    with pytest.raises(ClosedError):
        bench.batch_completion(["\0"])
    bench.close()


def test_two_folders_of_one_name_are_refused_and_none_is_dropped(tmp_path: Path) -> None:
    sources = [str(save_model(tmp_path / parent / "same", "llama")) for parent in "ab"]
    provider = {"provider_id": "p", "provider_type": "inline::transformers", "config": {"models": sources}}
    with pytest.raises(ConfigError, match="'same' more than once"):
        Workbench({"providers": {"inference": [provider]}})


def test_a_batch_refuses_logprobs_for_its_response_has_no_place_for_them(
    fake_models: FakeModels, bench: Workbench
) -> None:
    for ask in (
        lambda: bench.batch_completion(["x"], logprobs=LogProbConfig(top_k=1)),
        lambda: bench.batch_chat_completion([[UserMessage(content="x")]], logprobs=LogProbConfig()),
    ):
        with pytest.raises(UnsupportedFieldError, match="logprobs must be absent"):
            ask()
    assert fake_models.loads == []


def test_a_first_answer_waits_for_no_library_that_it_does_not_need(tmp_path: Path) -> None:
    """jsonschema takes a second to import beside Jupyter, and what transformers computes with takes two."""
    folder = save_model(tmp_path / "tiny", "llama")
    code = f"""
import sys, workbench as wb
with wb.Workbench() as bench:
    bench.register_model("tiny", {str(folder)!r})
    assert bench.completion("a", model="tiny", sampling_params=wb.SamplingParams(max_tokens=2)).result()
print(sorted({{"jsonschema", "pandas", "transformers.modeling_utils"}} & sys.modules.keys()))
"""
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert shown.stdout == "[]\n"
