"""Direct logit attribution: what each part of a model added to the logit of a token.

The residual stream after the last layer is a sum of what the embedding, each attention and each MLP added to it. With
the scale of the last norm held fixed, its logit is the sum of what each of them is worth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Unembedding:
    """The last norm and the head."""

    norm: str
    """``rms`` or ``layer``."""
    eps: float
    weight: Tensor
    """Float32, shape (hidden,)."""
    bias: Tensor | None
    head: Callable[[Tensor], Tensor]
    """Logits of normed rows, shape (rows, vocab), before they are capped."""
    cap: float
    """Soft cap of the logits, or 0."""

    def normed(self, parts: Tensor, whole: Tensor) -> Tensor:
        """Return parts of a row after the last norm without its bias, by the mean and the scale of the whole.

        Args:
            parts: float64, shape (parts, hidden).
            whole: float64, shape (hidden,).
        """
        if self.norm == "layer":
            parts = parts - parts.mean(-1, keepdim=True)
            whole = whole - whole.mean()
        return parts * self.weight.double() / torch.sqrt(whole.square().mean() + self.eps)


@dataclass(frozen=True, slots=True)
class Contributions:
    """What the parts of a model added to one logit."""

    values: tuple[float, ...]
    """One for each part, in the order in which they were given."""
    bias: float
    """What the biases of the last norm and of the head added."""
    cap: float
    """What the soft cap of the logits took away."""

    @property
    def logit(self) -> float:
        return sum(self.values) + self.bias + self.cap


def contributions(unembedding: Unembedding, parts: Tensor, token_id: int) -> Contributions:
    """Return what parts of a residual stream are worth for a token.

    Args:
        parts: float64, shape (parts, hidden); their sum is the residual stream after the last layer.
    """
    whole = parts.sum(0)
    offset = torch.zeros_like(whole) if unembedding.bias is None else unembedding.bias.double()
    rows = torch.cat([unembedding.normed(parts, whole), offset.unsqueeze(0), torch.zeros_like(offset).unsqueeze(0)])
    logits = unembedding.head(rows.float())[:, token_id].double()
    bias_of_head = logits[-1]  # every row has it
    values = (logits[:-2] - bias_of_head).tolist()
    bias, uncapped = float(logits[-2]), float(sum(values) + logits[-2])
    capped = (
        unembedding.cap * float(torch.tanh(torch.tensor(uncapped / unembedding.cap))) if unembedding.cap else uncapped
    )
    return Contributions(tuple(values), bias, capped - uncapped)
