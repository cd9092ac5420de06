"""Errors cross threads and processes: a copy is the error that it was made of."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator

import pytest

from workbench import errors
from workbench.errors import (
    ContextLengthError,
    InvalidRequestError,
    ResourceNotFoundError,
    ShieldViolationError,
    WorkbenchError,
)
from workbench.protocol import SafetyViolation, ViolationLevel


def kinds(base: type[WorkbenchError]) -> Iterator[type[WorkbenchError]]:
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def made(kind: type[WorkbenchError]) -> WorkbenchError:
    if issubclass(kind, ContextLengthError):
        return kind(9000, 8192)
    if issubclass(kind, InvalidRequestError):
        return kind("sampling_params.top_p", [7.0], "at most 1")
    if issubclass(kind, ShieldViolationError):
        found = SafetyViolation(violation_level=ViolationLevel.error, metadata={"category": "S1", "probability": 0.9})
        return kind("content_guard", found, "answer")
    if issubclass(kind, ResourceNotFoundError):
        return kind("nope", ["b", "a"])
    return kind("what happened, and what to do")


COPIES: dict[str, Callable[[WorkbenchError], WorkbenchError]] = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("how", COPIES)
def test_every_error_of_the_tree_survives_being_copied(how: str) -> None:
    every = {kind for kind in kinds(WorkbenchError) if kind.__module__ == errors.__name__}  # not a server's refusals
    assert {kind.__name__ for kind in every} == {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, WorkbenchError)
    }
    for kind in every:
        error = made(kind)
        error.add_note("while the model was loading")
        again = COPIES[how](error)
        assert type(again) is kind
        assert str(again) == str(error)
        assert again.args == error.args
        assert again.__dict__ == error.__dict__


@pytest.mark.parametrize("how", COPIES)
def test_what_cannot_be_pickled_is_kept_as_it_looks(how: str) -> None:
    error = InvalidRequestError("approve", lambda: None, "a callback")
    again = COPIES[how](error)
    assert str(again) == str(error)
    assert isinstance(again, InvalidRequestError)
    assert "lambda" in str(again.given)


def test_a_value_too_deep_to_be_shown_is_described() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert str(InvalidRequestError("metadata", deep, "shallow")) == (
        "metadata must be shallow; got a deeply nested list"
    )
