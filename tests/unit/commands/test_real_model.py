"""The command line as a person starts it: a process of its own, with the embedded chat model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("smollm2_path")

WORKBENCH = [sys.executable, "-m", "workbench"]


def workbench(*argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*WORKBENCH, *argv], input=stdin, capture_output=True, text=True, check=False, timeout=100)


def complete(*options: str) -> dict[str, Any]:
    done = workbench("complete", "The capital of France is", "--json", *options)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_the_capital_of_france_comes_with_one_logprob_entry_a_token() -> None:
    document = complete("--max-tokens", "8", "--logprobs", "5")
    assert "Paris" in document["text"]
    assert len(document["logprobs"]) == document["usage"]["generated_tokens"] == 8
    assert all(len(entry["alternatives"]) == 5 for entry in document["logprobs"])
    assert document["stop_reason"] == "out_of_tokens"


def test_the_same_seed_gives_the_same_text_in_another_process() -> None:
    options = ("--max-tokens", "12", "--temperature", "1.5", "--seed", "11")
    assert complete(*options)["text"] == complete(*options)["text"]


def test_what_is_streamed_is_what_json_says() -> None:
    streamed = workbench("complete", "The capital of France is", "--max-tokens", "8")
    assert streamed.stdout == complete("--max-tokens", "8")["text"] + "\n"


def test_a_local_folder_is_a_model_too(smollm2_path: Path) -> None:
    assert "Paris" in complete("--max-tokens", "8", "--model", str(smollm2_path))["text"]


def test_chat_from_a_pipe_answers_each_line() -> None:
    done = workbench("chat", "--max-tokens", "12", stdin="What is the capital of France?\nAnd of Italy?\n")
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
    assert "Rome" in done.stdout


@pytest.mark.parametrize(
    "argv,code,told",
    [
        (["complete", ""], 2, "at least one character"),
        (["complete", "x", "--model", "no-such-model"], 1, "no-such-model"),
        (["complete", "word " * 9000], 2, "8192"),
        (["complete", "x", "--config", "no-such-file.yaml"], 2, "no-such-file.yaml"),
    ],
)
def test_bad_input_is_one_line_that_says_what_is_wrong(argv: list[str], code: int, told: str) -> None:
    done = workbench(*argv)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_control_c_ends_a_completion_with_what_was_there() -> None:
    command = [*WORKBENCH, "complete", "Once upon a time", "--max-tokens", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = os.read(process.stdout.fileno(), 1)
        process.send_signal(signal.SIGINT)
        rest, complaints = process.stdout.read(), process.stderr.read()
        assert process.wait(timeout=20) == 130
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
    findings = {finding["name"]: finding for finding in json.loads(workbench("doctor", "--json").stdout)["findings"]}
    assert findings["model smollm2-135m-instruct"]["status"] == "ok"
