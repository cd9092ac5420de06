"""Whole commands, measured from the start of their process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from workbench.errors import GenerationError

COMPLETE, IMPORT_TORCH = "workbench complete", "import torch"
"""Names of the measured command, and of the one to which it is compared: no program that uses torch starts faster."""

_PROMPT = "Hi"

_REDIRECTIONS = ("WORKBENCH_CONFIG", "WORKBENCH_RECORD", "WORKBENCH_PLAY")
"""Variables that would give the command another model than the one that is measured."""


class ColdStart:
    """A command that starts a new process each time."""

    def __init__(self, name: str, command: Sequence[str], *, is_rival: bool, until_output: bool) -> None:
        self.name = name
        self.is_rival = is_rival
        self.command = tuple(command)
        self._until_output = until_output

    def start(self) -> float:
        """Run the command to its end; return the seconds until its first output, or until its end.

        Raises:
            GenerationError: it failed or printed nothing.
        """
        environment = {name: value for name, value in os.environ.items() if name not in _REDIRECTIONS}
        with tempfile.TemporaryFile() as errors:  # a pipe that nobody reads would fill up
            started = time.perf_counter()
            with subprocess.Popen(  # noqa: S603 - no shell; the command is our own
                self.command, env=environment, stdout=subprocess.PIPE, stderr=errors, bufsize=0
            ) as process:
                assert process.stdout is not None
                first = process.stdout.read(1)
                first_s = time.perf_counter() - started
                process.stdout.read()
                process.wait()
            whole_s = time.perf_counter() - started
            if process.returncode or (self._until_output and not first):
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
                raise GenerationError(f"{self.name} failed with exit code {process.returncode}: {said[-1]}")
        return first_s if self._until_output else whole_s


def cold_starts(model: str, device: str = "cpu", gguf: Path | None = None) -> list[ColdStart]:
    """Return the workbench's command, measured to its first token, the import of torch alone, and llama.cpp's start.

    Args:
        device: device of the workbench.
        gguf: file for llama.cpp; None leaves it out.
    """
    complete = ["-m", "workbench", "complete", _PROMPT, "--model", model, "--device", device, "--max-tokens", "1"]
    programs = [
        ColdStart(COMPLETE, [sys.executable, *complete], is_rival=False, until_output=True),
        ColdStart(IMPORT_TORCH, [sys.executable, "-c", "import torch"], is_rival=True, until_output=False),
    ]
    if gguf is not None:
        command = [sys.executable, "-m", "workbench.benchmarks.llama_cpp_start", str(gguf), _PROMPT]
        programs.append(ColdStart("llama.cpp", command, is_rival=True, until_output=True))
    return programs
