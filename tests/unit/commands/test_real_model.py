"""The command line with the embedded chat model; in a process of its own where the process is the point."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from workbench.commands import checks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.commands.conftest import Cli, Outcome

pytestmark = pytest.mark.usefixtures("smollm2_path", "minilm_path")

WORKBENCH = [sys.executable, "-m", "workbench"]


def document(outcome: Outcome) -> dict[str, Any]:
    assert outcome.code == 0, outcome.err
    parsed: dict[str, Any] = json.loads(outcome.out)
    return parsed


def test_the_capital_of_france_comes_with_one_logprob_entry_a_token() -> None:
    argv = ["complete", "The capital of France is", "--max-tokens", "8", "--logprobs", "5", "--json"]
    done = subprocess.run([*WORKBENCH, *argv], capture_output=True, text=True, check=True, timeout=100)
    printed = json.loads(done.stdout)
    assert "Paris" in printed["text"]
    assert len(printed["logprobs"]) == printed["usage"]["generated_tokens"] == 8
    assert all(len(entry["alternatives"]) == 5 for entry in printed["logprobs"])
    assert printed["stop_reason"] == "out_of_tokens"
    assert done.stderr == ""


def test_what_is_streamed_is_what_json_says_and_a_seed_draws_it_again(cli: Cli) -> None:
    argv = ("complete", "Once upon a time", "--max-tokens", "8", "--temperature", "1.5", "--seed", "11")
    assert cli(*argv).out == document(cli(*argv, "--json"))["text"] + "\n"


def test_a_local_folder_is_a_model_too(cli: Cli, smollm2_path: Path) -> None:
    argv = ("complete", "The capital of France is", "--max-tokens", "8", "--json", "--model", str(smollm2_path))
    assert "Paris" in document(cli(*argv))["text"]


def test_chat_from_a_pipe_answers_each_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("What is the capital of France?\nAnd of Italy?\n"))
    outcome = cli("chat", "--max-tokens", "12", "--precision", "float32")
    assert outcome.code == 0, outcome.err
    assert "Paris" in outcome.out
    assert "Rome" in outcome.out


@pytest.mark.parametrize(
    "argv,code,told",
    [
        (["complete", ""], 2, "at least one character"),
        (["complete", "x", "--model", "no-such-model"], 2, "no-such-model"),
        (["complete", "word " * 9000], 2, "8192"),
        (["complete", "x", "--config", "no-such-file.yaml"], 2, "no-such-file.yaml"),
    ],
)
def test_bad_input_is_one_line_that_says_what_is_wrong(cli: Cli, argv: list[str], code: int, told: str) -> None:
    outcome = cli(*argv)
    assert (outcome.code, outcome.out) == (code, "")
    assert told in outcome.err
    assert len(outcome.err.splitlines()) == 1, outcome.err


def test_control_c_ends_a_completion_with_what_was_there() -> None:
    command = [*WORKBENCH, "complete", "Once upon a time", "--max-tokens", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = os.read(process.stdout.fileno(), 1)
        process.send_signal(signal.SIGINT)
        rest, complaints = process.stdout.read(), process.stderr.read()
        assert process.wait(timeout=60) == 130
    assert first
    assert rest is not None
    assert complaints == b""


def test_a_reader_that_leaves_is_no_traceback() -> None:
    command = [*WORKBENCH, "complete", "Once upon a time", "--max-tokens", "30"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        assert process.wait(timeout=60) == 1


def test_doctor_finds_the_embedded_models_intact() -> None:
    assert [finding.status for finding in checks.models()] == ["ok", "ok"]
