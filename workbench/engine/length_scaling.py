"""Rotary embeddings whose angles depend on the length of the text.

LongRoPE has one set of angles up to the original context length and another beyond it; dynamic scaling has one for
every longer length. transformers chooses by the highest position of each call, so that a text that is computed in parts
would have several sets. Here the length of the whole text decides, and keys that were computed with another set are
computed again: the results are those of one forward pass over the whole text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class _Scaled:
    """One rope type of a rotary module."""

    module: Any
    layer_type: str | None
    """Layer type, if the module has angles for several."""
    is_dynamic: bool
    border: int
    """Longest text with the angles of short texts, in tokens."""

    def angles(self, length: int) -> int:
        return max(length, self.border) if self.is_dynamic else int(length > self.border)

    def reset(self) -> None:
        """Reset the module, which otherwise keeps the angles of the longest text so far."""
        options = {} if self.layer_type is None else {"layer_type": self.layer_type}
        device = next(self.module.buffers()).device
        self.module.forward(
            torch.empty(0, device=device), torch.zeros(1, 1, dtype=torch.long, device=device), **options
        )


class LengthScaling:
    """Hooks that append the last position of the whole text to the positions of each rotary module's calls."""

    def __init__(self, scaled: list[_Scaled]) -> None:
        self._scaled = scaled
        self._length = 0
        for module in {id(one.module): one.module for one in scaled}.values():
            module.register_forward_pre_hook(self._add_last, with_kwargs=True)
            module.register_forward_hook(self._drop_last)

    @classmethod
    def of(cls, model: PreTrainedModel) -> LengthScaling | None:
        """Return None if no angle depends on the length."""
        scaled = [one for module in model.modules() for one in _scaled_in(module)]
        return cls(scaled) if scaled else None

    @property
    def border(self) -> int:
        """Longest text for which no angle changes, in tokens."""
        return min(one.border for one in self._scaled)

    def angles(self, length: int) -> tuple[int, ...]:
        """Return identifiers of the angles for a text length; texts with equal ones may share keys."""
        return tuple(one.angles(length) for one in self._scaled)

    @contextmanager
    def of_length(self, length: int) -> Iterator[None]:
        """Compute with the angles of a text of this length inside the context."""
        for one in self._scaled:
            if one.is_dynamic:
                one.reset()
        self._length = length
        try:
            yield
        finally:
            self._length = 0

    def _add_last(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        if not self._length:
            return None
        position_ids = kwargs["position_ids"] if "position_ids" in kwargs else args[1]
        extended = F.pad(position_ids, (0, 1), value=self._length - 1)
        if "position_ids" in kwargs:
            return args, {**kwargs, "position_ids": extended}
        return (args[0], extended, *args[2:]), kwargs

    def _drop_last(self, _module: Any, _args: Any, angles: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return tuple(part[..., :-1, :] for part in angles) if self._length else None


def _scaled_in(module: Any) -> Iterator[_Scaled]:
    kinds = getattr(module, "rope_type", None)
    if kinds is None or not hasattr(module, "config"):
        return
    rope = module.config.rope_parameters
    for layer_type, kind in kinds.items() if isinstance(kinds, dict) else [(None, kinds)]:
        settings = rope if layer_type is None else rope[layer_type]
        if kind == "longrope":
            yield _Scaled(module, layer_type, False, int(settings["original_max_position_embeddings"]))
        elif "dynamic" in kind:
            yield _Scaled(module, layer_type, True, int(module.original_max_seq_len))
