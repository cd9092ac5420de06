"""The wire form of attention: the weights of one token in one head, and three numbers for each head.

Wire row: ``{layer, head, position, weights}``, the weights on the tokens from the first one of the prompt on.
Wire heads: for each layer that has been read, for each head, ``[on_first, on_previous, entropy]``, entropy in nats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from workbench.widgets.wire.run import number

if TYPE_CHECKING:
    from workbench.records import Insides

_DIGITS = 4
MOST_AVERAGED = 64
"""Number of tokens over which the heads of a model are averaged."""
MOST_WEIGHTS = 2**24
"""Number of weights that are read for them: 64 MiB."""


def wire_row(layer: int, head: int, position: int, weights: Iterable[float]) -> dict[str, Any]:
    """Return the weights of one token in one head."""
    return {
        "layer": layer,
        "head": head,
        "position": position,
        "weights": [number(float(weight), digits=_DIGITS) for weight in weights],
    }


def wire_heads(rows: Iterable[Mapping[str, Any]]) -> list[list[list[float | None]]]:
    """Return the numbers of the heads of `Run.attention_heads`, in the order of the layers."""
    layers: dict[int, list[list[float | None]]] = {}
    for row in rows:
        values = [number(row[name], digits=_DIGITS) for name in ("on_first", "on_previous", "entropy")]
        layers.setdefault(int(row["layer"]), []).append(values)
    return list(layers.values())


def prompt_labels(insides: Insides) -> list[str]:
    """Return the texts of the prompt's tokens."""
    return [insides.text(token_id) for token_id in insides.token_ids[: insides.prompt_length]]


def sampled(length: int, heads: int) -> range:
    """Return the positions over which the heads of a model are averaged: the last ones, read in one part of the text.

    Args:
        length: number of tokens of the text.
        heads: number of heads in all layers.
    """
    most = max(1, min(MOST_AVERAGED, MOST_WEIGHTS // (heads * length)))
    return range(max(min(1, length - 1), length - most), length)
