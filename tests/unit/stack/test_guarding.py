"""Nothing of a refused sentence leaves, everything before it does, and a harmless answer is not changed."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.scripted_streams import ScriptedStream, cut, scripted_token
from tests.fakes.shields import FORBIDDEN, WordShields, at_once, violation
from tests.fakes.tasks import other_tasks_ended
from workbench.errors import ShieldError, ShieldViolationError, WorkbenchError
from workbench.protocol import (
    CompletionMessage,
    Message,
    Provider,
    RunShieldResponse,
    SafetyViolation,
    ShieldStore,
    StopReason,
    SystemMessage,
    ToolCall,
    ToolCallDelta,
    ToolCallParseStatus,
    ToolResponseMessage,
    UserMessage,
    ViolationLevel,
)
from workbench.providers.folding import folded, response
from workbench.providers.requests import Request
from workbench.providers.streams import Stream
from workbench.records import Emission
from workbench.stack.guarding import Guard, guarded
from workbench.stack.withholding import WithheldEmissions

QUESTION: list[Message] = [UserMessage(content="What is it?")]
WORDS = ["Well", "it", "is", "3.14", "e.g.", "fine", "für", "日本", "🙂", FORBIDDEN, "doubtful", "unclear"]
ENDS = [" ", " ", " ", ", ", ". ", "! ", '." ', "\n", "\n\n", "。", "…  "]
ANSWERS = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(ENDS)), max_size=12).map(
    lambda pairs: "".join(word + end for word, end in pairs).removesuffix(" ")
)


class Words:
    """A `Safety` of word shields."""

    def __init__(self) -> None:
        config = {"shields": [{"identifier": "words"}, {"identifier": "lenient", "params": {"refused": []}}]}
        self.shields = WordShields(Provider(provider_id="w", provider_type="words", config=config), None)
        self.shield_store: ShieldStore = self.shields
        self.asked: list[tuple[str, list[Message]]] = []
        self.running = self.most_running = 0

    async def run_shield(self, shield_type: str, messages: list[Message], params: Any = None) -> RunShieldResponse:
        self.asked.append((shield_type, list(messages)))
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            return await self.shields.run_shield(shield_type, messages, params)
        finally:
            self.running -= 1


class Answer:
    """What a reader of a guarded stream gets."""

    def __init__(self) -> None:
        self.emissions: list[Emission] = []
        self.error: WorkbenchError | None = None

    @property
    def text(self) -> str:
        return folded(self.emissions).delta  # type: ignore[return-value]  # folded to text

    @property
    def token_bytes(self) -> bytes:
        return b"".join(token.bytes for one in self.emissions for token in one.tokens)


async def read(stream: ScriptedStream, safety: Words, shields: Sequence[str] = ("words",)) -> Answer:
    answer = Answer()
    emissions = Stream(guarded(Guard(safety, tuple(shields), QUESTION), stream))
    try:
        async for emission in emissions:
            answer.emissions.append(emission)
    except WorkbenchError as error:
        answer.error = error
    return answer


def heard(stream: ScriptedStream, shields: Sequence[str] = ("words",)) -> Answer:
    return asyncio.run(read(stream, Words(), shields))


def sentences(text: str) -> list[str]:
    """The sentences of a text, found character by character instead of with a pattern."""
    found, begin = [], 0
    for index, character in enumerate(text):
        end = index + 1 if character in "\n。" else index if character == " " else None
        ends = character in "\n。" or text[begin:index].rstrip('"').endswith((".", "!", "…", "。"))
        if end is not None and ends:
            found.append(text[begin:end])
            begin = end
    return [*found, text[begin:]]


def allowed_text(text: str) -> tuple[str, str | None]:
    """The text before the first sentence that must not pass, and why it must not."""
    passed = ""
    for sentence in sentences(text):
        why = "no verdict" if "unclear" in sentence else "refused" if FORBIDDEN in sentence else None
        if why:
            return passed, why
        passed += sentence
    return passed, None


STREAMS = st.builds(
    lambda text, cuts, held_back: (text, cuts, cut(text, cuts, held_back=held_back)),
    ANSWERS,
    st.lists(st.integers(0, 80), max_size=30),
    st.integers(0, 5),
)


@given(made=STREAMS)
def test_exactly_the_text_before_the_first_refused_sentence_leaves(made: tuple[str, list[int], list[Emission]]) -> None:
    text, _, emissions = made
    stream = ScriptedStream(emissions)
    answer = heard(stream)
    passed, why = allowed_text(text)
    assert answer.text == passed
    if why is None:
        assert answer.error is None
    else:
        assert type(answer.error) is (ShieldError if why == "no verdict" else ShieldViolationError)
        assert passed.encode().startswith(answer.token_bytes)
        shown = repr(answer.emissions) + repr(answer.error) + repr(vars(answer.error))
        assert FORBIDDEN not in shown
        assert not any(one.stop_reason or one.end for one in answer.emissions)


@given(made=STREAMS)
def test_the_model_computes_no_step_after_the_one_that_ends_the_refused_sentence(
    made: tuple[str, list[int], list[Emission]],
) -> None:
    text, _, emissions = made
    stream = ScriptedStream(emissions)
    heard(stream)
    passed, why = allowed_text(text)
    refused = sentences(text[len(passed) :])[0]
    shows_end = len(passed + refused) + (not refused.endswith(("\n", "。")))
    steps, seen = 0, 0
    for emission in emissions:
        steps += 1
        seen += len(str(emission.delta))
        if why is not None and seen >= shows_end:
            break
    assert stream.closed_after == stream.steps == steps


@given(made=STREAMS)
def test_an_answer_without_refusals_is_not_changed(made: tuple[str, list[int], list[Emission]]) -> None:
    _, _, emissions = made
    answer = heard(ScriptedStream(emissions), ["lenient"])
    if answer.error is None and "doubtful" not in answer.text:
        assert answer.emissions == emissions


@given(made=STREAMS)
def test_facts_of_the_whole_answer_arrive_once_in_any_case(made: tuple[str, list[int], list[Emission]]) -> None:
    answer = heard(ScriptedStream(made[2]))
    assert [one.prompt_tokens for one in answer.emissions if one.prompt_tokens] == [(scripted_token(0, b"?"),)]
    assert folded(answer.emissions).seed == 7
    assert folded(answer.emissions).notes[:1] == ("own note",)


@given(made=STREAMS)
def test_each_sentence_is_judged_once_with_all_before_it(made: tuple[str, list[int], list[Emission]]) -> None:
    text, _, emissions = made
    safety = Words()
    asyncio.run(read(ScriptedStream(emissions), safety))
    passed, _ = allowed_text(text)
    judged = sentences(passed) + sentences(text[len(passed) :])[:1]
    so_far = ["".join(judged[: index + 1]) for index, sentence in enumerate(judged) if sentence.strip()]
    assert [messages[-1].content for _, messages in safety.asked] == ["What is it?", *so_far]
    assert all(messages[:-1] == QUESTION for _, messages in safety.asked[1:])


def test_the_error_says_which_shield_refused_what() -> None:
    answer = heard(ScriptedStream(cut(f"Fine. It is {FORBIDDEN}. And more.", [3, 9, 20])))
    error = answer.error
    assert isinstance(error, ShieldViolationError)
    assert (error.shield, error.where) == ("words", "answer")
    assert error.violation.metadata == {
        "category": "S9",
        "name": "Indiscriminate Weapons",
        "probability": 0.93,
        "threshold": 0.5,
    }
    assert "category S9 (Indiscriminate Weapons), probability 0.93" in str(error)
    assert answer.text == "Fine."


def test_usage_counts_what_was_computed() -> None:
    answer = heard(ScriptedStream(cut(f"Fine. It is {FORBIDDEN}.\nAnd more.", range(40))))
    usage = folded(answer.emissions).usage
    assert usage is not None
    assert usage.generated_tokens == len(f"Fine. It is {FORBIDDEN}.\n") > len(answer.token_bytes)


def test_a_token_ahead_of_its_text_is_withheld_after_bytes_that_are_no_characters() -> None:
    bad = [Emission("\ufffd", (scripted_token(i, b"\xff"),)) for i in range(9)]
    ahead = Emission("\n", (scripted_token(9, f"\n{FORBIDDEN}".encode()),))
    stream = ScriptedStream([*bad, ahead, Emission(FORBIDDEN, stop_reason=StopReason.end_of_turn)])
    answer = heard(stream)
    assert answer.text == "\ufffd" * 9 + "\n"
    assert answer.token_bytes == b"\xff" * 9
    assert FORBIDDEN not in repr(answer.emissions)


def test_a_token_with_the_first_byte_of_a_refused_sentence_is_withheld() -> None:
    first, *rest = "🙂".encode()
    emissions = [
        Emission("One.\n", (scripted_token(0, b"One.\n" + bytes([first])),)),
        Emission(f"🙂 {FORBIDDEN}", (scripted_token(1, bytes(rest) + FORBIDDEN.encode()),), StopReason.end_of_turn),
    ]
    answer = heard(ScriptedStream(emissions))
    assert (answer.text, answer.token_bytes) == ("One.\n", b"")


@pytest.mark.parametrize("text, passed", [("One. Two", "One. Two"), (f"One. {FORBIDDEN}", "One.")])
def test_a_stream_without_a_stop_reason_is_judged_to_its_end(text: str, passed: str) -> None:
    answer = heard(ScriptedStream([Emission(text)]))
    assert answer.text == passed
    assert (answer.error is None) == (text == passed)


def test_the_space_before_a_text_does_not_hold_a_sentence_back() -> None:
    emissions = [Emission("One.", (scripted_token(0, b" One."),)), Emission(" T", (scripted_token(1, b" T"),))]
    withheld = WithheldEmissions()
    for emission in emissions:
        for sentence in withheld.add(emission):
            withheld.let_pass(sentence)
    assert list(withheld.passed(())) == emissions[:1]


@pytest.mark.parametrize("where", ["first", "second"])
def test_a_refused_prompt_starts_nothing(where: str) -> None:
    stream, safety = ScriptedStream(cut("Never read.", [])), Words()
    messages: list[Message] = [
        UserMessage(content=FORBIDDEN if where == "first" else "Hello"),
        CompletionMessage(content="Hi", stop_reason=StopReason.end_of_turn),
        ToolResponseMessage(call_id="1", tool_name="f", content=FORBIDDEN),
    ]
    with pytest.raises(ShieldViolationError) as raised:
        asyncio.run(_next(guarded(Guard(safety, ("words",), messages), stream)))
    assert raised.value.where == "prompt"
    assert stream.started == 0
    assert len(safety.asked[-1][1]) == (1 if where == "first" else 3)


def test_messages_of_the_operator_and_the_model_are_context_alone() -> None:
    safety = Words()
    messages: list[Message] = [
        SystemMessage(content=f"Never say {FORBIDDEN}."),
        CompletionMessage(content=FORBIDDEN, stop_reason=StopReason.end_of_turn),
        UserMessage(content="Why?"),
    ]
    assert asyncio.run(_next(guarded(Guard(safety, ("words",), messages), ScriptedStream(cut("Fine.", [])))))
    assert safety.asked[0][1] == messages


async def _next(stream: Any) -> Any:
    try:
        return await anext(stream)
    finally:
        await stream.aclose()


def test_lower_levels_are_notes_of_all_emissions_from_there_on() -> None:
    answer = heard(ScriptedStream(cut("Fine. Quite doubtful. And more.", [5, 21])))
    note = "shield words (warn): category S9 (Indiscriminate Weapons), probability 0.40, in the answer"
    assert [(one.delta, one.notes) for one in answer.emissions] == [
        ("Fine.", ("own note",)),
        (" Quite doubtful.", ("own note", note)),
        (" And more.", ("own note", note)),
        ("", ("own note", note)),
    ]
    assert answer.error is None
    assert answer.text == "Fine. Quite doubtful. And more."


def test_a_finding_that_later_sentences_disprove_is_no_note_any_more() -> None:
    class Undecided(Words):
        async def run_shield(self, shield_type: str, messages: list[Message], params: Any = None) -> RunShieldResponse:
            await super().run_shield(shield_type, messages, params)
            is_early = messages[-1].content == "One."
            return RunShieldResponse(violation=violation(ViolationLevel.info, 0.1) if is_early else None)

    answer = asyncio.run(read(ScriptedStream(cut("One. Two.", [4])), Undecided()))
    assert [len(one.notes) for one in answer.emissions] == [2, 1, 1]


@pytest.mark.parametrize(
    "metadata, summary",
    [
        ({"category": "S1", "name": "Crimes", "probability": 0.875}, "category S1 (Crimes), probability 0.88"),
        ({"category": "S1"}, "category S1"),
        ({"category": None, "name": "Unsafe Content", "probability": 1}, "Unsafe Content, probability 1.00"),
        ({"severity": "HIGH"}, "Please do not."),
    ],
)
def test_a_violation_is_summed_up_by_what_it_has(metadata: dict[str, Any], summary: str) -> None:
    found = SafetyViolation(violation_level=ViolationLevel.error, user_message="Please do not.", metadata=metadata)
    assert found.summary == summary
    assert SafetyViolation(violation_level=ViolationLevel.warn).summary == "violation of level warn"


# ------------------------------------------------------------------------------------------------------ tool calls


def call_stream(arguments: dict[str, Any], *, before: str = "Let me look.", after: str = "") -> list[Emission]:
    written = f'{{"name": "look", "parameters": {arguments}}}'
    call = ToolCall(call_id="1", tool_name="look", arguments=arguments)
    delta = ToolCallParseStatus
    return [
        Emission(before, (scripted_token(0, before.encode()),), seed=3),
        Emission(ToolCallDelta(content="", parse_status=delta.started)),
        Emission(
            ToolCallDelta(content=written, parse_status=delta.in_progress), (scripted_token(1, written.encode()),)
        ),
        Emission(ToolCallDelta(content=call, parse_status=delta.success)),
        *([Emission(after)] if after else []),
        Emission(stop_reason=StopReason.end_of_message),
    ]


def test_a_call_is_withheld_until_its_arguments_are_judged() -> None:
    stream, safety = ScriptedStream(call_stream({"place": FORBIDDEN, "days": [1, "two"]})), Words()
    answer = asyncio.run(read(stream, safety))
    assert isinstance(answer.error, ShieldViolationError)
    assert [one.delta for one in answer.emissions[:-1]] == ["Let me look."]
    assert answer.emissions[-1].delta == ""
    assert stream.closed_after == 4
    assert safety.asked[-1][1][-1].content == f"Let me look.\nplace\n{FORBIDDEN}\ndays\n1\ntwo\n"


def test_a_harmless_call_is_not_changed() -> None:
    emissions = call_stream({"place": "Paris", "more": {"deep": None}}, after="Done? Yes")
    assert heard(ScriptedStream(emissions)).emissions == emissions


def test_a_call_without_written_text_is_judged_too() -> None:
    call = ToolCall(call_id="1", tool_name="look", arguments={"place": FORBIDDEN})
    emissions = [
        Emission(ToolCallDelta(content=call, parse_status=ToolCallParseStatus.success)),
        Emission(stop_reason=StopReason.end_of_message),
    ]
    answer = heard(ScriptedStream(emissions))
    assert isinstance(answer.error, ShieldViolationError)
    assert not any(isinstance(one.delta, ToolCallDelta) for one in answer.emissions)


@pytest.mark.parametrize("ending", ["failure", "text", "end"])
def test_a_malformed_call_is_judged_as_text(ending: str) -> None:
    status = ToolCallParseStatus
    raw = f"<call>One. {FORBIDDEN}"
    closing = {
        "failure": [Emission(ToolCallDelta(content=raw, parse_status=status.failure)), Emission("More. ")],
        "text": [Emission("More. ")],
        "end": [],
    }[ending]
    stream = ScriptedStream(
        [
            Emission("Fine."),
            Emission(ToolCallDelta(content=raw[:4], parse_status=status.started)),
            Emission(ToolCallDelta(content=raw[4:], parse_status=status.in_progress)),
            *closing,
            Emission(stop_reason=StopReason.end_of_turn),
        ]
    )
    answer = heard(stream)
    assert isinstance(answer.error, ShieldViolationError)
    assert answer.text == "Fine."


# ------------------------------------------------------------------------------------------- shields and the loop


def test_several_shields_run_at_once_and_the_first_in_order_refuses() -> None:
    async def main() -> None:
        safety = Words()
        both = asyncio.Event()

        async def until_both() -> None:
            if safety.running == 2:
                both.set()
            await asyncio.wait_for(both.wait(), 30)

        safety.shields.before_verdict = until_both
        answer = await read(ScriptedStream(cut(f"Fine. {FORBIDDEN}", [5])), safety, ["lenient", "words"])
        assert isinstance(answer.error, ShieldViolationError)
        assert answer.error.shield == "words"
        assert safety.most_running == 2

    asyncio.run(main())


def test_other_tasks_run_while_a_shield_judges() -> None:
    async def main() -> None:
        safety, turns = Words(), 0

        async def other_work() -> None:
            nonlocal turns
            for _ in range(10):
                await asyncio.sleep(0)
                turns += 1

        async def until_other_work_is_done() -> None:
            await asyncio.create_task(other_work())

        safety.shields.before_verdict = until_other_work_is_done
        answer = await read(ScriptedStream(cut("One. Two. Three.", range(16))), safety)
        assert answer.text == "One. Two. Three."
        assert turns == 40

    asyncio.run(main())


def test_the_model_computes_nothing_while_a_shield_judges() -> None:
    async def main() -> None:
        safety, stream = Words(), ScriptedStream(cut("One. Two. Three.", range(16)))

        async def let_others_run() -> None:
            before = stream.steps
            for _ in range(10):
                await asyncio.sleep(0)
            assert stream.steps == before

        safety.shields.before_verdict = let_others_run
        assert (await read(stream, safety)).text == "One. Two. Three."

    asyncio.run(main())


@pytest.mark.parametrize("how", ["cancelled", "closed"])
def test_a_reader_that_leaves_closes_the_models_generator(how: str) -> None:
    async def main() -> None:
        safety, judging = Words(), asyncio.Event()
        stream = ScriptedStream(cut("One. Two. Three.", range(16)))

        async def stand_still() -> None:
            if stream.steps:
                judging.set()
                await asyncio.Event().wait()

        safety.shields.before_verdict = stand_still
        guard = Guard(safety, ("words",), QUESTION)
        emissions = Stream(guarded(guard, stream))
        if how == "closed":
            safety.shields.before_verdict = at_once
            assert (await anext(emissions)).delta == "O"
            await emissions.aclose()
            assert stream.closed_after == 5
            return
        reading = asyncio.create_task(_gather(emissions, []))
        await judging.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert stream.closed_after == 5

    asyncio.run(main())


def test_a_stream_that_is_dropped_closes_the_models_generator() -> None:
    async def main() -> None:
        stream = ScriptedStream(cut("One. Two. Three.", range(16)))
        emissions = Stream(guarded(Guard(Words(), ("words",), QUESTION), stream))
        await anext(emissions)
        del emissions
        gc.collect()
        await other_tasks_ended()
        assert stream.closed_after == 5

    asyncio.run(main())


async def _gather(emissions: Stream[Emission], left: list[Emission]) -> None:
    async for emission in emissions:
        left.append(emission)  # noqa: PERF401 - also what came before an error


@pytest.mark.parametrize("error", [RuntimeError("broken"), ShieldError("none")])
def test_nothing_unjudged_leaves_where_a_shield_breaks(error: Exception) -> None:
    async def main() -> None:
        safety = Words()
        stream = ScriptedStream(cut("One. Two. Three.", range(16)))

        async def break_down() -> None:
            if stream.steps > 5:
                raise error

        safety.shields.before_verdict = break_down
        left: list[Emission] = []
        with pytest.raises(type(error)):
            await _gather(Stream(guarded(Guard(safety, ("words",), QUESTION), stream)), left)
        assert "".join(str(one.delta) for one in left) == "One."
        assert stream.closed_after == 10

    asyncio.run(main())


def test_streamed_and_whole_answers_are_the_same() -> None:
    request = Request("m", messages=QUESTION)
    emissions = cut("One. Two.\nThree.", [2, 7])
    assert response(request, heard(ScriptedStream(emissions)).emissions) == response(request, emissions)
