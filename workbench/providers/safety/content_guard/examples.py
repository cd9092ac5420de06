"""Sentences that the content guard is fitted to, and the weights fitted to the vectors of the embedded model."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workbench.providers.safety.content_guard.classifier import Classifier
from workbench.providers.safety.labelled import LabelledMessage, labelled_messages, read_table

PACKAGE = "workbench.providers.safety.content_guard"
WEIGHTS = "weights.npz"
PROBE = "The capital of France is Paris."
"""Sentence by whose vector the sentence model of the stored weights is recognized."""


class StoredWeights(NamedTuple):
    """Content of the file that ``scripts/content_guard.py`` writes."""

    classifier: Classifier
    probe: NDArray[np.float32]
    """Vector of `PROBE`, shape (dimensions,)."""
    digest: str
    """`digest` of the examples that the weights were fitted to."""


@cache
def examples() -> tuple[LabelledMessage, ...]:
    """Return every sentence to fit to: the training half of the labelled messages, and further examples."""
    further = (LabelledMessage(text, category) for category, text in read_table(PACKAGE, "examples.tsv"))
    return (*labelled_messages("train"), *further)


def digest() -> str:
    """Return a digest of the examples, with which stored weights are found to be out of date."""
    rows = "\n".join(f"{example.category}\t{example.text}" for example in examples())
    return hashlib.sha256(rows.encode()).hexdigest()


@cache
def stored_weights() -> StoredWeights:
    """Return the weights for the vectors of the catalog's sentence model, all-minilm-l6-v2."""
    with (resources.files(PACKAGE) / WEIGHTS).open("rb") as file, np.load(file, allow_pickle=False) as stored:
        classifier = Classifier(stored["weights"], stored["bias"])
        return StoredWeights(classifier, stored["probe"], str(stored["digest"]))
