"""Finding the recorded call of a request, or the one nearest to it, and its inspections."""

from __future__ import annotations

import difflib
import json
import threading
from collections import defaultdict

from workbench.errors import NotRecordedError
from workbench.providers.trace.calls import Method, RecordedCall
from workbench.providers.trace.file import Trace
from workbench.providers.trace.inspections import PlayedInspector
from workbench.providers.wire import Json

_MAX_COMPARED = 200
"""Recorded requests among which the nearest is searched for."""


class Playlist:
    """Recorded calls by request; thread-safe.

    Several recordings of one request are played in their order, and the last one is repeated.
    """

    def __init__(self, trace: Trace) -> None:
        self.models = trace.models
        self._inspections = trace.inspections
        self._vocabularies = trace.vocabularies
        self._insides = trace.insides
        self.points = trace.points
        """Points by model, of the models that were looked into."""
        self._calls: dict[str, list[RecordedCall]] = defaultdict(list)
        for call in trace.calls:
            self._calls[_key(call.method, call.model, call.request)].append(call)
        self.registered = {call.model for call in trace.calls if call.method == "register_model"}
        """Models that were registered during the recording, and so are not served from the start."""
        self._played: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    def holds(self, method: Method, model: str, request: Json) -> bool:
        return _key(method, model, request) in self._calls

    def take(self, method: Method, model: str, request: Json) -> RecordedCall:
        """Return the next recording of a request.

        Raises:
            NotRecordedError: there is none; names the first field that differs from the nearest one.
        """
        key = _key(method, model, request)
        calls = self._calls.get(key)
        if calls is None:
            raise self._unknown(method, model, request)
        with self._lock:
            played = self._played[key]
            self._played[key] += 1
        return calls[min(played, len(calls) - 1)]

    def inspector(self, call: RecordedCall) -> PlayedInspector | None:
        """Return an inspector of what was inspected of the call; None if nothing was."""
        found, insides = self._inspections.get(call.number, {}), self._insides.get(call.number, [])
        if not found and not insides:
            return None
        vocabulary = self._vocabularies.get(call.model)
        return PlayedInspector(found, vocabulary, call.request, insides, self.points.get(call.model))

    def _unknown(self, method: Method, model: str, request: Json) -> NotRecordedError:
        recorded = [calls[0] for calls in self._calls.values() if calls[0].model == model]
        alike = [call for call in recorded if call.method == method]
        if not alike:
            methods = sorted({call.method for call in recorded})
            allowed = f"one for which {method} was recorded; recorded for this one: {', '.join(methods) or 'nothing'}"
            return NotRecordedError("model", model, allowed)
        nearest = max(alike[:_MAX_COMPARED], key=lambda call: _similarity(call.request, request))
        field, value, recorded_value = _difference(request, nearest.request)
        allowed = f"{_shown(recorded_value)}, as in the nearest of {len(alike)} recorded requests ({method} of {model})"
        return NotRecordedError(field, value, allowed)


def _key(method: Method, model: str, request: Json) -> str:
    return json.dumps([method, model, request], sort_keys=True)


def _similarity(recorded: Json, request: Json) -> tuple[int, float]:
    """Return the number of equal fields, then the similarity of the texts, from 0 to 1."""
    same = sum(recorded.get(name) == value for name, value in request.items())
    here, there = (json.dumps(one, sort_keys=True)[:4000] for one in (request, recorded))
    return same, difflib.SequenceMatcher(a=here, b=there, autojunk=False).quick_ratio()


def _difference(request: Json, recorded: Json, path: str = "") -> tuple[str, Json, Json]:
    """Return the path of the first difference between two requests, with both values."""
    if isinstance(request, dict) and isinstance(recorded, dict):
        for name in dict.fromkeys([*request, *recorded]):
            here, there = request.get(name), recorded.get(name)
            if here != there:
                return _difference(here, there, f"{path}.{name}".removeprefix("."))
    if isinstance(request, list) and isinstance(recorded, list) and len(request) == len(recorded):
        for index, (here, there) in enumerate(zip(request, recorded, strict=True)):
            if here != there:
                return _difference(here, there, f"{path}[{index}]")
    return path, request, recorded


def _shown(value: Json, limit: int = 120) -> str:
    text = "absent" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
