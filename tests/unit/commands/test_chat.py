from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from workbench.errors import NumericalError, ShieldViolationError, UnknownModelError
from workbench.protocol import SafetyViolation, ToolCall, ToolCallDelta, ToolCallParseStatus, ViolationLevel

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.commands.conftest import Cli, FakeWorkbench, Outcome

    Chat = Callable[..., Outcome]


class Terminal(io.StringIO):
    """Standard input that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def chat(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Chat:
    """``workbench chat`` with these lines piped into it."""

    def run(*lines: str, options: tuple[str, ...] = ()) -> Outcome:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        return cli("chat", *options)

    return run


def turns(bench: FakeWorkbench) -> list[list[tuple[str, object]]]:
    return [[(message.role, message.content) for message in messages] for messages in bench.conversations]


def test_each_piped_line_is_a_turn_that_sees_the_turns_before(chat: Chat, bench: FakeWorkbench) -> None:
    bench.says("Hello", " there")
    bench.says("Salut")
    outcome = chat("Hi", "", "And in French?")
    assert (outcome.code, outcome.out, outcome.err) == (0, "Hello there\nSalut\n", "")
    assert turns(bench) == [
        [("user", "Hi")],
        [("user", "Hi"), ("assistant", "Hello there"), ("user", "And in French?")],
    ]


def test_a_system_message_stands_above_every_turn_and_can_be_changed(chat: Chat, bench: FakeWorkbench) -> None:
    bench.says("a")
    bench.says("b")
    chat("x", "/system Be brief.", "y", options=("--system", "Be kind."))
    assert [conversation[0] for conversation in turns(bench)] == [("system", "Be kind."), ("system", "Be brief.")]


def test_reset_forgets_the_turns_and_keeps_the_system_message(chat: Chat, bench: FakeWorkbench) -> None:
    bench.says("a")
    bench.says("b")
    chat("x", "/reset", "y", options=("--system", "Be kind."))
    assert turns(bench)[1] == [("system", "Be kind."), ("user", "y")]


def test_params_changes_what_the_next_turn_uses_and_shows_it(chat: Chat, bench: FakeWorkbench) -> None:
    bench.says("a")
    outcome = chat("/params temperature=0.5 strategy=top_p", "x")
    assert "strategy=top_p, temperature=0.5" in outcome.out
    assert bench.sampling_params is not None
    assert bench.sampling_params.temperature == 0.5


@pytest.mark.parametrize("command", ["/params top_p=1.5", "/params warmth=1", "/params temperature"])
def test_params_refuses_what_is_not_allowed_and_leaves_them_as_they_were(
    chat: Chat, bench: FakeWorkbench, command: str
) -> None:
    bench.says("a")
    outcome = chat(command, "x")
    assert outcome.code == 1
    assert outcome.err.startswith("workbench: ")
    assert bench.sampling_params is not None
    assert bench.sampling_params.top_p == 0.95


def test_save_writes_the_conversation_as_messages_of_the_protocol(
    chat: Chat, bench: FakeWorkbench, tmp_path: Path
) -> None:
    bench.says("é")
    file = tmp_path / "chat.json"
    chat("x", f"/save {file}", options=("--system", "Be kind."))
    saved = json.loads(file.read_text(encoding="utf-8"))
    assert [(message["role"], message["content"]) for message in saved] == [
        ("system", "Be kind."),
        ("user", "x"),
        ("assistant", "é"),
    ]


def test_save_to_a_place_that_cannot_be_written_is_said_and_the_chat_goes_on(
    chat: Chat, bench: FakeWorkbench, tmp_path: Path
) -> None:
    bench.says("a")
    outcome = chat(f"/save {tmp_path}/no/such/folder.json", "x")
    assert (outcome.code, outcome.out) == (1, "a\n")
    assert outcome.err.startswith("workbench: /save must be a writable file (No such file or directory)")
    assert f"got '{tmp_path}"[:60] in outcome.err


def test_help_lists_the_commands(chat: Chat, bench: FakeWorkbench) -> None:
    outcome = chat("/help")
    assert all(name in outcome.out for name in ("/system", "/params", "/save", "/reset", "/quit"))
    assert bench.conversations == []


@pytest.mark.parametrize("command", ["/nonsense", "/save"])
def test_what_is_no_command_is_named_and_the_next_line_is_answered(
    chat: Chat, bench: FakeWorkbench, command: str
) -> None:
    bench.says("Hello")
    outcome = chat(command, "x")
    assert outcome.err.strip() == f"workbench: command must be one that /help lists, with its argument; got '{command}'"
    assert outcome.code == 1
    assert len(bench.conversations) == 1


def test_quit_leaves_before_the_next_line(chat: Chat, bench: FakeWorkbench) -> None:
    assert chat("/quit", "x").code == 0
    assert bench.conversations == []


def test_a_turn_that_fails_leaves_no_trace_and_the_chat_goes_on(chat: Chat, bench: FakeWorkbench) -> None:
    bench.says("half an ans", error=NumericalError("the model computed NaN"))
    bench.says("b")
    outcome = chat("x", "y")
    assert (outcome.code, outcome.err) == (1, "workbench: the model computed NaN\n")
    assert turns(bench)[1] == [("user", "y")]


def test_control_c_stops_the_answer_and_keeps_the_session(
    cli: Cli, bench: FakeWorkbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = bench.says("One", " two", interrupted_after=1)
    bench.says("ok")
    monkeypatch.setattr("sys.stdin", Terminal("Count\nGo on\n"))
    outcome = cli("chat")
    assert outcome.code == 0
    assert stopped.cancelled
    assert "One [stopped]\n" in outcome.out
    assert turns(bench)[1] == [("user", "Count"), ("assistant", "One"), ("user", "Go on")]


def test_control_c_at_the_prompt_throws_the_line_away(
    cli: Cli, bench: FakeWorkbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.says("a")
    lines = iter(["x"])
    pressed: list[bool] = []

    def read(prompt: str) -> str:
        if not pressed:
            pressed.append(True)
            raise KeyboardInterrupt
        if (line := next(lines, None)) is None:
            raise EOFError
        return line

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("builtins.input", read)
    assert cli("chat").code == 0
    assert turns(bench) == [[("user", "x")]]


def test_control_c_in_a_pipe_ends_the_chat(chat: Chat, bench: FakeWorkbench) -> None:
    run = bench.says("One", " two", interrupted_after=1)
    assert chat("Count", "Go on").code == 130
    assert run.cancelled


def test_bad_options_are_refused_before_the_model_is_opened(chat: Chat, bench: FakeWorkbench) -> None:
    assert chat("x", options=("--top-p", "1.5")).code == 2
    assert bench.opened == 0


def test_a_model_that_is_not_there_is_told_before_the_first_line(chat: Chat, bench: FakeWorkbench) -> None:
    bench.load_error = UnknownModelError("no model 'nope'")
    outcome = chat(options=("--model", "smollm2-135m-instruct"))
    assert (outcome.code, outcome.err) == (2, "workbench: no model 'nope'\n")
    assert bench.loaded == ["smollm2-135m-instruct"]


WEATHER = [{"tool_name": "get_weather", "parameters": {"location": {"param_type": "string"}}}]


def told(content: str | ToolCall, status: str) -> ToolCallDelta:
    return ToolCallDelta(content=content, parse_status=ToolCallParseStatus(status))


def call(location: str) -> list[ToolCallDelta]:
    """What a stream tells of one call."""
    called = ToolCall(call_id=f"id-{location}", tool_name="get_weather", arguments={"location": location})
    return [told("", "started"), told('{"name": ', "in_progress"), told(called, "success")]


@pytest.fixture
def tools_file(tmp_path: Path) -> str:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps(WEATHER))
    return str(path)


def test_calls_are_shown_and_their_results_are_given_one_by_one(
    chat: Chat, bench: FakeWorkbench, tools_file: str, tmp_path: Path
) -> None:
    bench.says("Let me look.", *call("Rome"), *call("Köln"))
    bench.says("Warm.")
    saved = tmp_path / "chat.json"
    lines = ("Weather?", "/result 30 degrees", "/result 20 degrees", f"/save {saved}")
    outcome = chat(*lines, options=("--tools", tools_file, "--tool-choice", "required"))
    assert outcome.code == 0, outcome.err
    shown = 'Let me look.\n[call get_weather {"location": "Rome"}]\n[call get_weather {"location": "Köln"}]\nWarm.\n'
    assert outcome.out.startswith(shown)
    assert turns(bench)[1][1:] == [("assistant", "Let me look."), ("ipython", "30 degrees"), ("ipython", "20 degrees")]
    assert bench.tools is not None
    assert [tool.tool_name for tool in bench.tools] == ["get_weather"]
    assert bench.tool_choices == ["required", "auto"]
    turn = json.loads(saved.read_text())[1]
    assert [called["arguments"] for called in turn["tool_calls"]] == [{"location": "Rome"}, {"location": "Köln"}]


def test_a_broken_call_is_shown_as_the_text_that_it_is(chat: Chat, bench: FakeWorkbench, tools_file: str) -> None:
    bench.says("So: ", told("", "started"), told("{broken", "in_progress"), told("{broken", "failure"))
    assert chat("x", options=("--tools", tools_file)).out == "So: {broken\n"


def test_a_result_that_nobody_asked_for_is_refused(chat: Chat, bench: FakeWorkbench) -> None:
    outcome = chat("/result 5")
    assert outcome.code == 1
    assert "/result must be used after the model has called a tool" in outcome.err


@pytest.mark.parametrize(
    "content,problem",
    [
        (None, "No such file"),
        ("{", "a readable JSON file"),
        ("[" * 100_000, "a readable JSON file"),
        ("{}", "a JSON file with a list"),
        ('[{"name": "x"}]', "tool_name"),
        ('[{"tool_name": "a b"}]', "tools[0].tool_name"),
    ],
)
def test_a_tools_file_that_holds_none_is_refused_before_anything_is_opened(
    chat: Chat, bench: FakeWorkbench, tmp_path: Path, content: str | None, problem: str
) -> None:
    path = tmp_path / "tools.json"
    if content is not None:
        path.write_text(content)
    outcome = chat("x", options=("--tools", str(path)))
    assert outcome.code == 2
    assert "--tools" in outcome.err
    assert problem in outcome.err
    assert bench.opened == 0


def test_in_a_terminal_an_open_call_asks_for_its_result(
    cli: Cli, bench: FakeWorkbench, monkeypatch: pytest.MonkeyPatch, tools_file: str
) -> None:
    bench.says(*call("Rome"))
    bench.says("Warm.")
    monkeypatch.setattr("sys.stdin", Terminal("Weather?\n/result 30\n"))
    outcome = cli("chat", "--tools", tools_file)
    assert "(enter the result of get_weather with /result)" in outcome.out
    assert outcome.out.count("enter the result of") == 1


def test_a_second_control_c_keeps_the_session_too(
    cli: Cli, bench: FakeWorkbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.says("One", interrupted_after=1, error=KeyboardInterrupt())
    bench.says("ok")
    monkeypatch.setattr("sys.stdin", Terminal("Count\nGo on\n"))
    outcome = cli("chat")
    assert outcome.code == 0
    assert turns(bench)[1] == [("user", "Go on")]


def test_shields_check_every_turn(chat: Chat, bench: FakeWorkbench) -> None:
    bench.served_shields = ("content_guard", "words")
    bench.says("Hello")
    outcome = chat("Hi", options=("--shield", "content_guard", "--shield", "words"))
    assert outcome.code == 0
    assert bench.shields == ["content_guard", "words"]


def test_a_refused_answer_ends_with_the_shields_name_and_is_no_turn(chat: Chat, bench: FakeWorkbench) -> None:
    bench.served_shields = ("words",)
    facts = {"category": "S9", "probability": 0.93}
    violation = SafetyViolation(violation_level=ViolationLevel.error, metadata=facts)
    bench.says("I am fine.", error=ShieldViolationError("words", violation, "answer"))
    bench.says("Yes")
    outcome = chat("Hi", "Again", options=("--shield", "words"))
    assert outcome.code == 1
    assert "shield 'words' refused the answer: category S9, probability 0.93" in outcome.err
    assert outcome.out == "I am fine.\nYes\n"
    assert turns(bench)[1] == [("user", "Again")]


def test_an_unknown_shield_is_refused_before_the_first_line(chat: Chat, bench: FakeWorkbench) -> None:
    bench.served_shields = ("words",)
    outcome = chat("Hi", options=("--shield", "nope"))
    assert outcome.code == 2
    assert "no shield 'nope' is served; served shields: words" in outcome.err
    assert bench.conversations == []
