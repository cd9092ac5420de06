"""Shields are listed, run, registered, unregistered and measured from the command line."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.fakes.guard_models import word_weights
from workbench.providers.echo import EchoProvider
from workbench.providers.safety import labelled
from workbench.providers.safety.content_guard import scoring
from workbench.providers.safety.content_guard.provider import THRESHOLD
from workbench.providers.safety.labelled import LabelledMessage
from workbench.records import Embeddings

if TYPE_CHECKING:
    from tests.unit.commands.conftest import Cli

MESSAGES = (
    LabelledMessage("bomb", "S9"),
    LabelledMessage("kill", "S1"),
    LabelledMessage("nothing to see", "S2"),
    LabelledMessage("steal the show", "safe"),
    LabelledMessage("fine words", "safe"),
    LabelledMessage("steal", "safe"),
)


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack whose sentence model has an axis for each class, and a shield that measures on six messages."""
    from tests.fakes.guard_models import vector

    async def embed(self: Any, model: str, contents: list[Any]) -> Embeddings:
        return Embeddings([vector(text) for text in contents])

    monkeypatch.setattr(EchoProvider, "embed", embed)
    monkeypatch.setattr(scoring, "stored_weights", word_weights)
    monkeypatch.setattr(labelled, "labelled_messages", lambda half: MESSAGES if half == "test" else ())
    path = tmp_path / "run.yaml"
    providers = {
        "inference": [{"provider_id": "echo", "provider_type": "inline::echo", "config": {}}],
        "safety": [
            {"provider_id": "guard", "provider_type": "inline::content_guard", "config": {}},
            {"provider_id": "code", "provider_type": "inline::code_scanner", "config": {}},
        ],
    }
    path.write_text(yaml.safe_dump({"providers": providers}))
    monkeypatch.setenv("WORKBENCH_CONFIG", str(path))


def served(cli: Cli) -> list[str]:
    return [line.split()[0] for line in cli("shields", "list").out.splitlines()[1:]]


def test_a_registered_shield_is_listed_until_it_is_unregistered(cli: Cli) -> None:
    assert served(cli) == ["content_guard", "code_scanner"]
    outcome = cli("shields", "register", "strict", "--params", '{"threshold": 0.3}')
    assert (outcome.code, outcome.out) == (
        0,
        "strict: registered with guard, as a shield of type generic_content_shield\n",
    )
    assert cli("shields", "register", "llama_guard", "--type", "llama_guard", "--provider", "guard").code == 0
    assert served(cli) == ["content_guard", "code_scanner", "strict", "llama_guard"]
    assert json.loads(cli("shields", "list", "--json").out)[2] == {
        "name": "strict",
        "identifier": "strict",
        "type": "generic_content_shield",
        "params": {"threshold": 0.3},
        "provider_id": "guard",
    }
    outcome = cli("shields", "unregister", "guard/strict", "llama_guard")
    assert outcome.out == "guard/strict: unregistered\nllama_guard: unregistered\n"
    assert served(cli) == ["content_guard", "code_scanner"]


def test_a_shield_of_the_run_config_is_said_to_be_served_still(cli: Cli) -> None:
    assert "still served" in cli("shields", "unregister", "content_guard").out
    assert "content_guard" in served(cli)


def test_a_violation_is_described_and_gives_the_exit_code_1(cli: Cli) -> None:
    outcome = cli("shields", "run", "content_guard", "Hello. bomb")
    assert outcome.code == 1
    assert outcome.out == (
        "error: This message was flagged: Indiscriminate Weapons (S9).\n"
        f"  probability 0.985, threshold {THRESHOLD:.3f}\n  bomb\n"
    )
    assert cli("shields", "run", "content_guard", "hello").out == "no violation\n"
    assert cli("shields", "run", "content_guard", "hello").code == 0


def test_a_warning_gives_the_exit_code_0(cli: Cli) -> None:
    outcome = cli("shields", "run", "content_guard", "bomb", "--params", '{"threshold": 0.99}')
    assert (outcome.code, outcome.out.split(":")[0]) == (0, "warn")


def test_the_text_may_come_from_standard_input(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a bomb\n"))
    outcome = cli("shields", "run", "content_guard", "--json")
    assert json.loads(outcome.out)["violation"]["metadata"]["category"] == "S9"
    assert json.loads(cli("shields", "run", "content_guard", "x", "--json").out) == {"violation": None}


def test_precision_and_recall_are_printed_for_shields_that_judge_by_category(cli: Cli) -> None:
    lines = cli("shields", "bench").out.splitlines()
    assert lines[0] == (
        f"content_guard (inline::content_guard), threshold {THRESHOLD}, on 3 harmful and 3 harmless messages"
    )
    assert [line.split() for line in lines if line.startswith(("all", "S9 ", "S2 "))] == [
        ["all", "all", "harmful", "messages", "2/3", "0.667", "2/3", "0.667"],
        ["S2", "Non-Violent", "Crimes", "0/1", "0.000", "0/1", "0.000"],
        ["S9", "Indiscriminate", "Weapons", "1/1", "1.000", "1/1", "1.000"],
    ]
    assert len(lines) == 16
    (result,) = json.loads(cli("shields", "bench", "--json").out)
    assert (result["shield"], result["threshold"], result["harmful"]) == ("content_guard", THRESHOLD, 3)
    assert result["measures"][0] == {
        "category": "all", "messages": 3, "found": 2, "recall": 2 / 3, "flags": 3, "right_flags": 2, "precision": 2 / 3,
    }  # fmt: skip
    assert result["measures"][3]["precision"] is None


def test_one_shield_can_be_measured_alone(cli: Cli) -> None:
    cli("shields", "register", "lax", "--params", '{"threshold": 0.999}')
    results = json.loads(cli("shields", "bench", "--shield", "lax", "--json").out)
    assert [(result["shield"], result["measures"][0]["flags"]) for result in results] == [("lax", 0)]


@pytest.mark.parametrize(
    "arguments,words",
    [
        (("run", "nobody", "text"), "code_scanner, content_guard"),
        (("run", "content_guard", "text", "--params", "[1]"), "JSON object"),
        (("run", "content_guard", "text", "--params", '{"treshold": 1}'), "params.treshold"),
        (("run",), "NAME"),
        (("register", "x", "--type", "unknown"), "generic_content_shield"),
        (("register", "x", "--provider", "nobody"), "guard, code"),
        (("register", "x", "--params", '{"categories": ["S99"]}'), "params.categories"),
        (("register", ""), "identifier"),
        (("unregister", "nobody"), "content_guard"),
        (("bench", "--shield", "code_scanner"), "--shield"),
        (("bench", "--shield", "nobody"), "content_guard"),
    ],
)
def test_bad_usage_is_told_in_words_and_changes_nothing(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    outcome = cli("shields", *arguments)
    assert outcome.code == 2
    assert words in outcome.err
    assert served(cli) == ["content_guard", "code_scanner"]
