from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import psutil
import pytest
import torch
from torch import Tensor

from tests.fakes.contestants import FakeReader
from workbench.benchmarks.isolated_process import IsolatedReader, IsolatedReference
from workbench.errors import GenerationError, InsufficientMemoryError, InvalidRequestError


class Writer(FakeReader):
    def sample(self, prompt_ids: list[int], tokens: int, seed: int) -> tuple[list[int], Tensor]:
        return [seed] * tokens, torch.zeros(tokens, 4)

    def generate_together(self, prompts: object, tokens: int) -> float:
        match tokens:
            case 1:
                raise InvalidRequestError("tokens", 1, "another number")
            case 2:
                os._exit(3)
        return 1.0


def too_big(name: str) -> FakeReader:
    raise InsufficientMemoryError(f"{name} needs more")


@pytest.fixture(scope="module")
def isolated() -> Iterator[IsolatedReference]:
    with closing(IsolatedReference(Writer, "A", 0.5, 0.25)) as contestant:
        yield contestant
        process = psutil.Process(contestant._process.pid)
    assert not process.is_running()


def test_it_answers_as_the_entrant_would(isolated: IsolatedReference) -> None:
    assert (isolated.name, isolated.is_rival, isolated.memory_bytes) == ("A", False, 1_000_000)
    assert isolated.generate([1, 2], 5) == FakeReader("A", 0.5, 0.25).generate([1, 2], 5)
    assert [tuple(row.shape) for row in isolated.forced([1], [2, 3])] == [(4,), (4,)]
    token_ids, logprobs = isolated.sample([1], 3, seed=7)
    assert (token_ids, tuple(logprobs.shape)) == ([7, 7, 7], (3, 4))
    assert isolated.resident_bytes() > 10**6


def test_what_the_entrant_raises_is_raised_here(isolated: IsolatedReference) -> None:
    with pytest.raises(InvalidRequestError, match="tokens must be another number"):
        isolated.generate_together([[1]], 1)
    assert isolated.generate_together([[1]], 3) == 1


def test_a_process_that_dies_is_an_error_and_not_silence() -> None:
    with closing(IsolatedReader(Writer, "A")) as contestant, pytest.raises(GenerationError, match="exit code 3"):
        contestant.generate_together([[1]], 2)


def test_what_making_it_raises_keeps_its_type_and_leaves_no_process() -> None:
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(InsufficientMemoryError, match="big needs more"):
        IsolatedReader(too_big, "big")
    assert {child.pid for child in psutil.Process().children()} <= before
