"""Looks inside the model of a run: numbers, lenses, attention, and what each part added to a logit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from workbench.errors import InvalidRequestError, UnsupportedFieldError
from workbench.insides import Point
from workbench.protocol.insides import LensKind, validate_lens
from workbench.protocol.sampling import is_count
from workbench.session.capture import Capture

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from workbench.records import Insides, LensColumn, LogitParts
    from workbench.session.run_protocols import OpenRun, RunLike

Positions: TypeAlias = "int | range | Sequence[int] | None"
"""Positions in a text, counted from the first token of the prompt; None for all so far."""

_ATTENTION_BYTES = 64 * 2**20
"""Memory of the attention weights that are summarized together."""


class RunInsides:
    """Methods that compute the tokens of a run again to read what happens inside the model.

    The numbers are those of the run, bit for bit where the fused step computes it. They do not change the run, which
    may still be going on. All methods block, and raise `UnsupportedFieldError` if the model is not in this process.
    """

    @property
    def insides(self: RunLike) -> Insides:
        """Access to the model's numbers in the form of records, which the methods show as tables.

        Raises:
            UnsupportedFieldError: the model does not run in this process, or the run has no token yet.
        """
        found = self.inspector.insides if self.inspector else None
        if found is None:
            raise UnsupportedFieldError("model", self.model, "one in this process, after the first token of its run")
        return found

    def capture(self: OpenRun, points: Sequence[str] | str, positions: Positions = None) -> Capture:
        """Return the numbers at some points of the model and positions of the text.

        Args:
            points: names of points, as `Workbench.points` lists them; ``resid_post`` stands for that of every layer.
            positions: positions counted from the first token of the prompt; None for all so far.

        Raises:
            InvalidRequestError: a name or a position is unknown.
            UnsupportedFieldError: the model lacks a point; the error says why.
            InsufficientMemoryError: the numbers do not fit in the free memory.
        """
        insides = self.insides
        named, wanted = insides.points.named(points, "points"), _positions(self, positions)
        texts = [insides.text(insides.token_ids[position]) for position in wanted]
        arrays = insides.capture(named, wanted)
        return Capture(arrays, wanted, texts, layers=insides.points.layers, derived=insides.points.derived)

    @cached_property
    def captured(self: OpenRun) -> Capture:
        """Numbers at the points that ``capture`` of `Workbench.completion` named, once the run has ended; blocks.

        Raises:
            InvalidRequestError: the request named none.
            WorkbenchError: the error that the run failed with; or as `capture`.
        """
        if not self.request.capture:
            raise InvalidRequestError("capture", [], "a list of points, given to completion or chat_completion")
        self.result()
        return self.capture(list(self.request.capture))

    def capture_bytes(self: OpenRun, points: Sequence[str] | str, positions: Positions = None) -> int:
        """Return the memory that `capture` would take at its peak, in bytes; nothing is computed."""
        insides = self.insides
        return insides.capture_bytes(insides.points.named(points, "points"), _positions(self, positions))

    def lens(self: OpenRun, position: int, *, kind: LensKind = "logit", words: int = 1) -> pd.DataFrame:
        """Return what each layer foresaw of a token, with one row for each layer.

        The columns are the layer, the probability and the rank of the run's token, and the most probable tokens.

        Args:
            position: index of the token in ``tokens``.
            kind: ``logit``, the last norm and the head applied to the residual stream after each layer, or
                ``jacobian``, which first applies the mean effect of the layers between; see `Workbench.fit_lens`.
            words: number of probable tokens to show.
        """
        import pandas as pd

        (column,) = self.lens_columns([position], kind=kind, words=words)
        rows = [
            {"layer": layer, "probability": cell.probability, "rank": cell.rank}
            | {f"word {place}": word.text for place, word in enumerate(cell.words, 1)}
            | {f"probability {place}": word.probability for place, word in enumerate(cell.words, 1)}
            for layer, cell in enumerate(column.cells)
        ]
        return pd.DataFrame(rows)

    def lens_columns(
        self: OpenRun, positions: Sequence[int] | None = None, *, kind: LensKind = "logit", words: int = 1
    ) -> list[LensColumn]:
        """Return what each layer foresaw of some tokens, by default all so far; what was read before is not computed.

        Args as for `lens`.
        """
        insides = self.insides
        validate_lens(kind, words)
        first = self.first_index
        chosen = range(first == 0, len(self.tokens)) if positions is None else positions
        indices = [first + _token_position(self, position) for position in chosen]
        return insides.lens(indices, kind=kind, words=words) if indices else []

    @property
    def first_index(self: OpenRun) -> int:
        """Index of the run's first token among those of the text; 0 for a reading, whose tokens are the prompt's."""
        return 0 if self.reads else self.insides.prompt_length

    def attention(self: OpenRun, layer: int, head: int) -> pd.DataFrame:
        """Return how much each token attends to each token before it and itself; rows add up to 1.

        Rows and columns are the tokens of prompt and answer, named by position and text.
        """
        name = _attention_point(self.insides, layer, head)
        capture = self.capture([name])
        return _square(capture, capture[name][:, head])

    def attention_row(self: OpenRun, layer: int, head: int, position: int) -> pd.Series[float]:
        """Return how much one token attends to each token before it and itself; the values add up to 1.

        Args:
            position: position of the token, counted from the first token of the prompt.
        """
        import pandas as pd

        insides = self.insides
        name = _attention_point(insides, layer, head)
        (wanted,) = _positions(self, [position])
        weights = self.capture([name], [wanted])[name][0, head, : wanted + 1]
        texts = (insides.text(token_id) for token_id in insides.token_ids[: wanted + 1])
        keys = pd.Index([f"{key} {text}" for key, text in enumerate(texts)], name="key")
        return pd.Series(weights, index=keys, name=keys[-1])

    def attention_heads(
        self: OpenRun, layers: Sequence[int] | None = None, positions: Positions = None
    ) -> pd.DataFrame:
        """Return one row for each head of each layer: where it looks, on average over tokens.

        ``on_first`` and ``on_previous`` are the shares of its weights on the first token and on the one before;
        ``entropy`` is that of the weights, in nats.

        Args:
            layers: layers to read; None for all.
            positions: positions of the tokens, counted from the first token of the prompt, which is left out; None for
                all so far.
        """
        import pandas as pd

        insides = self.insides
        positions = [position for position in _positions(self, positions) if position] or [0]
        chosen = range(insides.points.layers) if layers is None else layers
        names = [str(Point("attn_probs", _layer(insides, layer))) for layer in chosen]
        together = max(1, _ATTENTION_BYTES // max(1, self.capture_bytes(names[:1], positions)))
        rows = []
        for start in range(0, len(names), together):
            capture = self.capture(names[start : start + together], positions)
            rows += [row for name in capture for row in _head_rows(name, capture[name], positions)]
        return pd.DataFrame(rows)

    def logit_parts(self: OpenRun, position: int, token: int | str | None = None) -> LogitParts:
        """Return what each part of the model added to the logit of a token; `attribution` shows it as a table.

        Args:
            position: index of the token in ``tokens``.
            token: text or id of another token to explain in its place.
        """
        insides, token_id = self.insides, None
        if token is not None:
            token_id = _token_id(self, position, token)
        return insides.logit_parts(self.first_index + _token_position(self, position), token_id)


def _positions(run: OpenRun, positions: Positions) -> list[int]:
    insides = run.insides
    length = insides.prompt_length if run.reads else len(insides.token_ids)
    if positions is None:
        return list(range(length))
    wanted: Sequence[Any] = positions if isinstance(positions, list | tuple | range) else [positions]
    if not all(map(is_count, wanted)):
        raise InvalidRequestError("positions", positions, "None, a position, or a list or range of them, 0 or above")
    if not wanted:
        raise InvalidRequestError("positions", positions, "at least one position")
    if max(wanted) >= length:
        raise InvalidRequestError("positions", max(wanted), f"from 0 to {length - 1}, the last token so far")
    return [int(position) for position in wanted]


def _layer(insides: Insides, layer: int) -> int:
    if not is_count(layer) or layer >= insides.points.layers:
        raise InvalidRequestError("layer", layer, f"a layer from 0 to {insides.points.layers - 1}")
    return int(layer)


def _attention_point(insides: Insides, layer: int, head: int) -> str:
    """Return the name of the point with the attention weights of a layer that has the head."""
    heads = insides.points.sizes["attn_probs"][0] if "attn_probs" in insides.points.sizes else 0
    if heads and not (is_count(head) and head < heads):
        raise InvalidRequestError("head", head, f"a head from 0 to {heads - 1}")
    return f"attn_probs.{_layer(insides, layer)}"


def _token_position(run: RunLike, position: int) -> int:
    least = int(run.reads)  # the first token of a text has none before it
    if not is_count(position) or not least <= position < len(run.tokens):
        raise InvalidRequestError("position", position, f"a token of the run, from {least} to {len(run.tokens) - 1}")
    return int(position)


def _token_id(run: RunLike, position: int, token: int | str) -> int:
    from workbench.analysis.distributions import Position

    return Position(run, _token_position(run, position)).find(token).token_id


def _square(capture: Capture, weights: NDArray[np.float32]) -> pd.DataFrame:
    import pandas as pd

    names = [f"{position} {text}" for position, text in zip(capture.positions, capture.texts, strict=True)]
    return pd.DataFrame(weights, index=pd.Index(names, name="token"), columns=pd.Index(names, name="key"))


def _head_rows(name: str, weights: NDArray[np.float32], positions: Sequence[int]) -> Iterator[dict[str, float]]:
    """Yield a row for each head of a layer; weights have the shape (tokens, heads, keys)."""
    import numpy as np

    layer = int(name.rpartition(".")[2])
    previous = weights[np.arange(len(weights)), :, np.maximum(positions, 1) - 1]
    logs = np.log(np.where(weights > 0, weights, 1.0))
    for head in range(weights.shape[1]):
        yield {
            "layer": layer,
            "head": head,
            "on_first": float(weights[:, head, 0].mean()),
            "on_previous": float(previous[:, head].mean()),
            "entropy": float(-(weights[:, head] * logs[:, head]).sum(-1).mean()),
        }
