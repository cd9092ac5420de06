"""Conversion of pydantic's ValidationError to one typed error with the field, the value and what is allowed.

Pydantic reports every branch of a union and mixes the names of the branches into the path. These errors have the one
path that is wrong, in the caller's spelling: ``messages[1].content``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from workbench.errors import ConfigError, InvalidRequestError
from workbench.protocol.field_types import owners

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Problem:
    """One invalid value."""

    path: str
    """Path in the caller's spelling, for example ``messages[1].content``; empty for the data as a whole."""
    given: object
    allowed: str


def invalid_request(error: ValidationError, data: object, model: type[BaseModel] | None = None) -> InvalidRequestError:
    """Return the request error for a ``ValidationError`` about ``data``, which was validated as a ``model``.

    The models of this package raise it themselves; call this function after validating with a ``TypeAdapter``.
    """
    problem = first_problem(error, data, model)
    return InvalidRequestError(problem.path or _name(model, "request"), problem.given, problem.allowed)


def config_error(error: ValidationError, data: object, model: type[BaseModel] | None = None) -> ConfigError:
    """Return the error for a run config with one line for each problem.

    Only numbers are quoted, because other values may contain an API token.
    """
    return ConfigError("\n".join(_config_line(problem, model) for problem in all_problems(error, data, model)))


def _config_line(problem: Problem, model: type[BaseModel] | None) -> str:
    quoted = problem.given is None or isinstance(problem.given, (bool, int, float))
    given = repr(problem.given) if quoted else f"a {type(problem.given).__name__}"
    return f"{problem.path or _name(model, 'run config')} must be {problem.allowed}; got {given}"


def first_problem(error: ValidationError, data: object, model: type[BaseModel] | None = None) -> Problem:
    """Return the first problem; for a union, the one of the branch that matched the most of the data."""
    return _first([_problem(details, data, model) for details in error.errors(include_url=False)])[0]


def all_problems(error: ValidationError, data: object, model: type[BaseModel] | None = None) -> list[Problem]:
    """Return every problem in the order of the data, one for all branches of a union."""
    remaining = [_problem(details, data, model) for details in error.errors(include_url=False)]
    found = []
    while remaining:
        problem, remaining = _first(remaining)
        found.append(problem)
    return found


def _first(problems: list[Problem]) -> tuple[Problem, list[Problem]]:
    """Return the first problem, and those that are elsewhere in the data."""
    outer = problems[0].path
    within = [problem for problem in problems if _is_within(problem.path, outer)]
    elsewhere = [problem for problem in problems if not _is_within(problem.path, outer)]
    deepest = max(within, key=lambda problem: _depth(problem.path)).path
    same_path = [problem for problem in within if problem.path == deepest]
    allowed = " or ".join(dict.fromkeys(problem.allowed for problem in same_path))
    return Problem(deepest, same_path[0].given, allowed), elsewhere


def _problem(details: ErrorDetails, data: object, model: type[BaseModel] | None) -> Problem:
    kind, loc, given = details["type"], details["loc"], details["input"]
    context: dict[str, Any] = details.get("ctx", {})
    path = _path(loc, data, keep_last=kind in ("missing", "extra_forbidden"))
    raised = context.get("error")
    if isinstance(raised, InvalidRequestError):
        return Problem(path, raised.given, raised.allowed)
    if kind == "missing":
        return Problem(path, None, "given, because it is required")
    if kind == "extra_forbidden":
        return Problem(path, given, _unknown_field(str(loc[-1]), owners(model, loc[:-1]) if model else []))
    if kind.startswith("union_tag_"):
        tag = str(context["discriminator"]).strip("'")
        allowed = (
            f"one of {context['expected_tags']}" if "expected_tags" in context else "given, because it selects the type"
        )
        return Problem(f"{path}.{tag}".removeprefix("."), context.get("tag"), allowed)
    if kind == "json_invalid":
        return Problem(path, given, f"valid JSON ({context['error']})")
    words = details["msg"].removeprefix("Input should be ")
    return Problem(path, given, words if words != details["msg"] else f"valid: {words}")


def _unknown_field(name: str, candidates: Sequence[type[BaseModel]]) -> str:
    """Return what is allowed instead of an unknown field, with the nearest field name of its owner."""
    if len(candidates) != 1:
        return "left out, because there is no such field here"
    (owner,) = candidates
    near = difflib.get_close_matches(name, owner.model_fields, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"left out: {owner.__name__} has no such field ({hint}its fields are {', '.join(owner.model_fields)})"


def _name(model: type[BaseModel] | None, otherwise: str) -> str:
    return model.__name__ if model is not None else otherwise


def _path(loc: Sequence[int | str], data: object, keep_last: bool) -> str:
    """Return ``loc`` in the caller's spelling. A step that the data does not have is the label of a union's branch."""
    steps: list[str] = []
    current = data
    for index, step in enumerate(loc):
        found = _child(current, step)
        if found is _ABSENT and not isinstance(step, int) and not (keep_last and index == len(loc) - 1):
            continue
        steps.append(f"[{step}]" if isinstance(step, int) else f".{step}")
        current = found
    return "".join(steps).removeprefix(".")


def _child(value: object, step: int | str) -> object:
    if isinstance(value, Mapping):
        return value.get(step, _ABSENT)
    if isinstance(step, int):
        in_range = isinstance(value, Sequence) and not isinstance(value, str) and step < len(value)
        return value[step] if in_range else _ABSENT  # type: ignore[index]
    return getattr(value, step, _ABSENT) if isinstance(value, BaseModel) else _ABSENT


def _is_within(path: str, outer: str) -> bool:
    return not outer or path == outer or path.startswith((f"{outer}.", f"{outer}["))


def _depth(path: str) -> int:
    return path.count(".") + path.count("[")
