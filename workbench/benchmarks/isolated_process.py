"""Entrants in processes of their own.

In one process they would slow each other: OpenMP counts the threads of all its teams, and if there are more than cores,
waiting threads sleep between the small kernels of a step, which halves the speed of decode. A separate process also
shows an entrant's real memory. Times are measured there, so that the pipe does not count.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import psutil
import torch
from torch import Tensor

from workbench.benchmarks.contestants import Contestant, Embedder, GivesLogprobs, Stream
from workbench.errors import GenerationError

END_S = 10.0
"""Time after which an entrant that was closed is killed."""


Modelled = Contestant | Embedder
"""Entrants that hold a model in memory."""


@dataclass(frozen=True, slots=True)
class _Facts:
    name: str
    is_rival: bool
    memory_bytes: int | None
    instruction_set: str


class Isolated:
    """An entrant that ``make(*args)`` creates in a new process, which `close` ends.

    Raises:
        Errors of ``make``; calls raise the entrant's errors, or GenerationError if its process has died.
    """

    def __init__(self, make: Callable[..., Modelled], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, args), daemon=True)
        self._process.start()
        theirs.close()
        try:
            facts: _Facts = self._receive()
        except BaseException:
            self.close()
            raise
        self.name = facts.name
        self.is_rival = facts.is_rival
        self.memory_bytes = facts.memory_bytes
        self.instruction_set = facts.instruction_set

    def resident_bytes(self) -> int:
        """Return the current memory of the whole process."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def close(self) -> None:
        self._pipe.close()  # ends the loop of `_serve`
        self._process.join(END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _request(self, method: str, *args: Any) -> Any:
        self._pipe.send((method, args))
        return self._receive()

    def _receive(self) -> Any:
        try:
            value = self._pipe.recv()
        except EOFError as error:
            self._process.join(END_S)
            raise GenerationError(f"the benchmark process ended with exit code {self._process.exitcode}") from error
        if isinstance(value, BaseException):
            raise value
        return value


class IsolatedContestant(Isolated):
    """A `Contestant` in a process of its own."""

    def generate(self, prompt_ids: Sequence[int], tokens: int) -> Stream:
        stream: Stream = self._request("generate", list(prompt_ids), tokens)
        return stream

    def generate_together(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        return float(self._request("generate_together", [list(prompt) for prompt in prompts], tokens))


class IsolatedReader(IsolatedContestant):
    """A contestant that reports logprobs, in a process of its own."""

    def forced(self, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> Iterator[Tensor]:
        yield from torch.from_numpy(self._request("forced", list(prompt_ids), list(token_ids)))


class IsolatedReference(IsolatedReader):
    """A `Reference` in a process of its own."""

    def sample(self, prompt_ids: Sequence[int], tokens: int, seed: int) -> tuple[list[int], Tensor]:
        token_ids, logprobs = self._request("sample", list(prompt_ids), tokens, seed)
        return token_ids, torch.from_numpy(logprobs)


class IsolatedEmbedder(Isolated):
    """An `Embedder` in a process of its own."""

    def embed(self, texts: Sequence[str]) -> float:
        return float(self._request("embed", list(texts)))


def _serve(pipe: Connection, make: Callable[..., Modelled], args: tuple[Any, ...]) -> None:
    """Create the entrant and run calls until the pipe is closed; the new process's main function."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl+C
    try:
        entrant = make(*args)
    except Exception as error:  # noqa: BLE001 - raised again in the parent process
        pipe.send(_portable(error))
        return
    pipe.send(_Facts(entrant.name, entrant.is_rival, entrant.memory_bytes, entrant.instruction_set))
    try:
        while True:
            method, arguments = pipe.recv()
            try:
                pipe.send(_call(entrant, method, arguments))
            except Exception as error:  # noqa: BLE001 - raised again in the parent process
                pipe.send(_portable(error))
    except (EOFError, BrokenPipeError):
        entrant.close()


def _call(entrant: Modelled, method: str, arguments: tuple[Any, ...]) -> Any:
    """Return a method's result, with tensors as arrays, which are copied: torch would share memory."""
    if method == "forced":
        assert isinstance(entrant, GivesLogprobs)
        return torch.stack(list(entrant.forced(*arguments))).numpy()  # (tokens, vocab)
    value = getattr(entrant, method)(*arguments)
    if method == "sample":
        token_ids, logprobs = value
        return token_ids, logprobs.numpy()
    return value


def _portable(error: Exception) -> Exception:
    """Return the error if it can be pickled, or else a GenerationError with its message."""
    try:
        copied = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - constructors of any form
        copied = None
    return error if type(copied) is type(error) else GenerationError(f"{type(error).__name__}: {error}")
