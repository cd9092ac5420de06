"""Breakpoints as a form has them, one field for each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.errors import InvalidRequestError
from workbench.records import Breakpoint

NOWHERE: dict[str, Any] = {"entropy_above": None, "text": None, "tool_call": False}


def from_form(form: Mapping[str, Any]) -> list[Breakpoint]:
    """The breakpoints that a form names; a field that is empty names none.

    Raises:
        InvalidRequestError: a field holds what can be no breakpoint, or there is no such field.
    """
    if unknown := set(form) - set(NOWHERE):
        raise InvalidRequestError("breakpoints", sorted(unknown), f"one or more of {', '.join(NOWHERE)}")
    given: dict[str, Any] = {name: form.get(name) for name in NOWHERE}
    return [Breakpoint(**{name: value}) for name, value in given.items() if _is_given(value)]


def to_form(breakpoints: Sequence[Breakpoint]) -> dict[str, Any]:
    """The form that names these.

    Raises:
        InvalidRequestError: there are two of one kind, for which it has no room.
    """
    form = dict(NOWHERE)
    for one in breakpoints:
        name, value = named(one)
        if form[name] != NOWHERE[name]:
            raise InvalidRequestError("breakpoints", breakpoints, f"at most one of each kind, and several set {name}")
        form[name] = value
    return form


def named(one: Breakpoint) -> tuple[str, Any]:
    """Which kind a breakpoint is of, as the form calls it, and its value."""
    return next((name, value) for name in NOWHERE if (value := getattr(one, name)) != NOWHERE[name])


def _is_given(value: object) -> bool:
    return value is not None and value is not False and value != ""
