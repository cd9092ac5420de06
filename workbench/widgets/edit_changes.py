"""The changes that the edit view offers: ablation, patching and steering, each as a label and its edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import InvalidRequestError
from workbench.insides import Point
from workbench.protocol import Edit
from workbench.protocol.sampling import is_count
from workbench.widgets.contract import InsideRun, SteeringSession
from workbench.widgets.format import visible
from workbench.widgets.wire.attention import prompt_labels
from workbench.widgets.wire.run import label

PARTS = ("layer", "attention", "mlp", "head")
"""Parts of a layer that can be ablated; ``layer`` is all that it adds."""
METHODS = ("zero", "mean")
"""What an ablated part is replaced by: zeros, or its mean over the text."""
STREAM = "resid_post"
"""The kind of the point that is patched and steered."""
MOST_FACTOR = 20.0
_POINTS = {"layer": ("attn_out", "mlp_out"), "attention": ("attn_out",), "mlp": ("mlp_out",), "head": ("z",)}


@dataclass(frozen=True, slots=True)
class Change:
    """One change in effect."""

    label: str
    make: Callable[[InsideRun], list[Edit]]
    """Function that returns the edits of a run; it may block while the model computes the run's tokens again."""
    key: object = None
    """A later change with the same key replaces this one; None is like no other."""


def text_labels(run: InsideRun) -> list[str]:
    """Return the texts of the tokens of prompt and answer so far."""
    prompt = [] if run.reads else prompt_labels(run.insides)
    return [*prompt, *(label(token.text, token.bytes) for token in run.tokens)]


def ablation(run: InsideRun, part: str, layer: int, head: int | None, method: str, position: int | None) -> Change:
    """Return a change that replaces the output of a part by zeros or by its mean over the text.

    Args:
        position: the only token to change, counted from the first one of the prompt; None for all.

    Raises:
        InvalidRequestError: the model has no such part, or the text no such token.
    """
    if part not in PARTS:
        raise InvalidRequestError("part", part, f"one of {', '.join(PARTS)}")
    if method not in METHODS:
        raise InvalidRequestError("method", method, f"one of {', '.join(METHODS)}")
    _check_layer(run, layer)
    names = [Point(kind, layer) for kind in _POINTS[part]]
    for point in names:
        _check_point(run, point)
    if part == "head":
        _check_head(run, layer, head)
    start, stop = (0, None) if position is None else (position, position + 1)
    where = "all tokens" if position is None else token_name(run, position)
    what = {
        "layer": f"all that layer {layer} adds",
        "attention": f"attention of layer {layer}",
        "mlp": f"MLP of layer {layer}",
        "head": f"head {head} of layer {layer}",
    }[part]
    ablated = Ablated(tuple(map(str, names)), head if part == "head" else None, method, start, stop)
    return Change(f"{'Zero' if method == 'zero' else 'Mean of'} {what}: {where}", ablated.edits)


@dataclass(frozen=True, slots=True)
class Ablated:
    """The points that an ablation changes."""

    points: tuple[str, ...]
    head: int | None
    method: str
    start: int
    stop: int | None

    def edits(self, run: InsideRun) -> list[Edit]:
        """Return the edits of a run; for means, read its numbers at the points."""
        if self.method == "zero":
            return [self._edit(point, "scale", 0.0) for point in self.points]
        capture = run.capture(list(self.points))
        arrays = {point: capture[point] for point in self.points}
        if self.head is not None:
            arrays = {point: array[:, self.head] for point, array in arrays.items()}
        return [self._edit(point, "set", array.mean(0)) for point, array in arrays.items()]

    def _edit(self, point: str, operation: Any, value: Any) -> Edit:
        return Edit(point=point, operation=operation, value=value, start=self.start, stop=self.stop, head=self.head)


def patch(run: InsideRun, source: InsideRun, layer: int, position: int, *, to_layer: int, to: int) -> Change:
    """Return a change that sets the stream after a layer at one token to that of another run.

    Args:
        source: the run whose numbers are taken.
        layer, position: where they are taken, with the position counted from the first token of its prompt.
        to_layer, to: where they are put.

    Raises:
        InvalidRequestError: the runs are of two models, or have no such layer or token.
    """
    if source.model != run.model:
        raise InvalidRequestError(
            "source", source.model, run.model, in_form=f"That run is of {source.model}, this one of {run.model}."
        )
    for layer_of, one in ((layer, source), (to_layer, run)):
        _check_layer(one, layer_of)
    taken, put = token_name(source, position), token_name(run, to)
    point = Point(STREAM, to_layer)
    _check_point(run, point)

    def edits(_run: InsideRun) -> list[Edit]:
        name = str(Point(STREAM, layer))
        value = source.capture([name], [position])[name][0]
        return [Edit(point=str(point), operation="set", value=value, start=to, stop=to + 1)]

    said = f"Patch layer {to_layer}, {put} with {source.id}, layer {layer}, {taken}"
    return Change(said, edits, ("patch", to_layer, to))


def steering(
    session: SteeringSession | None, run: InsideRun, towards: str, away: str, layer: int, factor: float
) -> Change:
    """Return a change that adds the difference of the means of two sets of texts to the stream after a layer.

    Args:
        towards, away: texts, one a line.

    Raises:
        InvalidRequestError: a box is empty, or the model has no such layer.
    """
    if session is None:
        raise InvalidRequestError(
            "session",
            None,
            "a workbench",
            in_form="Open this view with bench.edit(run) to steer: texts are read for it.",
        )
    bench, sets = session, [_lines("towards", towards), _lines("away", away)]
    _check_layer(run, layer)
    if not _is_number(factor) or not abs(factor) <= MOST_FACTOR:
        raise InvalidRequestError("factor", factor, f"from -{MOST_FACTOR:g} to {MOST_FACTOR:g}")
    point = Point(STREAM, layer)
    _check_point(run, point)

    def edits(edited: InsideRun) -> list[Edit]:
        vector = bench.steering_vector(*sets, point=str(point), model=edited.model)
        return [Edit(point=str(point), operation="add", value=vector * factor)]

    said = f"Steer after layer {layer}: {factor:+.1f} × (“{_short(towards)}” − “{_short(away)}”)"
    return Change(said, edits, ("steer", layer, towards, away))


def token_name(run: InsideRun, position: int) -> str:
    """Return the name of a token with its text; raise `InvalidRequestError` if the text has no such token."""
    labels = text_labels(run)
    if not is_count(position) or position >= len(labels):
        allowed = f"a position from 0 to {len(labels) - 1}"
        raise InvalidRequestError("position", position, allowed, in_form="Choose a token first.")
    return f"token {position + 1} “{visible(labels[position])}”"


def _check_layer(run: InsideRun, layer: int) -> None:
    count = run.insides.points.layers
    if not is_count(layer) or layer >= count:
        said = f"This model has no layer {layer}. Its layers are 0 to {count - 1}."
        raise InvalidRequestError("layer", layer, f"from 0 to {count - 1}", in_form=said)


def _check_point(run: InsideRun, point: Point) -> None:
    points = run.insides.points
    if point.kind not in points.sizes:
        reason = points.missing.get(point.kind, "its forward pass has no such place")
        raise InvalidRequestError("point", str(point), "of the model", in_form=f"This model cannot: {reason}.")


def _check_head(run: InsideRun, layer: int, head: int | None) -> None:
    count = run.insides.points.sizes["z"][0]
    if head is None or not is_count(head) or head >= count:
        said = f"Layer {layer} has no head {head}. Its heads are 0 to {count - 1}."
        raise InvalidRequestError("head", head, f"from 0 to {count - 1}", in_form=said)


def _lines(field: str, text: str) -> Sequence[str]:
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    if not lines:
        raise InvalidRequestError(
            field, text, "at least one line", in_form="Write texts to steer towards and away from."
        )
    return lines


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(text: str) -> str:
    line = " / ".join(text.split("\n")).strip()
    return line if len(line) <= 24 else f"{line[:23]}…"
