"""Each entrant in a process of its own.

Together in one process they would slow each other: OpenMP (of torch) counts the threads of all its teams, and where
they are more than the cores, waiting threads sleep between the small kernels of a step, which halves the speed of
decode. A process of its own also shows what an entrant really holds in memory. Times are taken in there, so that what
crosses the pipe costs nothing.
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

from workbench.benchmarks.contestants import Entrant, GivesLogprobs, Stream
from workbench.errors import GenerationError

END_S = 10.0
"""An entrant that has not ended so long after it was asked to is killed."""


@dataclass(frozen=True, slots=True)
class _Facts:
    name: str
    is_rival: bool
    memory_bytes: int | None


class Isolated:
    """An entrant made by ``make(*args)`` in a new process, which ends with `close`.

    Raises:
        Whatever ``make`` raises; calls raise what the entrant raises, GenerationError where its process has died.
    """

    def __init__(self, make: Callable[..., Entrant], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, args), daemon=True)
        self._process.start()
        theirs.close()
        try:
            facts: _Facts = self._answer()
        except BaseException:
            self.close()
            raise
        self.name = facts.name
        self.is_rival = facts.is_rival
        self.memory_bytes = facts.memory_bytes

    def resident_bytes(self) -> int:
        """Memory of the whole process now."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def close(self) -> None:
        self._pipe.close()  # which ends the other side's loop
        self._process.join(END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, method: str, *args: Any) -> Any:
        self._pipe.send((method, args))
        return self._answer()

    def _answer(self) -> Any:
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
        stream: Stream = self._ask("generate", list(prompt_ids), tokens)
        return stream

    def generate_together(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        return float(self._ask("generate_together", [list(prompt) for prompt in prompts], tokens))


class IsolatedReader(IsolatedContestant):
    """A contestant that gives logprobs, in a process of its own."""

    def forced(self, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> Iterator[Tensor]:
        yield from torch.from_numpy(self._ask("forced", list(prompt_ids), list(token_ids)))


class IsolatedReference(IsolatedReader):
    """A contestant that also writes the texts, in a process of its own."""

    def sample(self, prompt_ids: Sequence[int], tokens: int, seed: int) -> tuple[list[int], Tensor]:
        token_ids, logprobs = self._ask("sample", list(prompt_ids), tokens, seed)
        return token_ids, torch.from_numpy(logprobs)


class IsolatedEmbedder(Isolated):
    """An `Embedder` in a process of its own."""

    def embed(self, texts: Sequence[str]) -> float:
        return float(self._ask("embed", list(texts)))


def _serve(pipe: Connection, make: Callable[..., Entrant], args: tuple[Any, ...]) -> None:
    """The other side: make the entrant, answer calls until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the first process's to handle
    try:
        entrant = make(*args)
    except Exception as error:  # noqa: BLE001 - it is the other side's
        pipe.send(_portable(error))
        return
    pipe.send(_Facts(entrant.name, entrant.is_rival, entrant.memory_bytes))
    try:
        while True:
            method, arguments = pipe.recv()
            try:
                pipe.send(_call(entrant, method, arguments))
            except Exception as error:  # noqa: BLE001 - it is the other side's
                pipe.send(_portable(error))
    except (EOFError, BrokenPipeError):
        entrant.close()


def _call(entrant: Entrant, method: str, arguments: tuple[Any, ...]) -> Any:
    """What the method returns, tensors as arrays: they are copied, where torch would share memory."""
    if method == "forced":
        assert isinstance(entrant, GivesLogprobs)
        return torch.stack(list(entrant.forced(*arguments))).numpy()  # (tokens, vocab)
    value = getattr(entrant, method)(*arguments)
    if method == "sample":
        token_ids, logprobs = value
        return token_ids, logprobs.numpy()
    return value


def _portable(error: Exception) -> Exception:
    """The error itself where it survives the pipe, else its words."""
    try:
        copied = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - constructors of any form
        copied = None
    return error if type(copied) is type(error) else GenerationError(f"{type(error).__name__}: {error}")
