"""The classifier is the logistic regression that scikit-learn fits, and its probabilities do not depend on others."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from workbench.providers.safety.content_guard.classifier import CLASSES, Classifier, fit, unit_vectors

RNG = np.random.default_rng(0)
CENTERS = RNG.normal(size=(len(CLASSES), 12))
LABELS = [CLASSES[index % len(CLASSES)] for index in range(280)]
VECTORS = unit_vectors([CENTERS[CLASSES.index(label)] + RNG.normal(size=12) for label in LABELS])


@pytest.mark.parametrize("inverse_penalty", [1.0, 30.0])
def test_it_fits_what_scikit_learn_fits(inverse_penalty: float) -> None:
    fitted = fit(VECTORS, LABELS, inverse_penalty)
    judge = LogisticRegression(C=inverse_penalty, max_iter=5000, tol=1e-8).fit(VECTORS, LABELS)
    expected = judge.predict_proba(VECTORS)[:, [list(judge.classes_).index(label) for label in CLASSES]]
    ours = np.array([fitted.probabilities(vector) for vector in VECTORS])
    assert np.abs(ours - expected).max() < 0.01
    assert np.abs(ours - 1 / len(CLASSES)).max() > 0.3  # it has learned something


def test_fitting_twice_gives_the_same_weights() -> None:
    first, second = fit(VECTORS, LABELS), fit(VECTORS, LABELS)
    assert np.array_equal(first.weights, second.weights)


def test_probabilities_are_positive_and_sum_to_one_for_extreme_weights_too() -> None:
    classifier = Classifier(np.full((3, 2), 1e4, dtype=np.float32), np.array([0, 1e4, -1e4], dtype=np.float32))
    probabilities = classifier.probabilities(np.array([1, 0], dtype=np.float32))
    assert np.isfinite(probabilities).all()
    assert probabilities.sum() == pytest.approx(1)


def test_vectors_are_scaled_to_unit_length_and_zero_stays_zero() -> None:
    assert unit_vectors([[3, 4], [0, 0]]).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]
