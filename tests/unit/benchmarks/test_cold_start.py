from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.fakes.gguf_models import write_gguf_model
from workbench.benchmarks import cold_start
from workbench.benchmarks.cold_start import ColdStart, cold_starts
from workbench.cli import build_parser
from workbench.commands import complete
from workbench.errors import GenerationError

PYTHON = [sys.executable, "-I", "-S", "-c"]


def program(code: str, *, until_output: bool = True) -> ColdStart:
    return ColdStart("A", [*PYTHON, code], is_rival=False, until_output=until_output)


@pytest.mark.parametrize("until_output,expected", [(True, 1), (False, 5)])
def test_it_is_the_time_to_the_first_output_or_to_the_end(
    monkeypatch: pytest.MonkeyPatch, until_output: bool, expected: float
) -> None:
    times = iter([10, 11, 15])  # the start, the first output, the end
    monkeypatch.setattr(cold_start, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    assert program("print('one'); print('two')", until_output=until_output).start() == expected


def test_a_command_that_fails_is_an_error_with_its_last_words() -> None:
    with pytest.raises(GenerationError, match="A failed with exit code 3: no model"):
        program("import sys; print('no model', file=sys.stderr); sys.exit(3)").start()


def test_a_command_that_prints_nothing_has_no_first_output() -> None:
    with pytest.raises(GenerationError, match="A failed"):
        program("pass").start()
    assert program("pass", until_output=False).start() > 0


def test_the_environment_cannot_replace_the_measured_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("WORKBENCH_CONFIG", "WORKBENCH_RECORD", "WORKBENCH_PLAY", "WORKBENCH_CACHE"):
        monkeypatch.setenv(variable, "here")
    names = "{'WORKBENCH_CONFIG', 'WORKBENCH_RECORD', 'WORKBENCH_PLAY', 'WORKBENCH_CACHE'}"
    program(f"import os; assert {names} & os.environ.keys() == {{'WORKBENCH_CACHE'}}; print(1)").start()


def test_the_measured_command_completes_one_token_with_the_given_model_on_the_given_device() -> None:
    ours, torch = cold_starts("some-model", "torch:cpu")
    assert (ours.is_rival, torch.is_rival) == (False, True)
    assert ours.command[1:3] == ("-m", "workbench")
    options = build_parser().parse_args(ours.command[3:])
    assert options.run is complete.run
    assert (options.model, options.device, options.max_tokens) == ("some-model", "torch:cpu", 1)
    assert torch.command[1:] == ("-c", "import torch")


def test_llama_cpp_starts_with_the_file_and_prompt_that_the_measured_command_has() -> None:
    ours, _, theirs = cold_starts("model.gguf", gguf=Path("model.gguf"))
    assert theirs.is_rival
    assert theirs.name == "llama.cpp"
    assert theirs.command[1:] == ("-m", "workbench.benchmarks.llama_cpp_start", "model.gguf", ours.command[4])


@pytest.mark.skipif(find_spec("xllamacpp") is None, reason="needs the extra `bench`")
def test_llama_cpp_prints_a_token_of_a_file(tmp_path: Path) -> None:
    write_gguf_model(tmp_path / "tiny.gguf", "llama", types=lambda _: "Q8_0")
    *_, theirs = cold_starts("tiny.gguf", gguf=tmp_path / "tiny.gguf")
    assert theirs.start() > 0
