"""Insecure Python in a message is found with its lines, and the level follows the severity."""

from __future__ import annotations

import ast
import importlib.util
import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.guard_models import WordVectors, access, configured
from workbench.errors import ConfigError, InvalidRequestError, UnsupportedContentError
from workbench.protocol import (
    URL,
    CompletionMessage,
    ImageMedia,
    SafetyViolation,
    StopReason,
    ToolCall,
    UserMessage,
    ViolationLevel,
)
from workbench.providers.safety.code_scanner import CodeScannerProvider
from workbench.providers.safety.code_scanner.code_blocks import code_blocks, is_python

HIGH = "import subprocess\nsubprocess.call(command, shell=True)\n"
MEDIUM = "value = eval(text)\n"
LOW = "assert value\n"


def scanner() -> CodeScannerProvider:
    return CodeScannerProvider(configured("inline::code_scanner"), access(WordVectors()))


async def judged(text: Any, **params: Any) -> SafetyViolation | None:
    message = text if not isinstance(text, str) else UserMessage(content=text)
    return (await scanner().run_shield("code_scanner", [message], params)).violation


def fenced(code: str, language: str = "python", fence: str = "```") -> str:
    return f"Here it is:\n\n{fence}{language}\n{code}{fence}\n\nGood luck."


@pytest.mark.parametrize(
    "code,level,test_id,lines",
    [
        (HIGH, ViolationLevel.error, "B602", [5]),
        (MEDIUM, ViolationLevel.warn, "B307", [4]),
        (LOW, ViolationLevel.info, "B101", [4]),
    ],
)
async def test_the_level_follows_the_severity_and_lines_are_the_message_s(
    code: str, level: ViolationLevel, test_id: str, lines: list[int]
) -> None:
    violation = await judged(fenced(code))
    assert violation is not None
    assert (violation.violation_level, violation.metadata["category"]) == (level, test_id)
    (finding,) = [one for one in violation.metadata["findings"] if one["test_id"] == test_id]
    assert finding["lines"] == lines
    assert f"{test_id}, line {lines[0]}" in (violation.user_message or "")


@pytest.mark.parametrize(
    "text", ["", "How do I sort a list?", fenced("print(sorted(values))\n"), fenced("rm -rf /\n", "sh")]
)
async def test_text_and_harmless_code_and_other_languages_have_no_violation(text: str) -> None:
    assert await judged(text) is None


@pytest.mark.parametrize(
    "text",
    [
        MEDIUM,  # the message itself
        fenced(MEDIUM, ""),
        fenced(MEDIUM, "py", "~~~~"),
        fenced(">>> eval(text)\n7\n", "pycon"),
        fenced(textwrap.indent(MEDIUM, "    "), "Python"),
        "```python\n" + MEDIUM,  # not closed
        fenced("ok = 1\n") + fenced(MEDIUM),
        fenced("value = eval(text)  # nosec\n"),
    ],
)
async def test_code_is_found_wherever_it_stands(text: str) -> None:
    violation = await judged(text)
    assert violation is not None
    assert violation.metadata["category"] == "B307"
    line = violation.metadata["findings"][0]["lines"][0]
    assert "eval(text)" in text.splitlines()[line - 1]


async def test_code_in_a_tool_call_is_scanned() -> None:
    call = ToolCall(call_id="1", tool_name="run_python", arguments={"code": MEDIUM, "note": "not code, at all"})
    message = CompletionMessage(content="Running it.", stop_reason=StopReason.end_of_message, tool_calls=[call])
    violation = await judged(message)
    assert violation is not None
    assert violation.metadata["findings"][0]["source"] == "run_python"


async def test_severities_and_confidence_are_parameters() -> None:
    strict = await judged(fenced(MEDIUM), error_severity="medium")
    assert strict is not None
    assert strict.violation_level == ViolationLevel.error
    quiet = await judged(fenced(MEDIUM), error_severity="high", warn_severity="high")
    assert quiet is not None
    assert quiet.violation_level == ViolationLevel.info
    assert await judged(fenced("password = 'hunter2'\n"), min_confidence="high") is None
    assert await judged(fenced("password = 'hunter2'\n")) is not None


async def test_python_that_cannot_be_parsed_is_noted_once_its_block_is_closed() -> None:
    violation = await judged(fenced("def broken(:\n"))
    assert violation is not None
    assert violation.violation_level == ViolationLevel.info
    assert violation.metadata["first_lines"] == [4]
    assert await judged("```python\ndef unfinished(") is None


@pytest.mark.parametrize("params", [{"error_severity": "fatal"}, {"min_confidence": 3}, {"threshold": 0.5}])
async def test_bad_parameters_are_refused_by_name(params: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=rf"params\.{next(iter(params))}"):
        await judged("x", **params)


async def test_an_image_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedContentError, match=r"messages\[0\].content"):
        await judged(UserMessage(content=ImageMedia(image=URL(uri="data:,"))))


def test_without_the_scanner_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"inference-workbench\[code\]"):
        scanner()


@pytest.mark.parametrize(
    "text", ["(" * 100_000, "\x00", "x = " + "-" * 200_000 + "1", "a\n" * 50_000], ids=list("pnml")
)
async def test_hostile_code_is_harmless_to_the_scanner(text: str) -> None:
    await judged(fenced(text + "\n"))


@given(st.lists(st.sampled_from(["```", "```python\n", "~~~\n", "x = 1\n", "eval(y)\n", "\n", "text "])).map("".join))
def test_a_block_that_is_scanned_is_python_of_the_message(text: str) -> None:
    for block in code_blocks([UserMessage(content=text)]):
        if block.is_python:
            ast.parse(block.code)
            first = next(line for line in block.code.split("\n") if line.strip())
            assert first.strip() in text


def test_only_what_can_be_parsed_is_python() -> None:
    assert is_python("x = 1")
    assert not is_python("x = ")
