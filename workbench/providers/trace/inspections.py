"""Looking back at a recorded run: the positions that somebody looked at while it was recorded, and all that follows.

A look writes down what the token was chosen from, and once per model the texts of its tokens. So the whole distribution
and the sampling chain under any parameters can be had again at that position, with no model; at others they cannot.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from workbench.errors import InvalidRequestError
from workbench.protocol import SamplingParams
from workbench.providers.wire import Json
from workbench.records import Inspector, KeptPosition, SamplingTrace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class LookWriter(Protocol):
    """Where looks are written; a `Recorder` is one."""

    def look(self, number: int, position: int, kept: KeptPosition) -> None:
        """At a position of the call of that number."""

    def vocabulary(self, model: str, texts: Callable[[], Sequence[str]]) -> None:
        """The texts of a model's tokens by id, which are asked for at the first look alone."""


class RecordingInspector:
    """Another inspector, whose answers are written down."""

    def __init__(self, inner: Inspector, writer: LookWriter, model: str, number: int) -> None:
        self._inner = inner
        self._writer = writer
        self._model = model
        self._number = number
        self._seen: set[int] = set()

    def logprobs(self, position: int) -> NDArray[np.float32]:
        self._note(position)
        return self._inner.logprobs(position)

    def trace(self, position: int, sampling_params: SamplingParams | None, number: float | None) -> SamplingTrace:
        self._note(position)
        return self._inner.trace(position, sampling_params, number)

    def text(self, token_id: int) -> str:
        return self._inner.text(token_id)

    def kept(self, position: int) -> KeptPosition:
        self._note(position)
        return self._inner.kept(position)

    def _note(self, position: int) -> None:
        if position in self._seen:
            return
        kept = self._inner.kept(position)
        self._seen.add(position)
        self._writer.look(self._number, position, kept)
        self._writer.vocabulary(self._model, lambda: [self._inner.text(at) for at in range(len(kept.logits))])


class PlayedInspector:
    """Answers from the looks of one recorded call."""

    def __init__(self, looks: Mapping[int, Json], vocabulary: Json, sampling_params: SamplingParams) -> None:
        self._looks = looks
        self._vocabulary = vocabulary
        self._texts: list[str] | None = None
        self._sampling_params = sampling_params

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
        if position not in self._looks:
            recorded = ", ".join(map(str, sorted(self._looks)))
            allowed = f"one that was inspected while this run was recorded: {recorded}"
            raise InvalidRequestError("position", position, allowed)
        return kept_from_wire(self._looks[position])


def kept_to_wire(kept: KeptPosition) -> Json:
    import numpy as np

    wire: dict[str, Json] = {"logits": _packed(kept.logits.astype("<f4").tobytes()), "number": kept.number}
    if kept.seen_ids:
        wire["seen_ids"] = list(map(int, kept.seen_ids))
    if kept.allowed is not None:
        wire |= {"allowed": _packed(np.packbits(kept.allowed).tobytes()), "is_forced": kept.is_forced}
    return wire


def kept_from_wire(wire: Json) -> KeptPosition:
    import numpy as np

    logits = np.frombuffer(_unpacked(wire["logits"]), "<f4").astype(np.float32)
    allowed = None
    if "allowed" in wire:
        bits = np.frombuffer(_unpacked(wire["allowed"]), np.uint8)
        allowed = np.unpackbits(bits, count=len(logits)).astype(np.bool_)
    return KeptPosition(logits, wire["number"], tuple(wire.get("seen_ids", ())), allowed, wire.get("is_forced", False))


def texts_to_wire(texts: Sequence[str]) -> Json:
    return _packed(json.dumps(list(texts)).encode())


def texts_from_wire(wire: Json) -> list[str]:
    texts: list[str] = json.loads(_unpacked(wire))
    return texts


def _packed(data: bytes) -> str:
    """Logits hold little to squeeze, masks and texts much."""
    return base64.b64encode(zlib.compress(data)).decode()


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))
