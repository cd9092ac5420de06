"""Points: the places in a forward pass where numbers can be read and changed, in forward order.

Names are those of interp-engine; the spellings of TransformerLens and nnterp are read as well. No norm is folded into a
matrix and no weight is centred, so the numbers are those of transformers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from workbench.errors import InvalidRequestError, UnsupportedFieldError


@dataclass(frozen=True, slots=True)
class PointKind:
    """A kind of point; one of a layer is named with the layer's index, as in ``resid_post.3``."""

    name: str
    meaning: str
    axes: tuple[str, ...]
    """Names of the axes after that of the tokens."""
    aliases: tuple[str, ...] = ()
    """Spellings of TransformerLens and nnterp, with ``{}`` for the layer."""
    in_layers: bool = True

    @property
    def pattern(self) -> str:
        """Name of its points, with ``{layer}`` for the index of a layer."""
        return f"{self.name}.{{layer}}" if self.in_layers else self.name


KINDS: Mapping[str, PointKind] = {
    kind.name: kind
    for kind in (
        PointKind(
            "embeddings", "embedding of the token, without that of its position", ("feature",),
            ("embed.hook_out", "hook_embed", "token_embeddings"), in_layers=False,
        ),
        PointKind(
            "resid_pre", "residual stream before the layer", ("feature",),
            ("blocks.{}.hook_resid_pre", "blocks.{}.hook_in", "layers_input[{}]"),
        ),
        PointKind(
            "attn_in", "input of attention, after its norm", ("feature",),
            ("blocks.{}.attn.hook_in", "attentions_input[{}]"),
        ),
        PointKind("value", "values of the key heads", ("head", "component"), ("blocks.{}.attn.hook_v",)),
        PointKind("attn_scores", "scores before the softmax", ("head", "key"), ("blocks.{}.attn.hook_attn_scores",)),
        PointKind(
            "attn_probs", "attention weights", ("head", "key"),
            ("blocks.{}.attn.hook_pattern", "attention_probabilities[{}]"),
        ),
        PointKind(
            "z", "output of each head, before the output matrix", ("head", "component"), ("blocks.{}.attn.hook_z",)
        ),
        PointKind(
            "attn_out", "output of attention, before a norm after it", ("feature",),
            ("blocks.{}.attn.hook_out", "blocks.{}.hook_attn_out", "attentions_output[{}]"),
        ),
        PointKind(
            "resid_mid", "residual stream between attention and MLP", ("feature",), ("blocks.{}.hook_resid_mid",)
        ),
        PointKind(
            "mlp_in", "input of the MLP, after its norm", ("feature",),
            ("blocks.{}.mlp.hook_in", "mlps_input[{}]"),
        ),
        PointKind(
            "mlp_pre", "first projection of the MLP, its gate if it has one, before the activation", ("neuron",),
            ("blocks.{}.mlp.hook_pre",),
        ),
        PointKind(
            "mlp_act", "input of the last projection of the MLP", ("neuron",), ("blocks.{}.mlp.hook_post",)
        ),
        PointKind(
            "mlp_out", "output of the MLP, before a norm after it", ("feature",),
            ("blocks.{}.mlp.hook_out", "blocks.{}.hook_mlp_out", "mlps_output[{}]"),
        ),
        PointKind(
            "resid_post", "residual stream after the layer", ("feature",),
            ("blocks.{}.hook_resid_post", "blocks.{}.hook_out", "layers_output[{}]"),
        ),
        PointKind(
            "final_norm", "residual stream after the last norm", ("feature",), ("unembed.hook_in", "ln_final"),
            in_layers=False,
        ),
        PointKind("lm_head", "logits", ("token_id",), ("unembed.hook_out", "logits"), in_layers=False),
    )
}  # fmt: skip
"""All kinds by name, in forward order."""

ATTENTION_KINDS = frozenset(name for name, kind in KINDS.items() if "key" in kind.axes)
"""Kinds that have a number for each key."""

_ORDER = {name: index for index, name in enumerate(KINDS)}
_LAST = "last"


class Point(NamedTuple):
    """One place in a model's forward pass."""

    kind: str
    layer: int = 0
    """0 for kinds outside the layers."""

    def __str__(self) -> str:
        return f"{self.kind}.{self.layer}" if KINDS[self.kind].in_layers else self.kind

    @property
    def order(self) -> tuple[int, int]:
        """Key by which points sort in forward order."""
        if KINDS[self.kind].in_layers:
            return self.layer, _ORDER[self.kind]
        return (-1, 0) if self.kind == "embeddings" else (10**6, _ORDER[self.kind])

    @property
    def unattended(self) -> float:
        """Number of a key that a token does not attend to, at a point of attention."""
        return -math.inf if self.kind == "attn_scores" else 0.0


@dataclass(frozen=True, slots=True)
class ModelPoints:
    """The points of one model."""

    layers: int
    sizes: Mapping[str, tuple[int, ...]]
    """Shape of a token's numbers by kind; of attention scores and weights the number of heads alone."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why the model lacks the other kinds, by kind."""
    derived: frozenset[str] = frozenset()
    """Kinds whose numbers are computed again from others, because the forward pass does not keep them."""

    def all(self) -> list[Point]:
        """Return all points of the model in forward order."""
        kinds = [kind for kind in KINDS.values() if kind.name in self.sizes]
        found = [Point(kind.name, layer) for kind in kinds for layer in range(self.layers if kind.in_layers else 1)]
        return sorted(found, key=lambda point: point.order)

    def named(self, names: Sequence[str] | str, field: str) -> list[Point]:
        """Return the points of names in forward order, as `points_named` does; raise unless the model has them all.

        Raises:
            InvalidRequestError: a name is no point, or there are none, or far too many.
            UnsupportedFieldError: the model lacks a point; the error says why.
        """
        names = [names] if isinstance(names, str) else names
        most = max(len(self.all()), len(KINDS))
        if not isinstance(names, list | tuple) or not names:
            raise InvalidRequestError(field, names, "a list of the names of points")
        if len(names) > most:
            raise InvalidRequestError(field, f"{len(names):,} names", f"at most {most:,} names")
        points = points_named(names, field, self.layers)
        for point in points:
            self.check(point, field)
        return points

    def why_missing(self, kind: str) -> str:
        """Return the reason why the model lacks a kind; empty if it has it."""
        return "" if kind in self.sizes else self.missing.get(kind, "the model has no such place")

    def check(self, point: Point, field: str) -> None:
        """Raise an error that names the field unless the model has the point."""
        if point.kind not in self.sizes:
            reason = self.missing.get(point.kind, "this model's forward pass has no such place")
            raise UnsupportedFieldError(field, str(point), f"a point that the model has: {reason}")
        if KINDS[point.kind].in_layers and not 0 <= point.layer < self.layers:
            raise InvalidRequestError(field, str(point), f"a point of a layer from 0 to {self.layers - 1}")

    def numbers(self, point: Point, keys: int) -> int:
        """Return how many numbers a point has for one token that attends to ``keys`` positions."""
        count = keys if point.kind in ATTENTION_KINDS else 1
        for size in self.sizes[point.kind]:
            count *= size
        return count


def point_named(name: object, field: str, layers: int) -> Point:
    """Return the point of a name in any spelling; ``last`` may stand for the index of the last layer.

    Raises:
        InvalidRequestError: the name is no point of one layer.
    """
    points = points_named([name], field, layers, indexed=False)
    if len(points) != 1:
        raise InvalidRequestError(field, name, f"a point of one layer, such as {points[0]}")
    return points[0]


def points_named(names: Sequence[object], field: str, layers: int, *, indexed: bool = True) -> list[Point]:
    """Return the points of names in any spelling, in forward order; a kind without a layer stands for all layers.

    Args:
        field: path in errors.
        layers: number of layers of the model.
        indexed: whether errors name the index of the name in the field.

    Raises:
        InvalidRequestError: a name is no point.
    """
    found: set[Point] = set()
    for index, name in enumerate(names):
        found.update(_points_of(name, f"{field}[{index}]" if indexed else field, layers))
    return sorted(found, key=lambda point: point.order)


def _points_of(name: object, field: str, layers: int) -> Iterable[Point]:
    for kind in KINDS.values():
        for pattern in _patterns(kind):
            if isinstance(name, str) and (match := pattern.fullmatch(name.strip())):
                if not kind.in_layers:
                    return [Point(kind.name)]
                if (layer := match.groupdict().get("layer")) is None:
                    return [Point(kind.name, one) for one in range(layers)]
                return [Point(kind.name, layers - 1 if layer == _LAST else int(layer))]
    kinds = ", ".join(KINDS)
    raise InvalidRequestError(field, name, f"the name of a point, such as resid_post.3; the kinds are {kinds}")


@cache
def _patterns(kind: PointKind) -> tuple[re.Pattern[str], ...]:
    layer = rf"(?P<layer>\d{{1,4}}|{_LAST})"
    own = rf"{kind.name}(?:\.{layer})?" if kind.in_layers else kind.name
    others = (re.escape(alias).replace(re.escape("{}"), layer) for alias in kind.aliases)
    return tuple(re.compile(pattern) for pattern in (own, *others))
