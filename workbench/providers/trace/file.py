"""Trace files: JSON Lines with a header, then models, calls and what was inspected, in the order of recording.

``docs/traces.md`` describes each kind of line. An incomplete last line, which an interrupted recording leaves, is
skipped with a warning.
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
from workbench.errors import ConfigError
from workbench.insides import ModelPoints
from workbench.paths import reason, typed_path, write_errors
from workbench.protocol import ModelDef, SamplingStrategy, ToolPromptFormat
from workbench.providers.capabilities import Capabilities
from workbench.providers.json_lines import one_line
from workbench.providers.trace.calls import RecordedCall
from workbench.providers.trace.inside import points_from_wire, points_to_wire
from workbench.providers.trace.inspections import position_to_wire, texts_to_wire
from workbench.providers.wire import Json, from_wire, to_wire
from workbench.records import KeptPosition, ModelCard

FORMAT, VERSION = "workbench-trace", 3
_READABLE_VERSIONS = (1, 2, 3)
"""Version 1 has no inspections, version 2 no insides of models."""


@dataclass(frozen=True, slots=True)
class RecordedModel:
    """A model that was served during the recording, under the name that requests used."""

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
    """The contents of a trace file."""

    models: dict[str, RecordedModel] = field(default_factory=dict)
    """Models by name, in the order of registration; the last line for a model applies."""
    calls: list[RecordedCall] = field(default_factory=list)
    inspections: dict[int, dict[int, Json]] = field(default_factory=dict)
    """Compressed inspections by call number, then by position."""
    insides: dict[int, list[Json]] = field(default_factory=dict)
    """What was read inside the model by call number."""
    points: dict[str, ModelPoints] = field(default_factory=dict)
    """Points by model, of the models that were looked into."""
    vocabularies: dict[str, Json] = field(default_factory=dict)
    """Compressed token texts by model."""


class TraceWriter:
    """Writes a trace line by line; thread-safe.

    Raises:
        InvalidRequestError: the file exists already, or cannot be written.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path = typed_path(path, "path")
        self._lock = threading.Lock()
        with write_errors(path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w" if overwrite else "x", encoding="utf-8", newline="\n")
        self._write({"format": FORMAT, "version": VERSION, "workbench": __version__})

    def model(self, model: RecordedModel) -> None:
        self._write({"model": model.to_wire()})

    def call(self, call: RecordedCall) -> None:
        self._write({"call": call.to_wire()})

    def look(self, call_number: int, position: int, kept: KeptPosition) -> None:
        self._write({"look": {"call": call_number, "position": position, **position_to_wire(kept)}})

    def inside(self, call_number: int, answer: Json) -> None:
        self._write({"inside": {"call": call_number, **answer}})

    def points(self, model: str, points: ModelPoints) -> None:
        self._write({"points": {"model": model, **points_to_wire(points)}})

    def vocabulary(self, model: str, texts: Sequence[str]) -> None:
        self._write({"vocabulary": {"model": model, "texts": texts_to_wire(texts)}})

    def close(self) -> None:
        """Close the file; later lines are dropped, and closing twice is harmless."""
        with self._lock:
            self._file.close()

    def _write(self, line: Json) -> None:
        text = json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        # A lone surrogate is not valid UTF-8; JSON can escape it.
        text = one_line(text.encode("utf-8", "backslashreplace")).decode("utf-8")
        with self._lock:
            if not self._file.closed:
                self._file.write(text + "\n")
                self._file.flush()


def read_trace(path: str | Path) -> Trace:
    """Read a trace file.

    Raises:
        ConfigError: the file cannot be read, is not a trace, or has a damaged line; names the line.
    """
    path = typed_path(path, "path")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"trace {path} cannot be read: {reason(error)}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"trace {path} is not UTF-8 text") from None
    lines = _complete_lines(path, text)
    _check_header(path, lines[0])
    trace = Trace()
    for number, line in enumerate(lines[1:], 2):
        try:
            _add(trace, json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigError(f"trace {path}, line {number}: not a record of a model or a call ({error})") from None
    return trace


def _complete_lines(path: Path, text: str) -> list[str]:
    """Return the lines; skip an incomplete last one with a Python warning."""
    *lines, last = text.split("\n")
    if _is_json(last):  # an editor may have removed the final line feed
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
    if header.get("version") not in _READABLE_VERSIONS:
        read = ", ".join(map(str, _READABLE_VERSIONS))
        raise ConfigError(f"trace {path} has version {header.get('version')}; this workbench reads versions {read}")


def _add(trace: Trace, line: Json) -> None:
    if "model" in line:
        model = RecordedModel.from_wire(line["model"])
        trace.models[model.definition.identifier] = model
    elif "look" in line:
        inspection = line["look"]
        trace.inspections.setdefault(inspection["call"], {})[inspection["position"]] = inspection
    elif "inside" in line:
        trace.insides.setdefault(line["inside"]["call"], []).append(line["inside"])
    elif "points" in line:
        trace.points[line["points"]["model"]] = points_from_wire(line["points"])
    elif "vocabulary" in line:
        trace.vocabularies[line["vocabulary"]["model"]] = line["vocabulary"]["texts"]
    else:
        trace.calls.append(RecordedCall.from_wire(line["call"]))


def _plain(value: Any) -> Json:
    return sorted(map(str, value)) if isinstance(value, frozenset) else value
