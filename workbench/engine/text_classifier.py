"""Classification of texts with a sequence-classification model in Hugging Face layout, in float32.

A text that is longer than the model's context is classified in overlapping windows.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.engine.compute_thread import run_on_fresh_thread
from workbench.engine.context_length import context_length
from workbench.engine.model_folder import check_classifier_folder
from workbench.engine.transformers_loading import format_errors, load_config, load_tokenizer, load_weights
from workbench.errors import NumericalError

MAX_WINDOW = 512
"""Tokens of the longest window, with special tokens; a model's context may be shorter."""

_OVERLAP = 8
"""A window overlaps the one before it by its length divided by this."""

_MARGIN = 2
"""Positions that models with a padding offset, such as RoBERTa, list in their config but cannot use."""


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens of a part of a text."""

    start: int
    """Index of its first character in the text."""
    end: int
    """Index after its last character."""
    inputs: dict[str, list[int]]
    """Model inputs, with special tokens."""


class TextClassifier:
    """Loaded text classifier; its methods may be called from any thread.

    Raises:
        ModelFormatError: the folder is damaged, or holds another kind of model.
        UnsafeModelError: loading would unpickle weights or run the folder's code.
    """

    def __init__(self, folder: Path) -> None:
        check_classifier_folder(folder)
        self.folder = folder
        self.tokenizer = load_tokenizer(folder)
        config: Any = load_config(folder)
        from transformers import AutoModelForSequenceClassification

        with format_errors(folder, "a text classifier"):
            self._model = run_on_fresh_thread(
                lambda: load_weights(AutoModelForSequenceClassification, folder, torch.float32).eval()
            )
        self.labels = tuple(str(config.id2label[index]) for index in range(config.num_labels))
        """Names of the classes in the order of the outputs, from the config's ``id2label``."""
        self.is_exclusive = config.num_labels > 1 and config.problem_type != "multi_label_classification"
        """Whether the probabilities of a text's classes sum to 1."""
        positions = context_length(config)
        self.window_tokens = min(MAX_WINDOW, positions - _MARGIN if positions < MAX_WINDOW + _MARGIN else positions)
        self._lock = threading.Lock()

    def windows(self, text: str) -> list[Window]:
        """Return the windows of a text, which together contain all of its tokens; none for a text without tokens."""
        with self._lock:
            encoded = self.tokenizer(
                text,
                truncation=True,
                max_length=self.window_tokens,
                stride=self.window_tokens // _OVERLAP,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
        names = [name for name in self.tokenizer.model_input_names if name in encoded]
        return [
            Window(*_extent(offsets), {name: encoded[name][index] for name in names})
            for index, offsets in enumerate(encoded["offset_mapping"])
            if offsets
        ]

    def probabilities(self, window: Window) -> list[float]:
        """Return the probability of each label for a window; raise `NumericalError` if the model computes NaN."""
        with self._lock:
            values = run_on_fresh_thread(partial(self._forward, window))
        if not bool(torch.isfinite(values).all()):
            raise NumericalError(f"{self.folder.name} computed NaN for a text; its weights are damaged or overflow")
        probabilities: list[float] = values.tolist()
        return probabilities

    @torch.inference_mode()
    def _forward(self, window: Window) -> Tensor:
        inputs = {name: torch.tensor([ids]) for name, ids in window.inputs.items()}  # (1, tokens) each
        logits: Tensor = self._model(**inputs).logits[0]  # (labels,)
        return logits.softmax(0) if self.is_exclusive else logits.sigmoid()


def _extent(offsets: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the first and the last index of a window's characters; special tokens have none."""
    visible = [(start, end) for start, end in offsets if end > start]
    return (visible[0][0], visible[-1][1]) if visible else (0, 0)
