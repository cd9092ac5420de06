"""Records, emissions and errors as JSON, without loss: what is read back equals what was written.

Records are written field by field, those with their default left out. JSON has no bytes, which are written as
hexadecimal digits, and neither NaN nor infinity, which are written as ``"nan"``, ``"inf"`` and ``"-inf"``.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, TypeAlias, TypeVar, cast, get_args, get_origin, get_type_hints

from workbench import errors
from workbench.errors import GenerationError, WorkbenchError
from workbench.records import Emission, TokenRecord, Usage

Json: TypeAlias = Any
Record = TypeVar("Record")

_DETAIL: dict[str, Any] = {
    "tokens": tuple[TokenRecord, ...],
    "end": TokenRecord,
    "usage": Usage,
    "prompt_tokens": tuple[TokenRecord, ...],
    "seed": int,
    "notes": tuple[str, ...],
    "call_opening": str,
}
"""Fields of an `Emission` that the protocol's chunks do not have, with their types."""
_NOTHING: tuple[Json, ...] = (None, [], "")


def to_wire(value: Any) -> Json:
    """A record, a tuple of records or a plain value as JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_wire(held)
            for field in fields(value)
            if not _is_default(held := getattr(value, field.name), field.default)
        }
    if isinstance(value, (tuple, list)):
        return [to_wire(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def from_wire(kind: type[Record], wire: Json) -> Record:
    """The record that `to_wire` wrote; raises `KeyError`, `TypeError` or `ValueError` for what none was."""
    return cast("Record", _read(kind, wire))


def detail_to_wire(emission: Emission) -> Json:
    """What an emission says beyond the protocol, but for the inspector, which looks into a model of its process."""
    return {name: wire for name in _DETAIL if (wire := to_wire(getattr(emission, name))) not in _NOTHING}


def detail_from_wire(wire: Json) -> dict[str, Any]:
    """The fields of an `Emission` that `detail_to_wire` wrote."""
    return {name: _read(kind, wire[name]) for name, kind in _DETAIL.items() if wire.get(name) not in _NOTHING}


def error_to_wire(error: BaseException) -> Json:
    """Type, message and the facts that an error of ours carries."""
    facts = {name: value if _is_json(value) else repr(value)[:200] for name, value in error.__dict__.items()}
    return {"type": type(error).__name__, "message": str(error), "facts": facts}


def error_from_wire(wire: Json) -> WorkbenchError:
    """The error again; one that was none of ours is a `GenerationError` that names it."""
    kind = getattr(errors, wire["type"], None)
    if not (isinstance(kind, type) and issubclass(kind, WorkbenchError)):
        return GenerationError(f"{wire['type']}: {wire['message']}")
    # Its own constructor would make the message anew, of arguments that are not all there.
    error = kind.__new__(kind, wire["message"])
    error.__dict__.update(wire["facts"])
    return error


def _read(hint: Any, wire: Json) -> Any:
    if isinstance(hint, type) and is_dataclass(hint):
        hints = _hints(hint)
        return hint(**{name: _read(hints[name], value) for name, value in wire.items()})
    if get_origin(hint) is tuple:
        return tuple(_read(get_args(hint)[0], item) for item in wire)
    if hint is bytes:
        return bytes.fromhex(wire)
    if isinstance(wire, str) and hint is float:
        return float(wire)
    return wire


@cache
def _hints(kind: type) -> dict[str, Any]:
    # Without names of the class: `TokenRecord` has a field that is called bytes.
    return get_type_hints(kind, vars(sys.modules[kind.__module__]), {})


def _is_default(value: Any, default: Any) -> bool:
    return default is not MISSING and type(value) is type(default) and bool(value == default)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
