"""The stages of `sampling_stages` that can change the argmax: each modifies a row of float32 logits."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

Adjustment: TypeAlias = "Callable[[NDArray[np.float32], History], None]"


def adjusted(logits: Tensor, adjustments: Iterable[Adjustment], history: History) -> Tensor:
    """Return a copy of the logits with the adjustments applied in order."""
    row = logits.numpy().copy()  # on this thread; torch would wake others for it
    for adjust in adjustments:
        adjust(row, history)
    return torch.from_numpy(row)


class TokenCounts:
    """Counts of tokens, readable as arrays at a cost that does not grow with the text."""

    def __init__(self, token_ids: Iterable[int]) -> None:
        counted = Counter(token_ids)
        self._index = {token_id: index for index, token_id in enumerate(counted)}
        self._ids = np.fromiter(counted, np.int64)
        self._counts = np.fromiter(counted.values(), np.float32)

    def add(self, token_id: int) -> None:
        index = self._index.setdefault(token_id, len(self._index))
        if index == len(self._ids):
            room = max(64, index)
            self._ids = np.append(self._ids, np.zeros(room, np.int64))
            self._counts = np.append(self._counts, np.zeros(room, np.float32))
        self._ids[index] = token_id
        self._counts[index] += 1

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the distinct tokens and how often each occurred, as views."""
        return self._ids[: len(self._index)], self._counts[: len(self._index)]


class History:
    """Tokens of a request so far, as its penalties count them.

    Args:
        seen_ids: tokens of the prompt and of the answer so far, each at least once.
        answer_ids: tokens of the answer so far, each as often as it occurred.
    """

    def __init__(self, seen_ids: Iterable[int], answer_ids: Iterable[int] = ()) -> None:
        self.seen = TokenCounts(seen_ids)
        self.answer = TokenCounts(answer_ids)

    def add(self, token_id: int) -> None:
        """Count a token of the answer."""
        self.seen.add(token_id)
        self.answer.add(token_id)


def _logit_bias(bias: Mapping[int, float]) -> Adjustment:
    token_ids, values = np.fromiter(bias, np.int64), np.fromiter(bias.values(), np.float32)

    def adjust(row: NDArray[np.float32], _: History) -> None:
        row[token_ids] += values

    return adjust


def _repetition_penalty(penalty: float) -> Adjustment:
    """Return the adjustment that divides positive logits of tokens that occurred, and multiplies negative ones."""

    def adjust(row: NDArray[np.float32], history: History) -> None:
        token_ids, _ = history.seen.arrays()
        chosen = row[token_ids]
        row[token_ids] = np.where(chosen > 0, chosen / np.float32(penalty), chosen * np.float32(penalty))

    return adjust


def _frequency_penalty(penalty: float) -> Adjustment:
    """Return OpenAI's frequency penalty; as in vLLM, it counts generated tokens only."""

    def adjust(row: NDArray[np.float32], history: History) -> None:
        token_ids, counts = history.answer.arrays()
        row[token_ids] -= np.float32(penalty) * counts

    return adjust


def _presence_penalty(penalty: float) -> Adjustment:
    """Return OpenAI's presence penalty, which counts each generated token once."""

    def adjust(row: NDArray[np.float32], history: History) -> None:
        token_ids, _ = history.answer.arrays()
        row[token_ids] -= np.float32(penalty)

    return adjust


ADJUSTMENTS: dict[str, Callable[[Any], Adjustment]] = {
    "logit_bias": _logit_bias,
    "penalty": _repetition_penalty,
    "frequency_penalty": _frequency_penalty,
    "presence_penalty": _presence_penalty,
}
"""By stage, the function from its value to an adjustment, which modifies a row of logits, shape (vocab,), in place."""
