"""Copies of schemas with changes in all of their parts, such as those that become part of another schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from workbench.schemas.documents import BY_NAME, LISTS, ONE


def pointed(name: str) -> str:
    """Return a name in the spelling of a JSON pointer in a URL."""
    return quote(name.replace("~", "~0").replace("/", "~1"), safe="~")


def moved(schema: dict[str, Any], location: str) -> dict[str, Any]:
    """Return a copy of a document whose references lead to the same parts at ``location`` in another document."""

    def follow(part: dict[str, Any]) -> dict[str, Any]:
        reference = part.get("$ref", "")
        return part | {"$ref": location + reference[1:]} if reference == "#" or reference.startswith("#/") else part

    copy: dict[str, Any] = changed(schema, follow)
    return copy


def untitled(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a copy without titles: pydantic generates one for every part, which only makes a prompt longer."""
    copy: dict[str, Any] = changed(schema, lambda part: {key: part[key] for key in part if key != "title"})
    return copy


def changed(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Return a copy of a schema with a change applied to every schema in it, itself included."""
    if not isinstance(schema, dict):
        return schema
    copy = change(schema)
    for key, value in copy.items():
        if key in ONE:
            copy = copy | {key: changed(value, change)}
        elif key in LISTS:
            copy = copy | {key: [changed(part, change) for part in value]}
        elif key in BY_NAME:
            copy = copy | {key: {name: changed(part, change) for name, part in value.items()}}
    return copy
