"""Classifiers of prompt injections: a model folder, or the classifier in the package ``stackone-defender``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from workbench.errors import ShieldError
from workbench.providers.safety.sentences import normalized, packed_sentences

DEFENDER = "stackone-defender"
"""Value of the config's ``model`` that selects the classifier of that package."""

DEFENDER_LABELS = ("BENIGN", "INJECTION")


@dataclass(frozen=True, slots=True)
class TextPart:
    """Part of a text that is classified at once."""

    text: str
    start: int
    end: int
    probabilities: Callable[[], list[float]]
    """Computes the probability of each label; blocks."""


class PromptClassifier(Protocol):
    """Classifier with named labels, one of which is that of harmless texts."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def is_exclusive(self) -> bool:
        """Whether the probabilities of a text's labels sum to 1."""
        ...

    def parts(self, text: str) -> list[TextPart]:
        """Return the parts of a text, which together contain all of it."""
        ...


class FolderClassifier:
    """Sequence-classification model in Hugging Face layout. Loading blocks, and raises as `catalog.resolve` does."""

    def __init__(self, model: str) -> None:
        from workbench import catalog
        from workbench.engine.text_classifier import TextClassifier

        self._classifier = TextClassifier(catalog.resolve(model))
        self.labels = self._classifier.labels
        self.is_exclusive = self._classifier.is_exclusive

    def parts(self, text: str) -> list[TextPart]:
        classifier = self._classifier
        return [
            TextPart(
                text[window.start : window.end], window.start, window.end, _bound(classifier.probabilities, window)
            )
            for window in classifier.windows(text)
        ]


class DefenderClassifier:
    """Classifier of the package ``stackone-defender``, a small BERT that ONNX Runtime computes in 8 bits."""

    def __init__(self) -> None:
        from stackone_defender.classifiers.tier2_classifier import create_tier2_classifier

        self._classifier = create_tier2_classifier({})
        self._classifier.warmup()
        self.labels = DEFENDER_LABELS
        self.is_exclusive = True

    def parts(self, text: str) -> list[TextPart]:
        # Its own division into chunks cuts a long sentence; these parts have fewer bytes than it reads tokens.
        return [
            TextPart(part.text, part.start, part.end, _bound(self._probabilities, part.text))
            for part in packed_sentences(text)
        ]

    def _probabilities(self, text: str) -> list[float]:
        (injection,) = self._classifier.classify_chunks_batch([normalized(text)])
        if not 0 <= injection <= 1:  # also true of NaN
            raise ShieldError(f"{DEFENDER} gives no verdict: its probability is {injection}")
        return [1 - injection, injection]


def load_classifier(model: str) -> PromptClassifier:
    """Load the classifier of a config; blocks."""
    return DefenderClassifier() if model == DEFENDER else FolderClassifier(model)


def folder_problem(model: str) -> str | None:
    """Return why a model in a local folder cannot be loaded, as far as its name shows; None if nothing is known."""
    looks_local = model.startswith(("/", "./", "../", "~"))
    if model == DEFENDER or not looks_local or Path(model).expanduser().is_dir():
        return None
    return f"{model} is not a folder"


def _bound(function: Callable[..., list[float]], argument: object) -> Callable[[], list[float]]:
    return lambda: function(argument)
