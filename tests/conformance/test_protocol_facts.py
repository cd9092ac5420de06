"""The package is the protocol: every name, type, default and route, but for what is documented as added."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.compare import FACTS, current_report, differences, report
from tests.conformance.contract import Contract, Slot, from_facts, from_package
from tests.conformance.spelling import of_annotation, of_text
from workbench import protocol
from workbench.protocol import ADDITIONS, Message, ToolCall, additions_table


@pytest.fixture
def expected() -> Contract:
    return from_facts(json.loads(FACTS.read_text(encoding="utf-8")))


@pytest.fixture
def found() -> Contract:
    return from_package(protocol)


def test_nothing_differs_but_what_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    result = current_report()
    with capsys.disabled():
        sys.stdout.write(f"\nprotocol: {result.summary}\n")
    assert result.undocumented == [], f"\n{result}"


def test_every_addition_is_real_and_found_once() -> None:
    assert len(current_report().documented) == len(ADDITIONS)


def test_the_package_docstring_holds_the_table_of_additions() -> None:
    docstring = protocol.__doc__ or ""
    assert [line.strip() for line in additions_table().splitlines()] == [
        line.strip() for line in docstring.splitlines() if line.startswith("    ")
    ]


def test_the_copy_of_the_facts_is_not_empty(expected: Contract) -> None:
    assert (len(expected.models), len(expected.enums), len(expected.protocols)) == (47, 12, 11)
    assert sum(map(len, expected.models.values())) > 100


def test_the_facts_agree_with_themselves(expected: Contract) -> None:
    assert list(differences(expected, copy.deepcopy(expected))) == []


def rename(names: dict[str, Slot], old: str, new: str) -> None:
    items = [(new if name == old else name, value) for name, value in names.items()]
    names.clear()
    names.update(items)


def swap(names: dict[str, Slot], first: str, second: str) -> None:
    swapped = {first: second, second: first}
    items = [(swapped.get(name, name), names[swapped.get(name, name)]) for name in names]
    names.clear()
    names.update(items)


def change(item: object, **values: object) -> None:
    for name, value in values.items():
        assert getattr(item, name) != value, "the sabotage must change something"
        setattr(item, name, value)


SABOTAGE: dict[str, tuple[Callable[[Contract], object], str, str]] = {
    "a changed default": (
        lambda c: change(c.models["SamplingParams"]["top_p"], default="0.9"),
        "default",
        "SamplingParams.top_p",
    ),
    "0 for 0.0": (
        lambda c: change(c.models["SamplingParams"]["temperature"], default="0"),
        "default",
        "SamplingParams.temperature",
    ),
    "a field made required": (
        lambda c: change(c.models["ModelDef"]["metadata"], default="required"),
        "default",
        "ModelDef.metadata",
    ),
    "a renamed field": (lambda c: rename(c.models["ToolCall"], "call_id", "id"), "missing", "ToolCall.call_id"),
    "an extra field": (lambda c: rename(c.models["ToolCall"], "call_id", "id"), "field", "ToolCall.id"),
    "swapped fields": (lambda c: swap(c.models["ModelDef"], "identifier", "llama_model"), "order", "ModelDef"),
    "a field's type": (lambda c: change(c.models["URL"]["uri"], type=of_text("Optional[str]")), "type", "URL.uri"),
    "a union's order": (
        lambda c: change(c.models["ToolCall"]["tool_name"], type=of_text("Union[str, BuiltinTool]")),
        "type",
        "ToolCall.tool_name",
    ),
    "a lost discriminator": (
        lambda c: change(
            c.models["ChatCompletionRequest"]["messages"],
            type=of_text("List[Union[UserMessage, SystemMessage, ToolResponseMessage, CompletionMessage]]"),
        ),
        "type",
        "ChatCompletionRequest.messages",
    ),
    "a lost model": (lambda c: c.models.pop("URL"), "missing", "URL"),
    "a missing enum value": (
        lambda c: c.enums["StopReason"].remove("end_of_message"),
        "missing",
        "StopReason.end_of_message",
    ),
    "enum values in another order": (lambda c: c.enums["StopReason"].reverse(), "order", "StopReason"),
    "swapped parameters": (
        lambda c: swap(c.protocols["Inference"]["completion"].parameters, "stream", "logprobs"),
        "order",
        "Inference.completion",
    ),
    "an addition that is not last": (
        lambda c: swap(c.protocols["Inference"]["completion"].parameters, "response_format", "logprobs"),
        "order",
        "Inference.completion",
    ),
    "a parameter's default": (
        lambda c: change(c.protocols["Inference"]["completion"].parameters["stream"], default="true"),
        "default",
        "Inference.completion.stream",
    ),
    "a keyword-only parameter": (
        lambda c: rename(c.protocols["Inference"]["embeddings"].parameters, "contents", "*contents"),
        "missing",
        "Inference.embeddings.contents",
    ),
    "a wrong route": (
        lambda c: change(c.protocols["Models"]["get_model"], route="/models/show"),
        "route",
        "Models.get_model",
    ),
    "a wrong HTTP method": (
        lambda c: change(c.protocols["Models"]["get_model"], http_method="POST"),
        "http_method",
        "Models.get_model",
    ),
    "async for plain": (
        lambda c: change(c.protocols["Inference"]["completion"], is_async=True),
        "is_async",
        "Inference.completion",
    ),
    "a return type": (
        lambda c: change(c.protocols["Inspect"]["health"], returns=of_text("str")),
        "returns",
        "Inspect.health",
    ),
    "a lost method": (lambda c: c.protocols["Inspect"].pop("health"), "missing", "Inspect.health"),
    "an addition taken away": (lambda c: c.models["SamplingParams"].pop("seed"), "stale", "SamplingParams.seed"),
    "an addition changed": (
        lambda c: change(c.models["SamplingParams"]["seed"], default="0"),
        "field",
        "SamplingParams.seed",
    ),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_each_kind_of_difference_is_seen(name: str, expected: Contract, found: Contract) -> None:
    sabotage, kind, path = SABOTAGE[name]
    sabotage(found)
    seen = [(difference.kind, difference.path) for difference in report(expected, found).undocumented]
    assert (kind, path) in seen


def test_an_undocumented_addition_is_seen(expected: Contract, found: Contract) -> None:
    without_seed = [addition for addition in ADDITIONS if addition.path != "SamplingParams.seed"]
    seen = report(expected, found, without_seed).undocumented
    assert [(difference.kind, difference.path) for difference in seen] == [("field", "SamplingParams.seed")]


@pytest.mark.parametrize(
    "text, same",
    [
        ("Optional[str]", str | None),
        ("Union[NoneType, str]", str | None),
        ("Dict[str, List[int]]", dict[str, list[int]]),
        ("Union[str, Union[int, NoneType], str]", str | int | None),
        ("Annotated[Union[A, B], FieldInfo(annotation=NoneType, discriminator='role')]", None),
        ("llama_stack.apis.somewhere.ToolCall", ToolCall),
    ],
)
def test_spellings_of_one_type_are_one(text: str, same: object) -> None:
    assert str(of_text(text)) == ("(A | B by role)" if same is None else str(of_annotation(same)))


def test_a_message_is_told_by_its_role() -> None:
    assert str(of_annotation(Message)).endswith(" by role)")


def test_the_script_prints_every_difference_and_the_count() -> None:
    script = Path(__file__).with_name("compare.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert lines[-1].startswith("0 undocumented differences")
    assert sum(line.startswith("documented ") for line in lines) == len(ADDITIONS)
