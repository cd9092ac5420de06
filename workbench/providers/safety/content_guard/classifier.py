"""Multinomial logistic regression from a sentence vector to the probabilities of the hazard categories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.providers.safety.hazards import HAZARDS
from workbench.providers.safety.labelled import SAFE

CLASSES = (*HAZARDS, SAFE)
"""Labels in the order of the classifier's outputs."""

INVERSE_PENALTY = 30.0
"""Weight of the data against the squared weights; the cross-validation of ``scripts/content_guard.py`` chose it."""

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Classifier:
    """Fitted weights."""

    weights: NDArray[np.float32]
    """Shape (classes, dimensions)."""
    bias: NDArray[np.float32]
    """Shape (classes,)."""

    def probabilities(self, vector: Vector) -> NDArray[np.float64]:
        """Return the probability of each class for a vector of unit length, shape (classes,).

        Vectors are computed one by one, because a product of several rounds differently.
        """
        logits = (self.weights @ vector + self.bias).astype(np.float64)
        exponentials = np.exp(logits - logits.max())
        probabilities: NDArray[np.float64] = exponentials / exponentials.sum()
        return probabilities


def unit_vectors(vectors: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    """Return vectors scaled to unit length, shape (vectors, dimensions); a zero vector stays zero."""
    array = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    return np.asarray(array / np.where(lengths == 0, 1, lengths), dtype=np.float32)


def fit(vectors: NDArray[np.float32], labels: Sequence[str], inverse_penalty: float = INVERSE_PENALTY) -> Classifier:
    """Return the classifier with the least penalized log loss, which is unique.

    Args:
        vectors: of unit length, shape (examples, dimensions).
        labels: one of `CLASSES` for each vector.
        inverse_penalty: weight of the log loss against half the sum of the squared weights.
    """
    import torch
    from torch.nn import functional as F

    inputs = torch.from_numpy(vectors).double()
    targets = torch.tensor([CLASSES.index(label) for label in labels])
    weights = torch.zeros(len(CLASSES), inputs.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(CLASSES), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights, bias], max_iter=500, tolerance_grad=1e-5, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimizer.zero_grad()
        data_loss = F.cross_entropy(inputs @ weights.T + bias, targets)
        loss = data_loss + weights.square().sum() / (2 * inverse_penalty * len(targets))
        loss.backward()
        return loss.item()

    with torch.enable_grad():
        optimizer.step(closure)
    return Classifier(weights.detach().float().numpy(), bias.detach().float().numpy())
