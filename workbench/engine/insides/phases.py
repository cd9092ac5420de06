"""What the points of the compiled step and of the compiled prompt have in common: visits between phases."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from workbench.insides import Point


def compute_between(
    stops: Iterable[tuple[int, Point]], end: int, compute: Callable[[int, int], None], visit: Callable[[Point], None]
) -> None:
    """Compute all phases before ``end`` with ``compute(first, stop)``, and visit points between them.

    Args:
        stops: the points in forward order, each with the phase before which it is visited.
    """
    first = 0
    for stop, point in stops:
        if stop > first:
            compute(first, stop)
            first = stop
        visit(point)
    compute(first, end)


def is_visited_with_scores(point: Point, points: Collection[Point]) -> bool:
    """Return whether a point has the attention weights of a layer whose scores are visited: one visit does both."""
    return point.kind == "attn_probs" and Point("attn_scores", point.layer) in points
