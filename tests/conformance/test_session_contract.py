"""One contract for the sessions that widgets are given: a real workbench, and the fake that their tests use.

`tests.unit.widgets.fake_session` stands in for a workbench in every test of a widget. These laws run over it, over a
workbench with the echo, and over one with a small random model, so that a widget that works with one works with all.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, get_type_hints

import numpy as np
import pytest

from tests.fakes.found_models import empty_home
from tests.unit.widgets.fake_session import FakeSession, wait_until
from workbench import Workbench
from workbench.errors import InvalidRequestError, ModelNotFoundError, UnsupportedFieldError, WorkbenchError
from workbench.protocol import (
    CompletionMessage,
    LogProbConfig,
    RunConfig,
    SamplingParams,
    SamplingStrategy,
    StopReason,
    ToolCall,
    ToolChoice,
    ToolResponseMessage,
    UserMessage,
)
from workbench.records import Breakpoint, CallAttempt, FoundModel
from workbench.widgets.contract import Abilities, ConversationLike, RunLike, ServedModel, SessionLike

PATIENCE_S = 60
PROMPT = "The sky is blue and the sea is green. " * 8
GREEDY = SamplingParams(strategy=SamplingStrategy.greedy, max_tokens=200)
AFTER_FIRST = Breakpoint(entropy_above=0.0)
MOST = 6
FEW = SamplingParams(strategy=SamplingStrategy.greedy, max_tokens=MOST)
ENDED = ("finished", "cancelled", "failed")
FOLLOWERS = {"queued": {"running", "paused", *ENDED}, "running": {"paused", *ENDED}, "paused": {"running", *ENDED}}


@dataclass(frozen=True)
class Subject:
    """A session under test, with what differs between models."""

    session: Any
    branches: bool = True
    """Whether its model can branch, and gives whole distributions."""
    another: str | None = None
    """Where a further model comes from."""


def get_weather(city: Literal["Rome"]) -> str:
    """Return the weather.

    Args:
        city: the city.
    """
    return f"{city} is warm."


@pytest.fixture(params=["fake", "echo", pytest.param("tiny", marks=pytest.mark.model)])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "fake":
        call = ToolCall(call_id="1", tool_name="get_weather", arguments={"city": "Rome"})
        yield Subject(FakeSession(tokens_per_s=400, calls=[[call]]), another="another")
        return
    if request.param == "echo":
        config = {"inference": [{"provider_id": "echo", "provider_type": "inline::echo", "config": {"delay_s": 0.003}}]}
        another, branches = "another echo", False
    else:
        tiny = request.getfixturevalue("transformers")
        config = {"inference": [{"provider_id": "here", "provider_type": tiny.provider_type, "config": tiny.config}]}
        another, branches = tiny.registers, True
    with Workbench({"image_name": "contract", "providers": config}) as bench:
        yield Subject(bench, branches, another)


@pytest.fixture
def session(subject: Subject) -> Any:
    return subject.session


class Watched:
    """A run with what its subscribers saw."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.seen: list[tuple[str, list[Any]]] = [(run.state, list(run.tokens))]
        self.stop = run.subscribe(self._look)

    def _look(self, run: Any) -> None:
        assert run is self.run
        self.seen.append((run.state, list(run.tokens)))

    def until(self, condition: Callable[[Any], bool]) -> None:
        wait_until(lambda: condition(self.run), timeout_s=PATIENCE_S)

    def check(self) -> None:
        """The run has ended, its states followed in order, and its tokens only grew."""
        assert self.run.wait(PATIENCE_S)
        for (state, tokens), (later, more) in zip(self.seen, self.seen[1:], strict=False):
            assert later == state or later in FOLLOWERS[state]
            assert more[: len(tokens)] == tokens
        assert self.run.state in ENDED
        assert self.run.done


def start(session: Any, params: SamplingParams = GREEDY, **more: Any) -> Any:
    return session.completion(PROMPT, sampling_params=params, **more)


def ended(session: Any, params: SamplingParams = FEW, **more: Any) -> Any:
    run = start(session, params, **more)
    assert run.wait(PATIENCE_S)
    assert run.error is None
    return run


def held(session: Any) -> Any:
    """A run that is paused after its first token, however busy the machine is; the token may still be buffered."""
    run = start(session, breakpoints=[AFTER_FIRST])
    wait_until(lambda: run.state == "paused", timeout_s=PATIENCE_S)
    return run


def refused(error: type[WorkbenchError], call: Callable[[], object], field: str | None = None) -> None:
    with pytest.raises(error) as caught:
        call()
    if field is not None:
        assert getattr(caught.value, "field", None) == field


# ------------------------------------------------------------------------------------------------------------- shape


def members(protocol: type) -> dict[str, Any]:
    """The public members of a protocol and of those that it extends; None for an annotated attribute."""
    found: dict[str, Any] = {}
    for base in protocol.__mro__:
        if base in (object, Protocol) or base.__name__ == "Generic":
            continue
        named = {**dict.fromkeys(inspect.get_annotations(base)), **vars(base)}
        found |= {name: value for name, value in named.items() if not name.startswith("_") and name not in found}
    return found


def parameters(declared: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a method of a protocol; `Unpack` of a typed dict stands for optional keywords of its names."""
    _self, *found = inspect.signature(declared).parameters.values()
    named: dict[str, inspect.Parameter] = {}
    for one in found:
        typed_dicts = get_args(get_type_hints(declared)[one.name]) if one.kind is one.VAR_KEYWORD else ()
        for settings in typed_dicts:
            assert not settings.__required_keys__
            named |= {key: inspect.Parameter(key, one.KEYWORD_ONLY) for key in settings.__optional_keys__}
        if not typed_dicts:
            named[one.name] = one
    return named


def check_shape(protocol: type, one: object) -> None:
    """Every member is there, and every call that the protocol allows is accepted."""
    for name, declared in members(protocol).items():
        assert hasattr(one, name), name
        if not inspect.isfunction(declared):
            continue
        own = inspect.signature(getattr(one, name)).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values())
        asked = parameters(declared)
        for parameter in asked.values():
            if parameter.name not in own:
                assert takes_any, f"{name}({parameter.name})"
                continue
            found = own[parameter.name]
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
                assert found.kind is parameter.kind, f"{name}({parameter.name})"
                assert list(own).index(found.name) == list(asked).index(found.name), f"{name}({parameter.name})"
            if parameter.default is not parameter.empty:
                assert found.default == parameter.default, f"{name}({parameter.name})"
        for parameter in own.values():
            is_open = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
            assert parameter.name in asked or is_open or parameter.default is not parameter.empty, (
                f"{name}({parameter})"
            )


def test_every_protocol_is_implemented_with_its_signatures(session: Any) -> None:
    check_shape(SessionLike, session)
    check_shape(ConversationLike, session.conversation())
    check_shape(Abilities, session.capabilities())
    for model in session.list_models():
        check_shape(ServedModel, model)
    check_shape(RunLike, ended(session))


# -------------------------------------------------------------------------------------------------------------- runs


def test_a_run_passes_its_states_in_order_and_its_tokens_only_grow(session: Any) -> None:
    watched = Watched(start(session, logprobs=LogProbConfig(top_k=2)))
    watched.check()
    run = watched.run
    assert (run.state, run.error, run.progress, run.breakpoint) == ("finished", None, None, None)
    assert run.stop_reason in tuple(StopReason)
    assert [token.position for token in run.tokens] == list(range(len(run.tokens)))
    text = b"".join(token.bytes for token in run.tokens if not token.is_special).decode("utf-8", "replace")
    assert run.text == text
    assert "".join(part for part in run.parts if isinstance(part, str)) == text
    assert run.usage.generated_tokens == len(run.tokens) > 0
    assert all(len(token.alternatives) == 2 for token in run.tokens)
    assert (run.prompt, run.sampling_params.max_tokens) == (PROMPT, GREEDY.max_tokens)
    assert (run.parent, run.branched_at, run.reads) == (None, None, False)
    assert isinstance(run.seed, int | None)
    assert list(run.call_attempts) == []


def test_max_tokens_is_the_most_that_an_answer_has(session: Any) -> None:
    run = ended(session)
    assert len(run.tokens) <= MOST
    assert (run.stop_reason == StopReason.out_of_tokens) == (len(run.tokens) == MOST)


def test_runs_have_different_ids_and_the_model_that_was_asked_for(session: Any) -> None:
    identifier = ended(session).model
    runs = [ended(session, model=identifier) for _ in range(2)]
    assert len({run.id for run in runs}) == 2
    assert {run.model for run in runs} == {identifier}


def test_a_subscriber_of_a_run_that_has_ended_is_called_at_once_and_one_that_stops_is_not(session: Any) -> None:
    run = ended(session)
    calls: list[Any] = []
    stop = run.subscribe(calls.append)
    assert calls == [run]
    stop()
    stop()
    going = start(session)
    going.subscribe(calls.append)()
    going.subscribe(lambda _: 1 / 0)
    assert going.wait(PATIENCE_S)
    assert (calls, going.state) == ([run], "finished")


def test_wait_returns_whether_the_run_has_ended(session: Any) -> None:
    run = held(session)
    assert (run.wait(0), run.wait(0.05), run.done) == (False, False, False)
    run.cancel()
    assert (run.wait(PATIENCE_S), run.wait(0), run.done) == (True, True, True)


def test_a_run_pauses_at_a_breakpoint_until_it_is_resumed(session: Any) -> None:
    watched = Watched(held(session))
    assert watched.run.breakpoint == AFTER_FIRST
    watched.run.resume()
    watched.until(lambda _: [state for state, _ in watched.seen].count("paused") == 2)
    watched.run.cancel()
    watched.check()
    assert (watched.run.state, watched.run.breakpoint) == ("cancelled", None)


def test_a_paused_run_stands_still_until_it_is_resumed(session: Any) -> None:
    watched = Watched(start(session))
    run = watched.run
    assert run.can_pause is session.capabilities().pause is True
    run.pause()
    watched.until(lambda run: run.state == "paused")
    count = len(run.tokens)
    assert not run.wait(0.1)
    assert (run.state, len(run.tokens), run.breakpoint) == ("paused", count, None)
    run.resume()
    assert run.state != "paused"
    watched.check()
    assert (run.state, len(run.tokens) > count) == ("finished", True)


def test_a_run_that_has_ended_is_neither_paused_nor_cancelled(session: Any) -> None:
    run = ended(session)
    before = run.text, list(run.tokens)
    run.pause()
    run.resume()
    run.cancel()
    assert (run.state, (run.text, list(run.tokens))) == ("finished", before)


@pytest.mark.parametrize("is_paused", [False, True])
def test_a_cancelled_run_keeps_its_tokens(session: Any, is_paused: bool) -> None:
    watched = Watched(held(session) if is_paused else start(session))
    if is_paused:
        watched.run.cancel()
    watched.run.subscribe(lambda run: run.cancel() if run.tokens else None)
    watched.check()
    assert watched.run.state == "cancelled"
    assert (watched.run.stop_reason, watched.run.error) == (None, None)
    assert is_paused or len(watched.run.tokens) > 0


def test_the_prompt_of_a_run_can_be_rendered(session: Any) -> None:
    run = ended(session)
    prompt = run.render()
    assert (prompt.model, prompt.text) == (run.model, PROMPT)
    assert b"".join(token.bytes for token in prompt.tokens).decode().strip() == PROMPT.strip()


# ---------------------------------------------------------------------------------------------------------- branches


def test_a_branch_keeps_the_tokens_before_its_position(subject: Subject) -> None:
    run = ended(subject.session, logprobs=LogProbConfig(top_k=3))
    if not subject.branches:
        refused(UnsupportedFieldError, lambda: run.branch(2), "model")
        return
    other = run.tokens[2].alternatives[1].token_id
    for token_id in (None, other):
        branch = run.branch(2, token_id)
        assert (branch.parent, branch.branched_at, branch.prompt) == (run, 2, run.prompt)
        assert branch.wait(PATIENCE_S)
        ids = [token.token_id for token in branch.tokens]
        assert ids[:2] == [token.token_id for token in run.tokens[:2]]
        assert ids[2] == (run.tokens[2].token_id if token_id is None else token_id)
        assert branch.usage.kept_tokens == 2
    assert run.branch(0, sampling_params=FEW.model_copy(update={"max_tokens": 3})).sampling_params.max_tokens == 3


@pytest.mark.parametrize(
    "arguments, field",
    [
        ((-1,), "position"),
        ((10_000,), "position"),
        (("1",), "position"),
        ((1.5,), "position"),
        ((1, -1), "token_id"),
        ((1, "x"), "token_id"),
    ],
)
def test_a_branch_refuses_bad_arguments(session: Any, arguments: tuple[Any, ...], field: str) -> None:
    run = ended(session)
    refused(InvalidRequestError, lambda: run.branch(*arguments), field)


def test_a_branch_has_room_for_its_tokens(session: Any) -> None:
    run = ended(session)
    few = FEW.model_copy(update={"max_tokens": 1})
    refused(InvalidRequestError, lambda: run.branch(3, sampling_params=few), "sampling_params.max_tokens")


def test_only_what_was_stopped_or_cut_off_is_extended(subject: Subject) -> None:
    going = held(subject.session)
    refused(InvalidRequestError, going.extend, "state")
    going.cancel()
    run = start(subject.session)
    run.subscribe(lambda run: run.cancel() if run.tokens else None)
    assert run.wait(PATIENCE_S)
    refused(InvalidRequestError, lambda: run.extend(-1), "max_tokens")
    if not subject.branches:
        refused(UnsupportedFieldError, run.extend, "model")
        return
    count = len(run.tokens)
    longer = run.extend(4)
    assert (longer.parent, longer.branched_at) == (run, count)
    assert longer.wait(PATIENCE_S)
    assert [token.token_id for token in longer.tokens][:count] == [token.token_id for token in run.tokens]
    assert count < len(longer.tokens) <= count + 4


def test_again_is_the_same_request_and_no_branch(session: Any) -> None:
    run = ended(session)
    other = run.again(7)
    assert other.wait(PATIENCE_S)
    assert (other.prompt, other.model, other.parent, other.branched_at) == (run.prompt, run.model, None, None)
    assert (other.sampling_params.seed, other.sampling_params.max_tokens) == (7, FEW.max_tokens)
    assert [token.token_id for token in other.tokens] == [token.token_id for token in run.tokens]
    refused(InvalidRequestError, lambda: run.again("x"))


# -------------------------------------------------------------------------------------------------------- inspection


def test_a_sampling_trace_has_the_stages_of_the_draw(subject: Subject) -> None:
    run = ended(
        subject.session,
        SamplingParams(strategy=SamplingStrategy.top_p, temperature=0.8, top_p=0.9, seed=1, max_tokens=6),
    )
    if not subject.branches:
        refused(UnsupportedFieldError, lambda: run.sampling_trace(0), "position")
        refused(UnsupportedFieldError, lambda: run.logprobs(0), "position")
        return
    token = run.tokens[1]
    trace = run.sampling_trace(1)
    names = [stage.name for stage in trace.stages]
    assert names[0] == "raw"
    assert len(set(names)) == len(names)
    assert {"temperature", "top_p"} <= set(names)
    assert len({stage.probabilities.shape for stage in trace.stages}) == 1
    assert all(math.isclose(float(stage.probabilities.sum()), 1, rel_tol=1e-4) for stage in trace.stages)
    assert (trace.token_id, trace.text(trace.token_id)) == (token.token_id, token.text)
    assert trace.number is not None
    assert 0 <= trace.number < 1
    greedy = run.sampling_trace(1, FEW)
    assert (greedy.number, greedy.token_id) == (None, int(np.argmax(run.logprobs(1))))
    assert run.sampling_trace(1, None, 0.25).number == 0.25
    logprobs = run.logprobs(1)
    assert (logprobs.dtype, logprobs.shape) == (np.float32, trace.stages[0].probabilities.shape)
    assert math.isclose(float(np.exp(logprobs.astype(np.float64)).sum()), 1, rel_tol=1e-4)
    assert math.isclose(float(logprobs[token.token_id]), token.logprob, abs_tol=1e-3)


@pytest.mark.parametrize(
    "arguments, field",
    [
        ((-1,), "position"),
        (("0",), "position"),
        ((10_000,), "position"),
        ((0, "greedy"), "sampling_params"),
        ((0, None, 1.0), "number"),
        ((0, None, -0.1), "number"),
    ],
)
def test_a_sampling_trace_refuses_bad_arguments(subject: Subject, arguments: tuple[Any, ...], field: str) -> None:
    run = ended(subject.session)
    error = InvalidRequestError if subject.branches or arguments[0] != 10_000 else UnsupportedFieldError
    refused(error, lambda: run.sampling_trace(*arguments), field)


def test_a_run_without_tools_has_no_steps_of_calls(session: Any) -> None:
    refused(InvalidRequestError, ended(session).call_steps, "tools")


def test_a_lens_ends_with_what_the_model_said_in_any_window(subject: Subject) -> None:
    run, same = (ended(subject.session, logprobs=LogProbConfig(top_k=4)) for _ in range(2))
    if not subject.branches:
        refused(UnsupportedFieldError, run.lens_columns, "model")
        return
    refused(UnsupportedFieldError, lambda: run.lens_columns(kind="jacobian"), "kind")
    count = len(run.tokens)
    windows = [run.lens_columns(positions, words=4) for positions in ([count - 1], [0, 1], range(1, count))]
    columns = same.lens_columns(words=4)
    assert windows == [columns[-1:], columns[:2], columns[1:]]
    assert len({len(column.cells) for column in columns}) == 1
    for column, token in zip(columns, run.tokens, strict=True):
        assert (column.token_id, column.text) == (token.token_id, token.text)
        last = column.cells[-1]
        assert last.rank == token.rank
        assert math.isclose(last.probability, token.probability, rel_tol=1e-3)
        for cell in column.cells:
            shares = [word.probability for word in cell.words]
            assert (len(shares), sorted(shares, reverse=True)) == (4, shares)
            assert (column.token_id in [word.token_id for word in cell.words]) == (cell.rank <= 4)


# ---------------------------------------------------------------------------------------------------------- readings


def test_a_reading_measures_its_text_and_generates_nothing(session: Any) -> None:
    watched = Watched(session.reading("one two three", alternatives=2))
    watched.check()
    run = watched.run
    assert (run.state, run.reads, run.can_pause, run.stop_reason, run.error) == ("finished", True, False, None, None)
    assert b"".join(token.bytes for token in run.tokens).decode() == run.text == "one two three"
    assert math.isnan(run.tokens[0].logprob)
    assert all(math.isfinite(token.logprob) and len(token.alternatives) == 2 for token in run.tokens[1:])
    assert run.usage.generated_tokens == 0
    for call in (run.pause, lambda: run.branch(1), run.extend, lambda: run.sampling_trace(1), lambda: run.logprobs(1)):
        refused(UnsupportedFieldError, call)


def test_a_reading_refuses_bad_arguments(session: Any) -> None:
    refused(InvalidRequestError, lambda: session.reading(""), "text")
    refused(InvalidRequestError, lambda: session.reading(5), "text")
    refused(InvalidRequestError, lambda: session.reading("a", alternatives=-1), "alternatives")


# ----------------------------------------------------------------------------------------------------- conversations


def answer(conversation: Any) -> CompletionMessage:
    message: CompletionMessage = conversation.add_answer(conversation.start_answer(sampling_params=FEW))
    return message


def test_a_conversation_alternates_what_is_said_and_answered(session: Any) -> None:
    conversation = session.conversation()
    conversation.system = "Be brief."
    conversation.say("One two three")
    before = list(conversation.turns)
    assert [type(turn) for turn in before] == [UserMessage]
    message = answer(conversation)
    assert conversation.turns == [*before, message]
    assert [turn.role for turn in conversation.messages] == ["system", "user", "assistant"]
    assert (list(conversation.tools), dict(conversation.outcomes)) == ([], {})


def test_what_is_rewound_is_restored_as_it_was(session: Any) -> None:
    conversation = session.conversation()
    for text in ("One two", "Three four"):
        conversation.say(text)
        answer(conversation)
    turns = list(conversation.turns)
    tail = conversation.tail(2)
    conversation.rewind(2)
    assert conversation.turns == turns[:2]
    conversation.restore(tail)
    assert conversation.turns == turns


def test_an_answer_that_was_cancelled_is_a_turn_without_calls(session: Any) -> None:
    conversation = session.conversation(tools=[get_weather])
    conversation.say("How is the weather in Rome?")
    run = conversation.start_answer(sampling_params=GREEDY)
    run.cancel()
    assert conversation.add_answer(run).tool_calls == []
    assert dict(conversation.open_calls) == {}


def calling(session: Any) -> Any:
    """A conversation whose last answer calls the weather; a random model does so only because it has to."""
    conversation = session.conversation(tools=[get_weather], tool_choice=ToolChoice.required)
    assert [tool["name"] for tool in conversation.tools] == ["get_weather"]
    conversation.say("How is the weather in Rome?")
    run = conversation.start_answer(logprobs=LogProbConfig(top_k=1), sampling_params=SamplingParams(max_tokens=400))
    assert conversation.add_answer(run).tool_calls
    (attempt,) = run.call_attempts
    assert isinstance(attempt, CallAttempt)
    assert (attempt.status, attempt.call) == ("success", conversation.open_calls[0])
    assert attempt in run.parts
    assert run.stop_reason == StopReason.end_of_message
    steps = run.call_steps()
    assert [step.position for step in steps] == list(range(len(run.tokens)))
    assert {step.parse_state for step in steps} >= {"started", "success"}
    return conversation


def test_a_call_is_run_and_its_result_is_a_turn(session: Any) -> None:
    conversation = calling(session)
    (call,) = conversation.open_calls.values()
    assert conversation.can_run(call)
    result = conversation.result(call)
    assert isinstance(result, ToolResponseMessage)
    conversation.set_result(0, result)
    assert (conversation.open_calls, conversation.turns[-1], conversation.outcomes) == ({}, result, {2: "ran"})
    answer(conversation)
    assert [turn.role for turn in conversation.turns] == ["user", "assistant", "ipython", "assistant"]


def test_a_call_can_be_declined_stopped_or_fail(session: Any) -> None:
    conversation = calling(session)
    tail = conversation.tail(1)
    (call,) = conversation.open_calls.values()
    assert isinstance(conversation.result(call.model_copy(update={"tool_name": "nobody"})), Exception)
    conversation.set_result(0, LookupError("no such city"))
    assert conversation.outcomes == {2: "failed"}
    conversation.decline(0)
    assert conversation.outcomes == {2: "declined"}
    conversation.set_result(0, "Stopped.", "stopped")
    assert conversation.outcomes == {2: "stopped"}
    conversation.rewind(1)
    conversation.restore(tail)
    assert [turn.role for turn in conversation.turns] == ["user", "assistant"]


def test_a_conversation_refuses_what_cannot_be_run(session: Any) -> None:
    async def later(city: str) -> str:
        """Return the weather."""
        return city

    for tools in ([later], [get_weather, get_weather], ["get_weather"]):
        refused(InvalidRequestError, lambda tools=tools: session.conversation(tools=tools))  # type: ignore[misc]


# ------------------------------------------------------------------------------------------------------------ models


def test_every_model_that_is_listed_has_a_card_and_capabilities(session: Any) -> None:
    assert isinstance(session.config, RunConfig)
    providers = [provider.provider_id for provider in session.config.providers["inference"]]
    models = session.list_models()
    assert models
    for model in models:
        assert model.provider_id in providers
        card = session.card(f"{model.provider_id}/{model.identifier}")
        assert (card.identifier, card.provider_id) == (model.identifier, model.provider_id)
        assert isinstance(session.capabilities(model.identifier).pause, bool)
    first = next(model for model in models if session.card(model.identifier).kind == "causal")
    assert session.card().identifier == first.identifier == ended(session).model.rpartition("/")[2]
    for provider_id in providers:
        assert all(isinstance(name, str) for name in session.devices(provider_id))


def test_an_unknown_model_is_refused_by_every_method(session: Any) -> None:
    calls: Sequence[Callable[[], object]] = (
        lambda: session.completion("Hi", model="nobody"),
        lambda: session.chat_completion([UserMessage(content="Hi")], model="nobody"),
        lambda: session.reading("Hi", model="nobody"),
        lambda: session.card("nobody"),
        lambda: session.capabilities("nobody"),
        lambda: session.unregister_model("nobody"),
    )
    for call in calls:
        refused(ModelNotFoundError, call)


def test_bad_input_is_refused_before_a_run_starts(session: Any) -> None:
    for method, prompt in ((session.completion, "Hi"), (session.chat_completion, [UserMessage(content="Hi")])):
        refused(InvalidRequestError, lambda: method(prompt, sampling_params="greedy"), "sampling_params")  # noqa: B023
        refused(InvalidRequestError, lambda: method(prompt, breakpoints=["x"]), "breakpoints")  # noqa: B023
        refused(InvalidRequestError, lambda: method(prompt, logprobs="all"), "logprobs")  # noqa: B023
    refused(InvalidRequestError, lambda: session.completion(5), "content")
    refused(InvalidRequestError, lambda: session.completion("Hi", model=5), "model")
    refused(InvalidRequestError, lambda: session.chat_completion("Hi"), "messages")
    refused(InvalidRequestError, lambda: session.chat_completion([]), "messages")


def test_models_that_are_found_are_records_and_finding_them_serves_none(
    session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_home(tmp_path, monkeypatch)
    served = session.list_models()
    assert all(isinstance(model, FoundModel) for model in session.models_found())
    assert session.list_models() == served


def test_a_registered_model_is_listed_until_it_is_unregistered(subject: Subject) -> None:
    session = subject.session
    before = [model.identifier for model in session.list_models()]
    made = session.register_model("further", subject.another)
    assert made.identifier == "further"
    assert [model.identifier for model in session.list_models()] == [*before, "further"]
    assert session.card("further").identifier == "further"
    session.register_model("further", subject.another)
    assert [model.identifier for model in session.list_models()] == [*before, "further"]
    refused(InvalidRequestError, lambda: session.register_model("other", subject.another, provider_id="nobody"))
    session.unregister_model("further")
    assert [model.identifier for model in session.list_models()] == before
    refused(ModelNotFoundError, lambda: session.card("further"))


def test_several_runs_can_be_in_progress(session: Any) -> None:
    runs = [start(session) for _ in range(3)]
    assert all(run.wait(PATIENCE_S) for run in runs)
    assert {run.state for run in runs} == {"finished"}
