"""Recording and playing: nothing is lost on the way, and what is not there is told by what is nearest."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.models import FakeDecoder, scripted_speech
from tests.fakes.serving import FakeModels
from workbench import Workbench, errors
from workbench.errors import (
    ClosedError,
    ConfigError,
    GenerationError,
    InvalidRequestError,
    ModelNotFoundError,
    NotRecordedError,
    UnsupportedFieldError,
    WorkbenchError,
)
from workbench.protocol import (
    LogProbConfig,
    RegexResponseFormat,
    SafetyViolation,
    SamplingParams,
    SamplingStrategy,
    ToolDefinition,
    UserMessage,
    ViolationLevel,
)
from workbench.providers.wire import (
    error_from_wire,
    error_to_wire,
    extras_from_wire,
    extras_to_wire,
    from_wire,
    to_wire,
)
from workbench.records import Alternative, Emission, ModelCard, Prompt, PromptToken, Score, TokenRecord, Usage

HELLO: list[Any] = [UserMessage(content="hello you")]
TOOL = ToolDefinition(tool_name="look", parameters={})

# ------------------------------------------------------------------------------------------------------------- wire

numbers = st.floats(allow_nan=True, allow_infinity=True)
alternatives = st.builds(Alternative, st.integers(), st.text(), st.binary(), numbers, st.integers())
tokens = st.builds(
    TokenRecord,
    position=st.integers(0),
    token_id=st.integers(-1),
    text=st.text(),
    bytes=st.binary(),
    logprob=numbers,
    rank=st.integers(0),
    entropy=numbers,
    alternatives=st.lists(alternatives, max_size=3).map(tuple),
    elapsed_s=st.floats(0, 100),
    is_special=st.booleans(),
    removed_mass=st.floats(0, 1),
    is_forced=st.booleans(),
)
usages = st.builds(
    Usage, st.integers(0), st.integers(0), st.integers(0), st.none() | st.floats(0, 100), st.none() | st.floats(0, 1e6)
)
emissions_with_extras = st.builds(
    Emission,
    tokens=st.lists(tokens, max_size=3).map(tuple),
    end=st.none() | tokens,
    usage=st.none() | usages,
    prompt_tokens=st.lists(tokens, max_size=2).map(tuple),
    notes=st.lists(st.text(), max_size=2).map(tuple),
)
prompts = st.builds(
    Prompt,
    st.text(),
    st.text(),
    st.lists(st.builds(PromptToken, st.integers(), st.text(), st.binary(), st.booleans())).map(tuple),
    st.none() | st.text(),
    st.none() | st.text(),
)
cards = st.builds(ModelCard, st.text(), st.text(), st.text(), st.text(), parameters=st.none() | st.integers())
scores = st.builds(Score, st.text(), st.lists(tokens, max_size=3).map(tuple))


def same(one: Any, other: Any) -> bool:
    """Equal, where NaN equals itself."""
    return repr(one) == repr(other) and type(one) is type(other)


@given(st.one_of(tokens, usages, prompts, cards, scores))
def test_a_record_survives_json(record: Any) -> None:
    assert same(from_wire(type(record), json.loads(json.dumps(to_wire(record), allow_nan=False))), record)


@given(emissions_with_extras)
def test_so_do_the_fields_of_an_emission_beyond_the_protocol(emission: Emission) -> None:
    wire = json.loads(json.dumps(extras_to_wire(emission), allow_nan=False))
    assert same(Emission(**extras_from_wire(wire)), emission)


def test_every_kind_of_error_comes_back_with_its_type_its_message_and_its_facts() -> None:
    made: list[WorkbenchError] = [
        errors.ContextLengthError(5, 4, "messages"),
        errors.InvalidRequestError("field", object(), "anything"),
        errors.ModelNotFoundError("x", ["y"]),
        errors.ResourceNotFoundError("x", ["y"]),
        errors.ShieldViolationError("x", SafetyViolation(violation_level=ViolationLevel.error), "prompt"),
        *(kind("said") for kind in vars(errors).values() if _is_plain(kind)),
    ]
    assert len(made) > 15
    for error in made:
        again = error_from_wire(json.loads(json.dumps(error_to_wire(error))))
        assert (type(again), str(again)) == (type(error), str(error))
        assert again.__dict__.keys() == error.__dict__.keys()
    foreign = error_from_wire(error_to_wire(ZeroDivisionError("in the model")))
    assert isinstance(foreign, GenerationError)
    assert str(foreign) == "ZeroDivisionError: in the model"


def _is_plain(kind: Any) -> bool:
    is_error = isinstance(kind, type) and issubclass(kind, WorkbenchError)
    has_facts = InvalidRequestError | errors.ResourceNotFoundError | errors.ShieldViolationError
    return is_error and not issubclass(kind, has_facts)


# ------------------------------------------------------------------------------------------------ through the facade


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces" / "run.jsonl"


@pytest.fixture
def echo() -> Iterator[Workbench]:
    with Workbench(config_of("inline::echo")) as bench:
        yield bench


def config_of(provider_type: str, **config: Any) -> dict[str, Any]:
    entry = {"provider_id": "one", "provider_type": provider_type, "config": config}
    return {"image_name": "one", "providers": {"inference": [entry]}}


def playing(path: Path, timing: str = "skipped") -> Workbench:
    return Workbench(config_of("inline::trace", path=str(path), timing=timing))


def scene(bench: Workbench) -> list[Any]:
    """Everything that a notebook may ask, and what it may look at."""
    params = SamplingParams(max_tokens=6)
    asked = LogProbConfig(top_k=3, prompt=True)
    run = bench.completion("to be or not to be, that is", sampling_params=params, logprobs=asked)
    chat = bench.chat_completion(HELLO, tools=[TOOL], tool_choice="required")  # type: ignore[arg-type]
    seen: list[Any] = []
    for one in (run, chat):
        seen += [one.result(), one.text, one.tokens, one.prompt_tokens, one.usage, one.notes, one.stop_reason]
        seen += [one.tool_calls, list(one), one.to_frame().to_dict()]
    seen += [bench.batch_completion(["a b", "c"]), bench.batch_chat_completion([HELLO, HELLO])]
    seen += [bench.score("to be", ["to be", "not"]), bench.render("to be"), bench.render(HELLO, tools=[TOOL])]
    seen += [bench.embeddings(["a", "b c"]), bench.list_models()[0].identifier, bench.card().context_length]
    return seen


def test_what_was_recorded_is_played_token_for_token(echo: Workbench, path: Path) -> None:
    with echo.record(path):
        recorded = scene(echo)
    with playing(path) as bench:
        played = scene(bench)
    for one, other in zip(recorded, played, strict=True):
        assert same(one, other)


def test_an_engines_run_is_played_with_all_that_it_knew(fake_models: FakeModels, path: Path) -> None:
    fake_models.add("random")
    asked: dict[str, Any] = {
        "sampling_params": SamplingParams(max_tokens=30, strategy=SamplingStrategy.top_p, temperature=1.0, seed=3),
        "logprobs": LogProbConfig(top_k=20, prompt=True),
    }
    with Workbench(fake_models.config) as bench, bench.record(path):
        original = bench.completion("0 😀", **asked)
        original.result()
    with playing(path) as bench:
        run = bench.completion("0 😀", **asked)
        assert same(run.result(), original.result())
        assert same(run.tokens, original.tokens)
        assert same((run.usage, run.prompt_tokens), (original.usage, original.prompt_tokens))
        card = bench.card()
        assert (card.loaded, card.architecture, card.provider_type) == (True, "Fake", "inline::trace")
        with pytest.raises(UnsupportedFieldError, match="whose model is in this process"):
            run.distribution(0)


def test_the_end_of_a_turn_is_played_with_its_probability(fake_models: FakeModels, path: Path) -> None:
    fake_models.add("script", FakeDecoder(scripted_speech("said")))
    with Workbench(fake_models.config) as bench, bench.record(path):
        original = bench.completion("\0")
        original.result()
    with playing(path) as bench:
        run = bench.completion("\0")
        run.result()
        assert run.end is not None
        assert same(run.end, original.end)


def test_answers_that_differed_come_in_their_order_and_the_last_stays(echo: Workbench, path: Path) -> None:
    params = SamplingParams(strategy=SamplingStrategy.top_p, temperature=2.0, top_p=1.0)
    with echo.record(path):
        texts = [
            echo.completion("word " * 9, sampling_params=params).result().completion_message.content for _ in "123"
        ]
    assert len(set(texts)) == 3
    with playing(path) as bench:
        played = [bench.completion("word " * 9, sampling_params=params).result() for _ in "12345"]
    assert [one.completion_message.content for one in played] == [*texts, texts[2], texts[2]]


def test_errors_are_played_where_they_came(fake_models: FakeModels, path: Path) -> None:
    decoder = FakeDecoder(scripted_speech("never done " * 100))
    fake_models.add("breaks", decoder, context_length=200)

    def fail(caches: Any) -> None:
        if caches[0].length > 20:
            raise ArithmeticError("in the model")

    decoder.before_decode = fail

    def tell(bench: Workbench) -> list[Any]:
        told: list[Any] = []
        run = bench.completion("\0")
        run.wait()
        told += [run.text, str(run.error)]
        too_long = bench.completion("x" * 300)
        too_long.wait()
        told += [type(too_long.error), str(too_long.error)]
        with pytest.raises(InvalidRequestError, match="response_format") as caught:
            bench.chat_completion(HELLO, tools=[TOOL], response_format=RegexResponseFormat(regex="x"))
        told += [type(caught.value), str(caught.value)]
        with pytest.raises(InvalidRequestError) as caught:
            bench.batch_completion(["fine", ""])
        return [*told, caught.value.field]

    with Workbench(fake_models.config) as bench, bench.record(path):
        recorded = tell(bench)
    with playing(path) as bench:
        played = tell(bench)
    assert recorded[1] == "in the model"
    assert played[1] == "ArithmeticError: in the model"
    assert played[:1] + played[2:] == recorded[:1] + recorded[2:]
    assert len(played[0]) > 5


def test_a_run_that_was_stopped_can_be_stopped_again_where_it_was(path: Path) -> None:
    def stopped(bench: Workbench) -> list[Any]:
        run = bench.completion("word " * 100)
        chunks = iter(run)
        first = [next(chunks) for _ in range(3)]
        assert run.state == "running"
        run.cancel()
        run.wait()
        return [first, run.state, len(run.text) < 200]

    with Workbench(config_of("inline::echo", delay_s=0.3)) as bench, bench.record(path):
        recorded = stopped(bench)
    with playing(path) as bench:
        assert stopped(bench) == recorded == [recorded[0], "cancelled", True]


async def test_a_stopped_run_that_nobody_stops_ends_with_an_error(
    echo: Workbench, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.providers.trace.provider._LEFT_WAIT_S", 0.01)
    with echo.record(path):
        stream: Any = echo.inference.completion("echo", "a b c", stream=True)
        await anext(stream)
        await stream.aclose()
    with playing(path) as bench:
        played: Any = bench.inference.completion("echo", "a b c", stream=True)
        assert (await anext(played)).delta == "a"
        with pytest.raises(GenerationError, match="because the run was stopped"):
            await anext(played)


def test_kept_timing_is_the_time_it_took_and_skipped_none(path: Path) -> None:
    with Workbench(config_of("inline::echo", delay_s=0.05)) as bench, bench.record(path):
        elapsed = [token.elapsed_s for token in _finished(bench.completion("a b c d")).tokens]
    for timing in ("kept", "skipped"):
        with playing(path, timing) as bench:
            began_at = time.perf_counter()
            run = _finished(bench.completion("a b c d"))
            took = time.perf_counter() - began_at
            assert [token.elapsed_s for token in run.tokens] == elapsed
        assert timing == "skipped" or took >= elapsed[-1] * 0.95


def _finished(run: Any) -> Any:
    run.result()
    return run


async def test_skipped_timing_waits_for_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def counted(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    with Workbench(config_of("inline::echo", delay_s=0.01)) as bench, bench.record(path):
        await bench.inference.completion("echo", "a b c d")
    bench = await asyncio.to_thread(playing, path)
    monkeypatch.setattr("workbench.providers.trace.provider.asyncio.sleep", counted)
    await bench.inference.completion("echo", "a b c d")
    assert waits
    assert set(waits) == {0}
    await asyncio.to_thread(bench.close)


# -------------------------------------------------------------------------------------------------- what is not there


@pytest.mark.parametrize(
    "asked,field,said",
    [
        ({"content": "to be or"}, "content", "to be"),
        ({"content": "to be", "sampling_params": SamplingParams(max_tokens=9)}, "sampling_params.max_tokens", "0"),
        ({"content": "to be", "sampling_params": SamplingParams(seed=9)}, "sampling_params.seed", "absent"),
        ({"content": "to be", "logprobs": LogProbConfig(top_k=2)}, "logprobs", "absent"),
    ],
)
def test_an_unknown_request_is_told_what_the_nearest_one_has(
    echo: Workbench, path: Path, asked: dict[str, Any], field: str, said: str
) -> None:
    with echo.record(path):
        echo.completion("to be").result()
        echo.completion("something else altogether, and longer").result()
    with playing(path) as bench, pytest.raises(NotRecordedError) as caught:
        bench.completion(**asked).result()
    assert caught.value.field == field
    assert f"{said}, as in the nearest of 2 recorded requests" in str(caught.value).replace('"', "")


def test_a_method_that_was_not_recorded_is_told_those_that_were(echo: Workbench, path: Path) -> None:
    with echo.record(path):
        echo.completion("to be").result()
    with playing(path) as bench:
        with pytest.raises(NotRecordedError, match=r"score was recorded; recorded for this one: completion"):
            bench.score("to be", ["x"])
        with pytest.raises(ModelNotFoundError, match="echo, echo-embedding"):
            bench.completion("to be", model="other")


def test_a_batch_that_was_not_recorded_is_played_of_its_requests(echo: Workbench, path: Path) -> None:
    with echo.record(path):
        for text in ("a", "b", "c"):
            echo.completion(text).result()
    with playing(path) as bench:
        assert [one.content for one in bench.batch_completion(["c", "a"]).completion_message_batch] == ["c", "a"]
        with pytest.raises(NotRecordedError, match="content"):
            bench.batch_completion(["c", "x"])


# ------------------------------------------------------------------------------------------------------------- the file


def test_a_trace_is_json_lines_with_a_header_models_and_calls(echo: Workbench, path: Path) -> None:
    with echo.record(path) as recorder:
        assert "open" in repr(recorder)
        echo.completion("to be").result()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert (lines[0]["format"], lines[0]["version"]) == ("workbench-trace", 3)
    assert [next(iter(line)) for line in lines[1:]] == ["model", "model", "call"]
    assert lines[-1]["call"]["request"]["content"] == "to be"
    assert len(lines[-1]["call"]["chunks"]) == 3


def test_a_recording_that_is_closed_records_no_more_and_another_may_follow(echo: Workbench, path: Path) -> None:
    with echo.record(path), pytest.raises(InvalidRequestError, match="after the open recording"):
        echo.record(path.with_name("other.jsonl"))
    before = path.read_text()
    echo.completion("not any more").result()
    assert path.read_text() == before
    with pytest.raises(InvalidRequestError, match="overwrite=True"):
        echo.record(path)
    echo.record(path, overwrite=True)
    echo.completion("again").result()
    echo.close()
    assert "again" in path.read_text()
    assert "to be" not in path.read_text()


def test_two_models_of_one_name_are_told_apart(path: Path) -> None:
    entries = [
        {"provider_id": name, "provider_type": "inline::echo", "config": {"context_length": length}}
        for name, length in (("long", 100), ("short", 4))
    ]
    with Workbench({"image_name": "two", "providers": {"inference": entries}}) as bench, bench.record(path):
        told = [bench.completion("a b c", model=name).result() for name in ("echo", "short/echo")]
    with playing(path) as bench:
        assert [bench.completion("a b c", model=name).result() for name in ("echo", "short/echo")] == told
        assert bench.card("short/echo").context_length == 4


def test_a_line_that_breaks_off_is_left_out_and_a_damaged_one_is_named(echo: Workbench, path: Path) -> None:
    with echo.record(path):
        echo.completion("to be").result()
        echo.completion("or not").result()
    text = path.read_text()
    path.write_text(text[:-30])
    with pytest.warns(UserWarning, match=r"run.jsonl: line \d+ is incomplete and was left out"):
        shortened = playing(path)
    with shortened as bench:
        assert bench.completion("to be").result().completion_message.content == "to be"
        with pytest.raises(NotRecordedError):
            bench.completion("or not")
    path.write_text(text.removesuffix("\n"))  # as an editor may leave it: nothing is lost
    with playing(path) as bench:
        bench.completion("or not").result()
    lines = text.splitlines(keepends=True)
    for bad in ("{}\n", '{"call": {"method": "completion"}}\n', "7\n", "{\n", '{"model": {"definition": 1}}\n'):
        path.write_text("".join([*lines[:2], bad, *lines[3:]]))
        with pytest.raises(ConfigError, match=r"provider 'one': trace .*run.jsonl, line 3: not a record"):
            playing(path)


@pytest.mark.parametrize(
    "content,said",
    [
        (None, "cannot be read"),
        (b"", "is not a trace"),
        (b"hello\n", "is not a trace"),
        (b'{"format": "other"}\n', "is not a trace"),
        (b'{"format": "workbench-trace", "version": 4}\n', "has version 4; this workbench reads versions 1, 2, 3"),
        (b"\xff\xfe\n", "is not UTF-8 text"),
    ],
)
def test_what_is_no_trace_is_refused_by_name(path: Path, content: bytes | None, said: str) -> None:
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        playing(path)


def test_what_cannot_be_written_is_refused_before_anything_is_recorded(echo: Workbench, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="a writable file"):
        echo.record(tmp_path, overwrite=True)
    assert echo.inference.recorder is None


async def test_a_closed_trace_plays_no_more(echo: Workbench, path: Path) -> None:
    with echo.record(path):
        await echo.inference.completion("echo", "a b c")
    bench = await asyncio.to_thread(playing, path)
    stream: Any = bench.inference.completion("echo", "a b c", stream=True)
    await anext(stream)
    await asyncio.to_thread(bench.close)
    with pytest.raises(ClosedError):
        await anext(stream)


def test_nothing_of_a_model_is_lost_on_its_card() -> None:
    card = ModelCard("a", "b", "c", "d", parameters=3, licence="MIT", memory_bytes=2**40)
    assert from_wire(ModelCard, json.loads(json.dumps(to_wire(card)))) == card
    assert math.isnan(from_wire(Usage, {"time_to_first_token_s": math.nan}).time_to_first_token_s or 0)
    assert {field.name for field in fields(ModelCard)} >= set(to_wire(card))
