"""Inspections of recorded runs: positions that were inspected during the recording can be inspected in the replay.

An inspection is stored as the data that the token was chosen from, and once for each model the texts of its tokens.
These give the whole distribution and the sampling chain under any parameters, without a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from workbench.errors import InvalidRequestError
from workbench.protocol import SamplingParams
from workbench.providers.inspectors import ForwardingInspector
from workbench.providers.trace.inside import InsidesWriter, PlayedInsides, RecordingInsides
from workbench.providers.trace.packed import pack, pack_array, unpack, unpack_array
from workbench.providers.wire import Json
from workbench.records import Inspector, KeptPosition, SamplingTrace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workbench.insides import ModelPoints
    from workbench.records import Insides


class InspectionWriter(InsidesWriter, Protocol):
    """Destination of inspections; a `Recorder` is one."""

    def look(self, number: int, position: int, kept: KeptPosition) -> None:
        """Write a position of the call of that number."""


class RecordingInspector(ForwardingInspector):
    """An inspector that writes down each position that it inspects."""

    def __init__(self, inner: Inspector, writer: InspectionWriter, model: str, call_number: int) -> None:
        self._inner = inner
        self._writer = writer
        self._model = model
        self._call_number = call_number
        self._written: set[int] = set()
        self._insides: RecordingInsides | None = None

    @property
    def insides(self) -> Insides | None:
        if self._insides is None and (inner := self._inner.insides) is not None:
            self._insides = RecordingInsides(inner, self._writer, self._model, self._call_number)
        if self._insides is not None:
            self._insides.write_text()
        return self._insides

    def inspector_at(self, position: int) -> Inspector:
        if position not in self._written:
            kept = self._inner.kept(position)
            self._written.add(position)
            self._writer.look(self._call_number, position, kept)
            self._writer.vocabulary(self._model, lambda: list(map(self._inner.text, range(len(kept.logits)))))
        return self._inner

    def text(self, token_id: int) -> str:
        return self._inner.text(token_id)


class PlayedInspector:
    """Inspector of the recorded positions of one call.

    Args:
        request: recorded request, whose sampling parameters are those of the run.
        insides: answers of `records.Insides` that were recorded.
        points: points of the model, if there are any answers.
    """

    def __init__(
        self,
        inspections: Mapping[int, Json],
        vocabulary: Json,
        request: Json,
        insides: Sequence[Json] = (),
        points: ModelPoints | None = None,
    ) -> None:
        self._inspections = inspections
        self._vocabulary = vocabulary
        self._texts: list[str] | None = None
        self._sampling_params = SamplingParams.model_validate(request["sampling_params"])
        self.insides: Insides | None = PlayedInsides(insides, points, self.text) if insides and points else None

    def logprobs(self, position: int) -> NDArray[np.float32]:
        from workbench.providers.transformers.inspecting import logprobs_of

        return logprobs_of(self.kept(position))

    def trace(self, position: int, sampling_params: SamplingParams | None, number: float | None) -> SamplingTrace:
        from workbench.providers.transformers.inspecting import trace_of

        return trace_of(self.kept(position), sampling_params or self._sampling_params, number, self.text)

    def text(self, token_id: int) -> str:
        if self._texts is None:
            self._texts = texts_from_wire(self._vocabulary)
        return self._texts[token_id]

    def kept(self, position: int) -> KeptPosition:
        if position not in self._inspections:
            recorded = ", ".join(map(str, sorted(self._inspections))) or "none"
            allowed = f"one that was inspected while this run was recorded: {recorded}"
            raise InvalidRequestError("position", position, allowed)
        return position_from_wire(self._inspections[position])


def position_to_wire(kept: KeptPosition) -> Json:
    import numpy as np

    wire: dict[str, Json] = {"logits": pack_array(kept.logits), "number": kept.number}
    if kept.seen_ids:
        wire["seen_ids"] = list(map(int, kept.seen_ids))
    if kept.answer_ids is not None:
        wire["answer_ids"] = list(map(int, kept.answer_ids))
    if kept.allowed is not None:
        wire |= {"allowed": pack(np.packbits(kept.allowed).tobytes()), "is_forced": kept.is_forced}
    return wire


def position_from_wire(wire: Json) -> KeptPosition:
    import numpy as np

    logits = unpack_array(wire["logits"])
    allowed = None
    if "allowed" in wire:
        bits = np.frombuffer(unpack(wire["allowed"]), np.uint8)
        allowed = np.unpackbits(bits, count=len(logits)).astype(np.bool_)
    answer_ids = tuple(wire["answer_ids"]) if "answer_ids" in wire else None
    seen_ids, is_forced = tuple(wire.get("seen_ids", ())), wire.get("is_forced", False)
    return KeptPosition(logits, wire["number"], seen_ids, allowed, is_forced, answer_ids)


def texts_to_wire(texts: Sequence[str]) -> Json:
    return pack(json.dumps(list(texts)).encode())


def texts_from_wire(wire: Json) -> list[str]:
    texts: list[str] = json.loads(unpack(wire))
    return texts
