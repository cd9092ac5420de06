"""Lossless conversion of records, emissions and errors to JSON and back.

Records are written field by field, without fields that have their default. Bytes are written as hexadecimal digits,
NaN and infinity as ``"nan"``, ``"inf"`` and ``"-inf"``, because JSON has none of them.
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

_EXTRA_FIELDS: dict[str, Any] = {
    "tokens": tuple[TokenRecord, ...],
    "end": TokenRecord,
    "usage": Usage,
    "prompt_tokens": tuple[TokenRecord, ...],
    "seed": int,
    "notes": tuple[str, ...],
    "call_opening": str,
}
"""Fields of an `Emission` beyond the protocol's chunks, with their types."""
_EMPTY: tuple[Json, ...] = (None, [], "")


def to_wire(value: Any) -> Json:
    """Return a record, a tuple of records or a plain value as JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_wire(item)
            for field in fields(value)
            if not _is_default(item := getattr(value, field.name), field.default)
        }
    if isinstance(value, (tuple, list)):
        return [to_wire(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def from_wire(kind: type[Record], wire: Json) -> Record:
    """Return the record that `to_wire` wrote; raise `KeyError`, `TypeError` or `ValueError` for other JSON."""
    return cast("Record", _read(kind, wire))


def extras_to_wire(emission: Emission) -> Json:
    """Return an emission's fields beyond the protocol, except the inspector, which reads a model of this process."""
    return {name: wire for name in _EXTRA_FIELDS if (wire := to_wire(getattr(emission, name))) not in _EMPTY}


def extras_from_wire(wire: Json) -> dict[str, Any]:
    """Return the fields of an `Emission` that `extras_to_wire` wrote."""
    return {name: _read(kind, wire[name]) for name, kind in _EXTRA_FIELDS.items() if wire.get(name) not in _EMPTY}


def error_to_wire(error: BaseException) -> Json:
    """Return the type, message and attributes of an error."""
    facts = {name: value if _is_json(value) else repr(value)[:200] for name, value in error.__dict__.items()}
    return {"type": type(error).__name__, "message": str(error), "facts": facts}


def error_from_wire(wire: Json) -> WorkbenchError:
    """Return the error; one of a foreign type becomes a `GenerationError` that names it."""
    kind = getattr(errors, wire["type"], None)
    if not (isinstance(kind, type) and issubclass(kind, WorkbenchError)):
        return GenerationError(f"{wire['type']}: {wire['message']}")
    # Not its constructor, which would format the message from arguments that are not all stored.
    error = kind.__new__(kind, wire["message"])
    error.__dict__.update(wire["facts"])
    return error


def _read(hint: Any, wire: Json) -> Any:
    if isinstance(hint, type) and is_dataclass(hint):
        hints = _hints(hint)
        return hint(**{name: _read(hints[name], value) for name, value in wire.items()})
    if get_origin(hint) is tuple:
        return tuple(_read(get_args(hint)[0], item) for item in wire)
    if isinstance(wire, dict) and (kinds := [kind for kind in get_args(hint) if is_dataclass(kind)]):
        return _read(kinds[0], wire)  # a record or None
    if hint is bytes:
        return bytes.fromhex(wire)
    if isinstance(wire, str) and hint is float:
        return float(wire)
    return wire


@cache
def _hints(kind: type) -> dict[str, Any]:
    # Not with the names of the class: `TokenRecord` has a field named bytes.
    return get_type_hints(kind, vars(sys.modules[kind.__module__]), {})


def _is_default(value: Any, default: Any) -> bool:
    return default is not MISSING and type(value) is type(default) and bool(value == default)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
