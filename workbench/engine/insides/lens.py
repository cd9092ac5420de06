"""Lenses: what a model would say if it stopped after each layer.

The logit lens reads the residual stream after a layer as if it were that after the last one: the last norm, then the
head. The Jacobian lens first multiplies it with the mean Jacobian from the layer to the last one, so that what later
layers do to it on average is in the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.engine.insides.replay import Replay
from workbench.engine.insides.taps import Captured
from workbench.engine.logprobs import TokenStats, measured
from workbench.insides import Point, PointEdit

if TYPE_CHECKING:
    from workbench.engine.decoders import Decoder
    from workbench.engine.insides.jacobian_lens import JacobianLens


def read_lens(
    decoder: Decoder, hidden: Tensor, token_id: int, alternatives: int, lens: JacobianLens | None = None
) -> list[TokenStats]:
    """Return the stats of a token after each layer, with the most probable other tokens.

    Args:
        hidden: residual stream of the token before it after each layer, float32, shape (layers, hidden).
        lens: the Jacobian lens; None for the logit lens.
    """
    if lens is not None:
        hidden = torch.stack([lens.transport(layer, row) for layer, row in enumerate(hidden)])
    decoded = decoder.unembed(hidden)
    rows = zip(decoded.logits, decoded.summaries, strict=True)
    return [measured(row, token_id, alternatives, None, summary) for row, summary in rows]


class LensReader:
    """Reads a lens for each token of a text that may still grow; used on the inference thread only.

    Args:
        prompt_ids: tokens that are read as a prompt.
        alternatives: number of other tokens after each layer.
        lens: the Jacobian lens; None for the logit lens.
    """

    def __init__(
        self,
        decoder: Decoder,
        prompt_ids: Sequence[int],
        edits: Sequence[PointEdit] = (),
        *,
        alternatives: int,
        lens: JacobianLens | None = None,
    ) -> None:
        self._decoder = decoder
        self._replay = Replay(decoder, prompt_ids, (), edits)
        self._points = [Point("resid_post", layer) for layer in range(decoder.points.layers)]
        self._alternatives = alternatives
        self._lens = lens

    def advance(self, token_ids: Sequence[int], first: int) -> dict[int, list[TokenStats]]:
        """Read the next part of a text; return the lens of its tokens by their index, the first layer first.

        Args:
            token_ids: the text so far.
            first: index of the first token whose lens is wanted, at least 1; no lens is read of those before it.

        A part may have no tokens whose lens is wanted. All has been read when `length` is one less than the text's.
        """
        done, known = self._replay.length, len(token_ids) - 1
        captured = Captured(self._points, range(max(done, first - 1), known))
        self._replay.advance(token_ids[:known], captured)
        positions = range(max(done, first - 1), self._replay.length)
        hidden = [torch.from_numpy(captured.found(point, positions)) for point in self._points] if positions else []
        return {
            position + 1: read_lens(
                self._decoder, torch.stack([layer[index] for layer in hidden]), token_ids[position + 1],
                self._alternatives, self._lens,
            )
            for index, position in enumerate(positions)
        }  # fmt: skip

    @property
    def length(self) -> int:
        """Number of tokens that have been read."""
        return self._replay.length
