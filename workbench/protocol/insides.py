"""Numbers inside models, over HTTP. All additions; a server offers them only if they are switched on.

Positions count from the first token of the prompt, as the model receives it; the answer follows. The numbers at a
position foretell the token after it.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias, get_args, runtime_checkable

from workbench.errors import InvalidRequestError
from workbench.protocol.base import ProtocolModel
from workbench.protocol.content import InterleavedTextMedia
from workbench.protocol.edits import Edit
from workbench.protocol.messages import Message
from workbench.protocol.sampling import SamplingParams, is_count
from workbench.protocol.webmethod import webmethod

ONE_TOKEN = SamplingParams(max_tokens=1)
"""Parameters of the shortest answer, for those who look into a prompt; read and never written to."""

LensKind: TypeAlias = Literal["logit", "jacobian"]
LENS_KINDS: tuple[LensKind, ...] = get_args(LensKind)
MAX_CELL_WORDS = 20
"""Most words in one cell of a lens."""


def validate_lens_kind(kind: object) -> None:
    """Raise `InvalidRequestError` unless ``kind`` is a kind of lens."""
    if kind not in LENS_KINDS:
        raise InvalidRequestError("kind", kind, f"one of {', '.join(LENS_KINDS)}")


def validate_lens(kind: object, words: int) -> None:
    """Raise `InvalidRequestError` unless a lens can have this kind and number of words in a cell."""
    validate_lens_kind(kind)
    if not is_count(words) or not 1 <= words <= MAX_CELL_WORDS:
        raise InvalidRequestError("words", words, f"a whole number from 1 to {MAX_CELL_WORDS}")


class PointInfo(ProtocolModel):
    """A kind of point in a model's forward pass, where numbers can be read and changed."""

    name: str
    """With ``{layer}`` for the index of a layer if each layer has such a point."""
    meaning: str
    layers: int
    """Number of layers that have one; 0 for a point outside the layers."""
    axes: list[str]
    """Names of the axes of a token's numbers."""
    sizes: list[int | None]
    """Length of each axis; None for one that grows with the position. Empty for a point that is missing."""
    derived: bool
    """Whether the numbers are computed again from others, because the model's step does not keep them."""
    missing: str | None = None
    """Why the model lacks the point; None for one that it has."""


class PositionedToken(ProtocolModel):
    """A token of the prompt or of the answer."""

    position: int
    token_id: int
    text: str
    """The token decoded alone."""


class CapturedPoint(ProtocolModel):
    """Numbers at one point of a model."""

    name: str
    axes: list[str]
    """Names of the axes, the first of which is ``token``."""
    shape: list[int]
    numbers: list[list[float]] | list[list[list[float]]]
    """One row for each position. Scores of -inf, of keys that are not attended to, are the lowest float32."""
    derived: bool
    """As in `PointInfo`."""


class CaptureResponse(ProtocolModel):
    """Numbers inside a model while it reads a prompt and writes an answer."""

    tokens: list[PositionedToken]
    """All tokens of the prompt and of the answer."""
    prompt_tokens: int
    """Number of the prompt's tokens."""
    positions: list[int]
    """Positions of the rows."""
    points: list[CapturedPoint]
    """In forward order."""


class LensWord(ProtocolModel):
    """A probable token after a layer."""

    token_id: int
    text: str
    probability: float


class LensLayer(ProtocolModel):
    """What a model would say if it stopped after one layer."""

    words: list[LensWord]
    """The most probable tokens, best first."""
    probability: float
    """Probability of the token that is in the text."""
    rank: int
    """Its rank, 1 for the most probable token."""


class LensToken(PositionedToken):
    """A token as each layer foresaw it."""

    layers: list[LensLayer]
    """The first layer first."""


class LogitAttribution(PositionedToken):
    """What each part of a model added to the logit of a token."""

    logit: float
    parts: dict[str, float]
    """By the point where the part writes to the residual stream; their sum is the logit."""


@runtime_checkable
class Insides(Protocol):
    """Numbers inside models that are computed in this process.

    Each method but the first generates an answer to ``content`` or to ``messages``, of one token unless
    ``sampling_params`` are given, and then reads the numbers about prompt and answer.
    """

    @webmethod(route="/insides/points", method="GET")
    async def list_points(self, model: str) -> list[PointInfo]:
        """Return the kinds of points in forward order; load the model if necessary."""
        ...

    @webmethod(route="/insides/capture")
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
        """Return the numbers at points and positions, by default all positions; ``resid_post`` names all layers."""
        ...

    @webmethod(route="/insides/lens")
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
        """Return what each layer foresaw of the tokens at positions, by default those of the answer."""
        ...

    @webmethod(route="/insides/attribution")
    async def attribution(
        self,
        model: str,
        content: InterleavedTextMedia | None = None,
        messages: list[Message] | None = None,
        position: int | None = None,
        sampling_params: SamplingParams = ONE_TOKEN,
        edits: list[Edit] | None = None,
    ) -> LogitAttribution:
        """Return what each part added to the logit of the token at a position, by default the answer's first."""
        ...
