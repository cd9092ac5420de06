"""Visits of the points of a model's modules by hooks, which are there for one forward pass only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from workbench.engine.insides.layout import empty_as
from workbench.engine.insides.recording import input_tensor, output_tensor, with_input, with_output
from workbench.engine.insides.softmaxes import Softmaxes, Weights
from workbench.insides import ATTENTION_KINDS, Point

if TYPE_CHECKING:
    from workbench.engine.insides.taps import Taps

Visit: TypeAlias = Callable[[Point, Tensor], "Tensor | None"]
"""Visits the float32 numbers of all tokens of a forward pass, on any device; returns changed ones, or None."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a point's numbers are: in a module's input or output."""

    module: nn.Module
    is_input: bool
    shape: tuple[int, ...]
    """Of a token's numbers."""
    columns: Tensor | None = None
    """Indices of the numbers among those of a token; None for all."""
    is_shared: bool = False
    """Whether others read the same tensor, which is therefore changed in place."""

    def visited(self, tensor: Tensor, visit: Callable[[Tensor], Tensor | None]) -> Tensor | None:
        """Return the tensor with changed numbers, or None if they are the same."""
        rows = tensor.reshape(-1, self._width(tensor))  # (tokens, width)
        chosen = rows if self.columns is None else rows[:, self.columns]
        changed = visit(chosen.float().unflatten(-1, self.shape))
        if changed is None:
            return None
        values = changed.flatten(1).to(tensor)
        if self.columns is not None:
            rows = rows.clone()
            rows[:, self.columns] = values
            values = rows
        # In the layout of the tensor, so that what follows is computed in the same order.
        target = tensor if self.is_shared else empty_as(tensor)
        return target.copy_(values.reshape(tensor.shape))

    def _width(self, tensor: Tensor) -> int:
        if self.columns is not None:
            return tensor.shape[-1]
        width = 1
        for size in self.shape:
            width *= size
        return width


@dataclass(frozen=True, slots=True)
class Inside:
    """The places of a model's points."""

    places: Mapping[Point, Place]
    attention: Mapping[nn.Module, int]
    """Layers of the modules whose softmaxes are attention weights."""
    sinks: Mapping[nn.Module, int]
    """Number of last columns of their softmaxes that are no keys."""
    head: nn.Module | None = None
    last: nn.Module | None = None
    """Module whose output the head reads, of all tokens or of the last ones."""


@dataclass(frozen=True, slots=True)
class PassTaps:
    """The taps of a sequence in one forward pass.

    Args:
        start: position of the first token.
        count: number of tokens.
        known: number of the first ones that were computed before, and are changed again, but not read again.
    """

    taps: Taps
    start: int
    count: int
    known: int = 0

    @property
    def points(self) -> frozenset[Point]:
        """Points to visit."""
        border, end = self.start + self.known, self.start + self.count
        return self.taps.active(border, end) | self.taps.without_captures().active(self.start, border)

    def changed(self, point: Point, values: Tensor) -> Tensor:
        """Visit a point if it is to be visited; return its numbers after that."""
        changed = self.visit(point, values.float()) if point in self.points else None
        return values if changed is None else changed.to(values.device)

    def visit(self, point: Point, values: Tensor) -> Tensor | None:
        """Visit a point of the last tokens of the pass, as many as there are numbers."""
        first = self.start + self.count - len(values)
        known = max(self.start + self.known - first, 0)
        values = values.cpu()
        changed = self._visited(point, first, known, values)
        return None if changed is None or torch.equal(changed, values) else changed

    def _visited(self, point: Point, first: int, known: int, values: Tensor) -> Tensor | None:
        new = self.taps.visit(point, first + known, values[known:])
        if not known:
            return new
        old = self.taps.without_captures().visit(point, first, values[:known])
        if old is None and new is None:
            return None
        return torch.cat((values[:known] if old is None else old, values[known:] if new is None else new))


@contextmanager
def tapped(inside: Inside, points: frozenset[Point], visit: Visit, start: int, count: int) -> Iterator[None]:
    """Visit points, without the logits, in the forward passes of this thread.

    Args:
        start: position of the first token of the pass.
        count: number of tokens of the pass.
    """
    handles: list[Any] = []
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.callback(lambda: [handle.remove() for handle in handles])
        ordered = sorted(points & inside.places.keys(), key=lambda point: point.order)
        handles.extend(_hook(point, inside.places[point], visit) for point in ordered)
        if Point("lm_head") in points and inside.head is not None and inside.last is not None:
            handles += _all_logits(inside.head, inside.last, count)
        if any(point.kind in ATTENTION_KINDS for point in points):
            weights = _AttentionVisits(inside, points, visit, start + count)
            stack.enter_context(Softmaxes(inside.sinks, count, weights))
        yield


def _hook(point: Point, place: Place, visit: Visit) -> Any:
    owner = threading.get_ident()  # others may use the model at the same time

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensor = input_tensor(args, kwargs)
        if tensor is None or threading.get_ident() != owner:
            return None
        changed = place.visited(tensor, lambda values: visit(point, values))
        return None if changed is None else with_input(args, kwargs, tensor, changed)

    def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        tensor = output_tensor(output)
        if tensor is None or threading.get_ident() != owner:
            return None
        changed = place.visited(tensor, lambda values: visit(point, values))
        return None if changed is None else with_output(output, changed)

    if place.is_input:
        return place.module.register_forward_pre_hook(before, with_kwargs=True)
    return place.module.register_forward_hook(after)


def _all_logits(head: nn.Module, last: nn.Module, count: int) -> list[Any]:
    """Make the head compute all logits; the last ones as it does without, so that they do not differ in rounding."""
    owner = threading.get_ident()
    hidden: list[Tensor] = []

    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        if threading.get_ident() == owner and (found := output_tensor(output)) is not None:
            hidden[:] = [found]

    def complete(module: nn.Module, _args: Any, output: Tensor) -> Tensor | None:
        missing = count - output.shape[-2]
        if threading.get_ident() != owner or not missing or not hidden:
            return None
        return torch.cat((module.forward(hidden[0][..., :missing, :]), output), -2)

    return [last.register_forward_hook(keep), head.register_forward_hook(complete)]


class _AttentionVisits:
    """Visits the scores and weights of attention.

    Args:
        keys: number of positions before the end of the pass; the keys of a window are the last of them.
    """

    def __init__(self, inside: Inside, points: frozenset[Point], visit: Visit, keys: int) -> None:
        self._inside = inside
        self._points = points
        self._visit = visit
        self._keys = keys

    def __call__(self, module: nn.Module, weights: Weights) -> Tensor | None:
        layer, probs, is_seen = self._inside.attention[module], weights.probs, weights.scores > -torch.inf
        changed = probs
        edited = self._visited(Point("attn_scores", layer), weights.scores)
        if edited is not None:
            changed = weights.normalize(edited.masked_fill(~is_seen, -torch.inf))
        edited = self._visited(Point("attn_probs", layer), changed)
        if edited is not None:
            changed = edited.masked_fill(~is_seen, 0.0)
        return None if torch.equal(changed, probs) else changed

    def _visited(self, point: Point, values: Tensor) -> Tensor | None:
        """Visit numbers with all positions as keys."""
        if point not in self._points:
            return None
        before = max(self._keys - values.shape[-1], 0)
        beyond = values[..., self._keys :]
        shown = torch.nn.functional.pad(values[..., : self._keys], (before, 0), value=point.unattended)
        changed = self._visit(point, shown)
        return None if changed is None else torch.cat((changed[..., before:].to(values.device), beyond), -1)
