"""Finding the recorded call of a request, or the one that comes nearest to it, and what was looked at in it."""

from __future__ import annotations

import difflib
import json
import threading
from collections import defaultdict

from workbench.errors import NotRecordedError
from workbench.protocol import SamplingParams
from workbench.providers.trace.calls import Method, RecordedCall
from workbench.providers.trace.file import Trace
from workbench.providers.trace.inspections import PlayedInspector
from workbench.providers.wire import Json

_COMPARED = 200
"""Recorded requests that are looked at for the nearest."""


class Playlist:
    """Recorded calls by what was asked; safe from any thread.

    A request that was recorded several times is answered in that order, and after the last with the last again.
    """

    def __init__(self, trace: Trace) -> None:
        self.models = trace.models
        self._looks = trace.looks
        self._vocabularies = trace.vocabularies
        self._calls: dict[str, list[RecordedCall]] = defaultdict(list)
        for call in trace.calls:
            self._calls[_key(call.method, call.model, call.request)].append(call)
        self.registered = {call.model for call in trace.calls if call.method == "register_model"}
        """Models that were asked for while the recording ran, and are not served from the start."""
        self._played: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    def holds(self, method: Method, model: str, request: Json) -> bool:
        return _key(method, model, request) in self._calls

    def take(self, method: Method, model: str, request: Json) -> RecordedCall:
        """The next recording of a request.

        Raises:
            NotRecordedError: there is none; it names the first field that differs from the nearest.
        """
        key = _key(method, model, request)
        calls = self._calls.get(key)
        if calls is None:
            raise self._unknown(method, model, request)
        with self._lock:
            played = self._played[key]
            self._played[key] += 1
        return calls[min(played, len(calls) - 1)]

    def inspector(self, call: RecordedCall, sampling_params: SamplingParams) -> PlayedInspector | None:
        """What can be told of the call's positions; None where nobody looked at any."""
        looks = self._looks.get(call.number)
        return PlayedInspector(looks, self._vocabularies.get(call.model), sampling_params) if looks else None

    def _unknown(self, method: Method, model: str, request: Json) -> NotRecordedError:
        recorded = [calls[0] for calls in self._calls.values() if calls[0].model == model]
        alike = [call for call in recorded if call.method == method]
        if not alike:
            methods = sorted({call.method for call in recorded})
            allowed = f"one for which {method} was recorded; recorded for this one: {', '.join(methods) or 'nothing'}"
            return NotRecordedError("model", model, allowed)
        nearest = max(alike[:_COMPARED], key=lambda call: _likeness(call.request, request))
        field, given, there = _difference(request, nearest.request)
        allowed = f"{_shown(there)}, as in the nearest of {len(alike)} recorded requests ({method} of {model})"
        return NotRecordedError(field, given, allowed)


def _key(method: Method, model: str, request: Json) -> str:
    return json.dumps([method, model, request], sort_keys=True)


def _likeness(recorded: Json, request: Json) -> tuple[int, float]:
    """Equal fields, then how much the rest has in common."""
    same = sum(recorded.get(name) == value for name, value in request.items())
    here, there = (json.dumps(one, sort_keys=True)[:4000] for one in (request, recorded))
    return same, difflib.SequenceMatcher(a=here, b=there, autojunk=False).quick_ratio()


def _difference(request: Json, recorded: Json, path: str = "") -> tuple[str, Json, Json]:
    """The first place where two requests differ, with both values there."""
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
