"""Lookup of the types that a model declares at a path."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel


def owners(model: type[BaseModel], loc: Sequence[int | str]) -> list[type[BaseModel]]:
    """Return the models declared at a path of pydantic's form; several for a union of models."""
    current: list[Any] = [model]
    for step in loc:
        below = [inner for kind in current for inner in _below(kind, step)]
        current = below or _branch(current, str(step))
    return [kind for kind in current if _is_model(kind)]


def kinds(annotation: Any) -> Iterator[Any]:
    """Yield the types that an annotation allows, without ``Annotated`` and unions."""
    if get_origin(annotation) is Annotated:
        yield from kinds(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for arm in get_args(annotation):
            yield from kinds(arm)
    else:
        yield annotation


def _below(kind: Any, step: int | str) -> list[Any]:
    """Return the types of one field, key or item."""
    if _is_model(kind):
        field = kind.model_fields.get(step)
        return list(kinds(field.annotation)) if field else []
    if get_origin(kind) in (dict, list, tuple, set, frozenset):
        is_item = isinstance(step, int) != (get_origin(kind) is dict)
        return list(kinds(get_args(kind)[-1])) if is_item else []
    return []


def _branch(types_: list[Any], label: str) -> list[Any]:
    """Return the branch of a union that has a label: a class name or the value of a discriminator."""
    return [kind for kind in types_ if _is_model(kind) and label in _labels(kind)] or types_


def _labels(kind: type[BaseModel]) -> set[str]:
    defaults = {field.default for field in kind.model_fields.values() if isinstance(field.default, str)}
    literals = {value for field in kind.model_fields.values() for value in get_args(field.annotation)}
    return {kind.__name__, *defaults, *(value for value in literals if isinstance(value, str))}


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
