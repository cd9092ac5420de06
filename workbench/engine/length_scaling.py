"""Rotary positions whose angles depend on how long the text is.

LongRoPE has one set of angles up to the length that a model was first trained on and another one beyond, dynamic
scaling one for every length beyond. transformers chooses by the highest position of each call, so that a text which is
read in pieces is read with several sets at once. Here the whole text's length decides, and keys that were computed for
another set are computed again: what comes out is what one forward over the whole text gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class _Scaled:
    """One kind of angles of a rotary module."""

    module: Any
    layer_type: str | None
    """Where a module has angles for several types of layers."""
    is_dynamic: bool
    border: int
    """Up to so many positions the angles are those of any short text."""

    def angles(self, length: int) -> int:
        return max(length, self.border) if self.is_dynamic else int(length > self.border)

    def forget(self) -> None:
        """Have the module forget the longest text that it has seen: it would take that one's angles for others."""
        options = {} if self.layer_type is None else {"layer_type": self.layer_type}
        self.module.forward(torch.empty(0), torch.zeros(1, 1, dtype=torch.long), **options)


class LengthScaling:
    """Shows each rotary module of a model the last position of the text, whichever part of it is computed."""

    def __init__(self, scaled: list[_Scaled]) -> None:
        self._scaled = scaled
        self._length = 0
        for module in {id(one.module): one.module for one in scaled}.values():
            module.register_forward_pre_hook(self._add_last, with_kwargs=True)
            module.register_forward_hook(self._drop_last)

    @classmethod
    def of(cls, model: PreTrainedModel) -> LengthScaling | None:
        """None where no angle depends on the length."""
        scaled = [one for module in model.modules() for one in _scaled_in(module)]
        return cls(scaled) if scaled else None

    @property
    def border(self) -> int:
        """The longest text that all angles are the same for."""
        return min(one.border for one in self._scaled)

    def angles(self, length: int) -> tuple[int, ...]:
        """Which angles a text of this length is read with; two lengths that have the same may share keys."""
        return tuple(one.angles(length) for one in self._scaled)

    @contextmanager
    def of_length(self, length: int) -> Iterator[None]:
        """Compute with the angles of a text of this length."""
        for one in self._scaled:
            if one.is_dynamic:
                one.forget()
        self._length = length
        try:
            yield
        finally:
            self._length = 0

    def _add_last(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        if not self._length:
            return None
        given = kwargs["position_ids"] if "position_ids" in kwargs else args[1]
        positions = torch.cat((given, given.new_full((*given.shape[:-1], 1), self._length - 1)), dim=-1)
        if "position_ids" in kwargs:
            return args, {**kwargs, "position_ids": positions}
        return (args[0], positions, *args[2:]), kwargs

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
