"""Conversion between breakpoints and the fields of a form, one for each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.errors import InvalidRequestError
from workbench.records import Breakpoint

NOWHERE: dict[str, Any] = {"entropy_above": None, "text": None, "tool_call": False}


def from_form(form: Mapping[str, Any]) -> list[Breakpoint]:
    """Return the breakpoints of a form; an empty field is none.

    Raises:
        InvalidRequestError: a field has an invalid value, or there is no such field.
    """
    if unknown := set(form) - set(NOWHERE):
        raise InvalidRequestError("breakpoints", sorted(unknown), f"one or more of {', '.join(NOWHERE)}")
    values: dict[str, Any] = {name: form.get(name) for name in NOWHERE}
    return [Breakpoint(**{name: value}) for name, value in values.items() if _is_set(value)]


def to_form(breakpoints: Sequence[Breakpoint]) -> dict[str, Any]:
    """Return the fields of the form for breakpoints.

    Raises:
        InvalidRequestError: there are two breakpoints of one kind.
    """
    form = dict(NOWHERE)
    for one in breakpoints:
        name, value = named(one)
        if form[name] != NOWHERE[name]:
            raise InvalidRequestError("breakpoints", breakpoints, f"at most one of each kind, and several set {name}")
        form[name] = value
    return form


def named(one: Breakpoint) -> tuple[str, Any]:
    """Return the form's field for a breakpoint, and its value."""
    return next((name, value) for name in NOWHERE if (value := getattr(one, name)) != NOWHERE[name])


def _is_set(value: object) -> bool:
    return value is not None and value is not False and value != ""
