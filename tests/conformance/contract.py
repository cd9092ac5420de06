"""The protocol as plain data, read from the facts or by reflection from a package, in one and the same form."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tests.conformance.spelling import Spelling, of_annotation, of_text, tagged
from workbench.protocol import ConfigModel, ProtocolModel

REQUIRED = "required"


@dataclass
class Slot:
    """A field of a model or a parameter of a method."""

    type: Spelling
    default: str
    """As JSON, or ``REQUIRED``."""

    def __str__(self) -> str:
        return str(self.type) if self.default == REQUIRED else f"{self.type} = {self.default}"


@dataclass
class Method:
    is_async: bool
    route: str | None
    http_method: str | None
    parameters: dict[str, Slot]
    returns: Spelling


@dataclass
class Contract:
    models: dict[str, dict[str, Slot]]
    enums: dict[str, list[str]]
    protocols: dict[str, dict[str, Method]]


def from_facts(facts: dict[str, Any]) -> Contract:
    return Contract(
        models={name: _slots_of_facts(fields) for name, fields in facts["models"].items()},
        enums={name: list(values) for name, values in facts["enums"].items()},
        protocols={
            name: {method: _method_of_facts(fact) for method, fact in methods.items()}
            for name, methods in facts["protocols"].items()
        },
    )


def _slots_of_facts(facts: dict[str, Any]) -> dict[str, Slot]:
    return {
        name: Slot(of_text(fact["type"]), json.dumps(fact["default"]) if "default" in fact else REQUIRED)
        for name, fact in facts.items()
    }


def _method_of_facts(fact: dict[str, Any]) -> Method:
    parameters = _slots_of_facts(fact["parameters"])
    return Method(fact["async"], fact["route"], fact["method"], parameters, of_text(fact["returns"]))


def from_package(package: ModuleType) -> Contract:
    """Everything that the package exports and the facts could speak of; two names of one type count once."""
    exported = {item.__name__: item for item in map(vars(package).get, package.__all__) if isinstance(item, type)}
    bases = (ProtocolModel, ConfigModel)
    return Contract(
        models={
            name: {field: _slot_of_field(info) for field, info in item.model_fields.items()}
            for name, item in exported.items()
            if issubclass(item, BaseModel) and item not in bases
        },
        enums={
            name: [str(member.value) for member in item] for name, item in exported.items() if issubclass(item, Enum)
        },
        protocols={
            name: {method: _method_of(function) for method, function in vars(item).items() if _is_method(function)}
            for name, item in exported.items()
            if getattr(item, "_is_protocol", False)
        },
    )


def _slot_of_field(info: FieldInfo) -> Slot:
    default = REQUIRED if info.is_required() else _as_json(info.get_default(call_default_factory=True))
    tag = str(info.discriminator) if info.discriminator else None
    return Slot(tagged(of_annotation(info.annotation), tag), default)


def _is_method(function: object) -> bool:
    return inspect.isfunction(function) and not function.__name__.startswith("_")


def _method_of(function: Callable[..., Any]) -> Method:
    hints = get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())[1:]  # without self
    mark = getattr(function, "__webmethod__", None)
    return Method(
        is_async=inspect.iscoroutinefunction(function),
        route=mark.route if mark else None,
        http_method=mark.method if mark else None,
        parameters={
            _spelled(parameter): Slot(
                of_annotation(hints[parameter.name]),
                REQUIRED if parameter.default is inspect.Parameter.empty else _as_json(parameter.default),
            )
            for parameter in parameters
        },
        returns=of_annotation(hints["return"]),
    )


def _spelled(parameter: inspect.Parameter) -> str:
    return parameter.name if parameter.kind is parameter.POSITIONAL_OR_KEYWORD else f"*{parameter.name}"


def _as_json(value: object) -> str:
    if isinstance(value, BaseModel):
        return json.dumps(value.model_dump(mode="json"))
    return json.dumps(value.__name__ if isinstance(value, type) else value)
