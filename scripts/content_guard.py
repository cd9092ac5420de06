"""Fit the weights of ``inline::content_guard`` for the catalog's sentence model, and choose its constants.

    .venv/bin/python scripts/content_guard.py            # cross-validate and print, on the training half alone
    .venv/bin/python scripts/content_guard.py --write    # also fit to all examples, and store the weights

Run it after a change to the labelled messages or the examples: a test fails while the stored weights are out of date.
"""

from __future__ import annotations

import argparse
import hashlib
import io
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from workbench import Workbench
from workbench.providers.safety.content_guard.classifier import CLASSES, INVERSE_PENALTY, fit, unit_vectors
from workbench.providers.safety.content_guard.examples import PACKAGE, PROBE, WEIGHTS, digest, examples
from workbench.providers.safety.labelled import SAFE, labelled_messages

SENTENCE_MODEL = "all-minilm-l6-v2"
FOLDS = 5
THRESHOLDS = [round(0.3 + 0.01 * step, 2) for step in range(51)]
PRECISION_GOAL, RECALL_GOAL = 0.9, 0.8
"""Goals of the content guard; its threshold is the one whose cross-validated ratios are farthest above both."""
NEAR_DUPLICATE = 0.9
"""Cosine from which on an example is taken to be a message of the test half in other words."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="store the weights in the package")
    args = parser.parse_args()
    torch.set_num_threads(1)  # a fit is many small products
    with Workbench() as bench:
        texts = [example.text for example in examples()]
        vectors = embed(bench, texts)
        probe = embed(bench, [PROBE])[0]
        print_near_duplicates(texts, vectors, embed(bench, [message.text for message in labelled_messages("test")]))
    labels = [example.category for example in examples()]
    for inverse_penalty in (10.0, 30.0, 100.0):
        cross_validate(vectors, labels, inverse_penalty)
    if args.write:
        write(vectors, labels, probe)


def embed(bench: Workbench, texts: list[str]) -> NDArray[np.float32]:
    return unit_vectors(bench.embeddings(list(texts), model=SENTENCE_MODEL).embeddings)


def print_near_duplicates(texts: list[str], vectors: NDArray[np.float32], test: NDArray[np.float32]) -> None:
    """Print how near the examples are to messages of the test half, and those that are too near to be kept."""
    nearest = (vectors @ test.T).max(axis=1)
    print(f"cosine to the nearest test message: median {np.median(nearest):.2f}, 95 % {np.quantile(nearest, 0.95):.2f}")
    for text, cosine in zip(texts, nearest, strict=True):
        if cosine >= NEAR_DUPLICATE:
            print(f"  too near ({cosine:.2f}): {text}")


def cross_validate(vectors: NDArray[np.float32], labels: list[str], inverse_penalty: float) -> None:
    """Print the log loss on the labelled messages of the training half, and precision and recall by threshold."""
    fold_of = np.array([int(hashlib.sha256(example.text.encode()).hexdigest(), 16) % FOLDS for example in examples()])
    probabilities = np.zeros(len(labels))
    for fold in range(FOLDS):
        rest = np.flatnonzero(fold_of != fold)
        classifier = fit(vectors[rest], [labels[index] for index in rest], inverse_penalty)
        for index in np.flatnonzero(fold_of == fold):
            probabilities[index] = 1 - classifier.probabilities(vectors[index])[CLASSES.index(SAFE)]
    count = len(labelled_messages("train"))
    judged, harmful = probabilities[:count], np.array([label != SAFE for label in labels[:count]])
    loss = -np.log(np.where(harmful, judged, 1 - judged)).mean()
    print(
        f"inverse penalty {inverse_penalty:g}{' (in use)' * (inverse_penalty == INVERSE_PENALTY)}: log loss {loss:.3f}"
    )
    ratios = {threshold: precision_and_recall(judged >= threshold, harmful) for threshold in THRESHOLDS}
    slacks = {threshold: min(p - PRECISION_GOAL, r - RECALL_GOAL) for threshold, (p, r) in ratios.items()}
    chosen = max(slacks, key=lambda threshold: slacks[threshold])
    for threshold in sorted({0.4, 0.5, 0.6, 0.7, chosen}):
        precision, recall = ratios[threshold]
        mark = "  <- farthest above both goals" if threshold == chosen else ""
        print(f"  {threshold:.2f}: precision {precision:.3f}, recall {recall:.3f}{mark}")


def precision_and_recall(flagged: NDArray[np.bool_], harmful: NDArray[np.bool_]) -> tuple[float, float]:
    right = (flagged & harmful).sum()
    return float(right / max(1, flagged.sum())), float(right / harmful.sum())


def write(vectors: NDArray[np.float32], labels: list[str], probe: NDArray[np.float32]) -> None:
    classifier = fit(vectors, labels)
    content = io.BytesIO()
    np.savez(content, weights=classifier.weights, bias=classifier.bias, probe=probe, digest=np.array(digest()))
    path = Path(str(resources.files(PACKAGE) / WEIGHTS))
    path.write_bytes(content.getvalue())
    print(f"{path}: {path.stat().st_size} bytes, fitted to {len(labels)} sentences")


if __name__ == "__main__":
    main()
