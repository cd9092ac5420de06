"""Numbers inside models for the protocol: an answer is generated, and then its model is looked into."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequestError, UnsupportedContentError, UnsupportedFieldError
from workbench.insides import KINDS
from workbench.protocol import (
    CapturedPoint,
    CaptureResponse,
    ChatCompletionRequest,
    CompletionRequest,
    LensLayer,
    LensToken,
    LensWord,
    LogitAttribution,
    PointInfo,
    PositionedToken,
)
from workbench.protocol.insides import ONE_TOKEN, LensKind, validate_lens
from workbench.protocol.sampling import is_count
from workbench.providers.requests import Request
from workbench.providers.streams import closed_after

if TYPE_CHECKING:
    from workbench.insides import ModelPoints, Point, PointKind
    from workbench.protocol import Edit, InterleavedTextMedia, Message, SamplingParams
    from workbench.records import Insides, LensColumn
    from workbench.stack.router import Router

    Choose = Callable[[Insides, int], Sequence[int]]
    """Function that returns the positions to read, given how many tokens may still follow."""

MAX_NUMBERS = 2**20
"""Most numbers in a capture, about 20 MB of JSON."""
MAX_LENS_WORDS = 2**16
"""Most words in all cells of a lens."""

_LENS_TOKENS = 8
"""Tokens of a lens that are computed together; a client that is gone stops it after these."""
_NO_LIMIT = 2**63


class InsidesRouter:
    """Implementation of the protocol's ``Insides``, over the router of the models.

    A request whose response would be too large is refused before its numbers are computed.
    """

    def __init__(self, inference: Router) -> None:
        self._inference = inference

    async def list_points(self, model: str) -> list[PointInfo]:
        points = await asyncio.to_thread(self._inference.points, model)
        return [_info(points, kind) for kind in KINDS.values()]

    async def capture(
        self,
        model: str,
        points: list[str],
        content: InterleavedTextMedia | None = None,
        messages: list[Message] | None = None,
        positions: list[int] | None = None,
        sampling_params: SamplingParams = ONE_TOKEN,
        edits: list[Edit] | None = None,
    ) -> CaptureResponse:
        request = _request(model, content, messages, sampling_params, edits)
        _check_positions("positions", positions, 0)
        model_points = await asyncio.to_thread(self._inference.points, model)
        named = await asyncio.to_thread(model_points.named, points, "points")
        _check_numbers(model_points, named, positions or [0])

        def choose(insides: Insides, coming: int) -> Sequence[int]:
            wanted = range(len(insides.token_ids)) if positions is None else positions
            _check_within("positions", wanted, insides, coming)
            _check_numbers(model_points, named, wanted)
            return wanted

        insides, wanted = await self._answered(request, choose)
        return await asyncio.to_thread(_captured, insides, named, wanted)

    async def lens(
        self,
        model: str,
        content: InterleavedTextMedia | None = None,
        messages: list[Message] | None = None,
        positions: list[int] | None = None,
        kind: LensKind = "logit",
        words: int = 1,
        sampling_params: SamplingParams = ONE_TOKEN,
        edits: list[Edit] | None = None,
    ) -> list[LensToken]:
        request = _request(model, content, messages, sampling_params, edits)
        validate_lens(kind, words)
        _check_positions("positions", positions, 1)
        layers = (await asyncio.to_thread(self._inference.points, model)).layers
        _check_words(layers * words, positions or [1])

        def choose(insides: Insides, coming: int) -> Sequence[int]:
            wanted = range(insides.prompt_length, len(insides.token_ids)) if positions is None else positions
            _check_within("positions", wanted, insides, coming)
            _check_words(layers * words, wanted)
            return wanted

        insides, wanted = await self._answered(request, choose)
        ordered, found = sorted(set(wanted)), dict[int, LensToken]()
        for start in range(0, len(ordered), _LENS_TOKENS):  # in order: each part continues where the one before ended
            part = ordered[start : start + _LENS_TOKENS]
            found |= await asyncio.to_thread(_lens_tokens, insides, part, kind, words)
        return [found[position] for position in wanted]

    async def attribution(
        self,
        model: str,
        content: InterleavedTextMedia | None = None,
        messages: list[Message] | None = None,
        position: int | None = None,
        sampling_params: SamplingParams = ONE_TOKEN,
        edits: list[Edit] | None = None,
    ) -> LogitAttribution:
        request = _request(model, content, messages, sampling_params, edits)
        _check_positions("position", None if position is None else [position], 1)
        await asyncio.to_thread(self._inference.points, model)  # refuses a model that cannot be looked into

        def choose(insides: Insides, coming: int) -> Sequence[int]:
            if position is None and len(insides.token_ids) == insides.prompt_length and not coming:
                raise InvalidRequestError("position", position, "given: the answer is empty")
            wanted = [insides.prompt_length if position is None else position]
            _check_within("position", wanted, insides, coming)
            return wanted

        insides, (wanted,) = await self._answered(request, choose)
        found = await asyncio.to_thread(insides.logit_parts, wanted)
        return LogitAttribution(
            position=found.index, token_id=found.token_id, text=found.text, logit=found.logit, parts=dict(found.parts)
        )

    async def _answered(self, request: Request, choose: Choose) -> tuple[Insides, Sequence[int]]:
        """Generate an answer; return the access to the numbers inside its model, and the positions to read.

        ``choose`` is called at the first token, so that what cannot be read is refused before the others, and at the
        end.
        """
        insides = None
        emissions = self._inference.stream(request)
        async with closed_after(emissions):
            async for emission in emissions:
                if insides is None and emission.inspector is not None:
                    insides = emission.inspector.insides
                    if insides is not None:
                        choose(insides, request.sampling_params.max_tokens or _NO_LIMIT)
        if insides is None:
            raise UnsupportedFieldError("model", request.model, "one that is computed in this process")
        return insides, choose(insides, 0)


def _request(
    model: str,
    content: InterleavedTextMedia | None,
    messages: list[Message] | None,
    sampling_params: SamplingParams,
    edits: list[Edit] | None,
) -> Request:
    """Return the request for the answer; raise unless it has either content or messages, without images."""
    if content is not None and messages is not None:
        raise InvalidRequestError("messages", messages, "absent if content is given")
    body: CompletionRequest | ChatCompletionRequest
    if messages is not None:
        body = ChatCompletionRequest.model_construct(
            model=model, messages=messages, sampling_params=sampling_params, edits=edits
        )
    else:
        if content is None:
            raise InvalidRequestError("content", content, "given, or messages")
        body = CompletionRequest.model_construct(
            model=model, content=content, sampling_params=sampling_params, edits=edits
        )
    request = Request.from_body(body)
    if request.has_images:
        raise UnsupportedContentError(request.field, "an image", "text: images are not kept to look into the model")
    return request


def _check_positions(field: str, positions: Sequence[int] | None, least: int) -> None:
    """Raise `InvalidRequestError` unless positions are absent or numbers that a text may have."""
    if positions is None:
        return
    if not isinstance(positions, list | tuple) or not positions:
        raise InvalidRequestError(field, positions, "a list of at least one position, or absent")
    for index, position in enumerate(positions):
        if not is_count(position) or position < least:
            path = f"{field}[{index}]" if field == "positions" else field
            raise InvalidRequestError(path, position, f"a whole number, {least} or above")


def _check_within(field: str, positions: Sequence[int], insides: Insides, coming: int) -> None:
    """Raise `InvalidRequestError` for positions after the answer, of which some tokens may be coming."""
    last = len(insides.token_ids) - 1 + coming
    if positions and max(positions) > last:
        raise InvalidRequestError(field, max(positions), f"at most {last}, the last token of the answer")


def _check_numbers(points: ModelPoints, named: Sequence[Point], positions: Sequence[int]) -> None:
    """Raise `InvalidRequestError` if a capture has too many numbers; all rows have as many keys as the longest."""
    keys = max(positions) + 1
    count = len(positions) * sum(points.numbers(point, keys) for point in named)
    if count > MAX_NUMBERS:
        given = f"{len(named):,} points at {len(positions):,} positions, which have {count:,} numbers"
        allowed = f"fewer, or read at fewer positions: a response has at most {MAX_NUMBERS:,} numbers"
        raise InvalidRequestError("points", given, allowed)


def _check_words(in_token: int, positions: Sequence[int]) -> None:
    if (count := in_token * len(positions)) > MAX_LENS_WORDS:
        given = f"{len(positions):,} positions, which have {count:,} words in all layers"
        allowed = f"fewer, or words smaller: a response has at most {MAX_LENS_WORDS:,} words"
        raise InvalidRequestError("positions", given, allowed)


def _info(points: ModelPoints, kind: PointKind) -> PointInfo:
    sizes = points.sizes.get(kind.name)
    return PointInfo(
        name=kind.pattern,
        meaning=kind.meaning,
        layers=points.layers if kind.in_layers else 0,
        axes=list(kind.axes),
        sizes=[] if sizes is None else [*sizes, *[None] * (len(kind.axes) - len(sizes))],
        derived=kind.name in points.derived,
        missing=points.why_missing(kind.name) or None,
    )


def _captured(insides: Insides, named: Sequence[Point], positions: Sequence[int]) -> CaptureResponse:
    import numpy as np

    lowest = np.finfo(np.float32).min
    arrays = insides.capture(named, positions)
    points = [
        CapturedPoint.model_construct(  # without validation, which takes far longer than the model
            name=str(point),
            axes=["token", *KINDS[point.kind].axes],
            shape=list(arrays[point].shape),
            numbers=np.maximum(arrays[point], lowest).tolist(),
            derived=point.kind in insides.points.derived,
        )
        for point in named
    ]
    tokens = [
        PositionedToken(position=position, token_id=token_id, text=insides.text(token_id))
        for position, token_id in enumerate(insides.token_ids)
    ]
    return CaptureResponse.model_construct(
        tokens=tokens, prompt_tokens=insides.prompt_length, positions=list(positions), points=points
    )


def _lens_tokens(insides: Insides, positions: Sequence[int], kind: str, words: int) -> dict[int, LensToken]:
    return {column.index: _lens_token(column) for column in insides.lens(positions, kind=kind, words=words)}


def _lens_token(column: LensColumn) -> LensToken:
    layers = [
        LensLayer(
            words=[
                LensWord(token_id=word.token_id, text=word.text, probability=word.probability) for word in cell.words
            ],
            probability=cell.probability,
            rank=cell.rank,
        )
        for cell in column.cells
    ]
    return LensToken(position=column.index, token_id=column.token_id, text=column.text, layers=layers)
