"""The file of a trace: JSON Lines, a header first, then models, calls, looks and vocabularies as they came.

``docs/traces.md`` describes each kind of line. A line that breaks off at the end of the file is left out with a
warning: that recording was interrupted while it was written.
"""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench._version import __version__
from workbench.errors import ConfigError, InvalidRequestError
from workbench.paths import reason, typed_path
from workbench.protocol import ModelDef, SamplingStrategy, ToolPromptFormat
from workbench.providers.capabilities import Capabilities
from workbench.providers.json_lines import one_line
from workbench.providers.trace.calls import RecordedCall
from workbench.providers.trace.inspections import kept_to_wire, texts_to_wire
from workbench.providers.wire import Json, from_wire, to_wire
from workbench.records import KeptPosition, ModelCard

FORMAT, VERSION = "workbench-trace", 2
_READ = (1, 2)
"""Versions that are read; the first had no looks."""


@dataclass(frozen=True, slots=True)
class RecordedModel:
    """A model that was served while the recording ran, under the name it was asked by."""

    definition: ModelDef
    card: ModelCard
    capabilities: Capabilities

    def to_wire(self) -> Json:
        abilities = {name: _plain(getattr(self.capabilities, name)) for name in Capabilities.__slots__}
        definition = self.definition.model_dump(mode="json")
        return {"definition": definition, "card": to_wire(self.card), "capabilities": abilities}

    @classmethod
    def from_wire(cls, wire: Json) -> RecordedModel:
        abilities = {name: value for name, value in wire["capabilities"].items() if name in Capabilities.__slots__}
        sets: dict[str, Any] = {
            "strategies": SamplingStrategy,
            "tool_prompt_formats": ToolPromptFormat,
            "response_formats": str,
        }
        abilities |= {name: frozenset(map(kind, abilities.get(name, ()))) for name, kind in sets.items()}
        definition = ModelDef.model_validate(wire["definition"])
        return cls(definition, from_wire(ModelCard, wire["card"]), Capabilities(**abilities))


@dataclass(slots=True)
class Trace:
    """What a file holds."""

    models: dict[str, RecordedModel] = field(default_factory=dict)
    """By name, in the order of registration; of several lines for one model the last counts."""
    calls: list[RecordedCall] = field(default_factory=list)
    looks: dict[int, dict[int, Json]] = field(default_factory=dict)
    """By the call's number, then by position; unpacked when they are asked for."""
    vocabularies: dict[str, Json] = field(default_factory=dict)
    """By model; unpacked when they are asked for."""


class TraceWriter:
    """Writes a trace line by line; safe from any thread.

    Raises:
        InvalidRequestError: there is such a file already, or it cannot be written.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path = typed_path(path, "path")
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w" if overwrite else "x", encoding="utf-8")
        except FileExistsError:
            allowed = "a file that does not exist yet; overwrite=True replaces this one"
            raise InvalidRequestError("path", str(path), allowed) from None
        except OSError as error:
            allowed = f"a file that can be written ({reason(error)})"
            raise InvalidRequestError("path", str(path), allowed) from None
        self._write({"format": FORMAT, "version": VERSION, "workbench": __version__})

    def model(self, model: RecordedModel) -> None:
        self._write({"model": model.to_wire()})

    def call(self, call: RecordedCall) -> None:
        self._write({"call": call.to_wire()})

    def look(self, number: int, position: int, kept: KeptPosition) -> None:
        self._write({"look": {"call": number, "position": position, **kept_to_wire(kept)}})

    def vocabulary(self, model: str, texts: Sequence[str]) -> None:
        self._write({"vocabulary": {"model": model, "texts": texts_to_wire(texts)}})

    def close(self) -> None:
        """Closing twice is harmless; what comes later is not written."""
        with self._lock:
            self._file.close()

    def _write(self, line: Json) -> None:
        text = json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        # Half a surrogate pair is no UTF-8; JSON can escape it.
        text = one_line(text.encode("utf-8", "backslashreplace")).decode("utf-8")
        with self._lock:
            if not self._file.closed:
                self._file.write(text + "\n")
                self._file.flush()


def read_trace(path: str | Path) -> Trace:
    """The models and calls of a file.

    Raises:
        ConfigError: it cannot be read, is no trace, or a line of it is damaged; the message names the line.
    """
    path = typed_path(path, "path")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"trace {path} cannot be read: {reason(error)}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"trace {path} is not UTF-8 text") from None
    lines = _whole_lines(path, text)
    _check_header(path, lines[0])
    trace = Trace()
    for number, line in enumerate(lines[1:], 2):
        try:
            _take(trace, json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigError(f"trace {path}, line {number}: not a record of a model or a call ({error})") from None
    return trace


def _whole_lines(path: Path, text: str) -> list[str]:
    """The lines, without one that breaks off at the end, which is a Python warning."""
    *lines, last = text.split("\n")
    if _is_json(last):  # an editor may have taken the last line's end away
        return [*lines, last]
    if last and lines:
        why = "the recording was interrupted while writing it"
        warnings.warn(f"trace {path}: line {len(lines) + 1} is incomplete and was left out: {why}", stacklevel=3)
    return lines or [last]


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _check_header(path: Path, line: str) -> None:
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ConfigError(
            f"{path} is not a trace: its first line is not a trace header; record one with `Workbench.record`"
        )
    if header.get("version") not in _READ:
        read = " and ".join(map(str, _READ))
        raise ConfigError(f"trace {path} has version {header.get('version')}; this workbench reads versions {read}")


def _take(trace: Trace, line: Json) -> None:
    if "model" in line:
        model = RecordedModel.from_wire(line["model"])
        trace.models[model.definition.identifier] = model
    elif "look" in line:
        look = line["look"]
        trace.looks.setdefault(look["call"], {})[look["position"]] = look
    elif "vocabulary" in line:
        trace.vocabularies[line["vocabulary"]["model"]] = line["vocabulary"]["texts"]
    else:
        trace.calls.append(RecordedCall.from_wire(line["call"]))


def _plain(value: Any) -> Json:
    return sorted(map(str, value)) if isinstance(value, frozenset) else value
