"""What the modules of a model read and return in one short forward pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(slots=True)
class Call:
    """One call of a module, with copies of its tensors."""

    source: Tensor | None
    """First tensor among the arguments."""
    arguments: list[Tensor]
    start: int
    """Place of the call's beginning in the order of all beginnings and ends."""
    result: Tensor | None = None
    end: int = -1


@dataclass(slots=True)
class Recording:
    """All calls of a forward pass."""

    calls: dict[nn.Module, list[Call]] = field(default_factory=lambda: defaultdict(list))

    def only(self, module: nn.Module | None) -> Call | None:
        """Return the call of a module that is called once and reads and returns tensors, else None."""
        calls = self.calls.get(module, []) if module is not None else []
        if len(calls) != 1 or calls[0].source is None or calls[0].result is None:
            return None
        return calls[0]

    def start(self, module: nn.Module) -> int:
        """Return when a module began that `only` finds."""
        call = self.only(module)
        assert call is not None, "the caller has found it"
        return call.start


@contextmanager
def recorded(model: nn.Module) -> Iterator[Recording]:
    """Record all calls of a model's modules."""
    recording, clock = Recording(), iter(range(2**62))
    handles: list[Any] = []

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = [one.detach().clone() for one in (*args, *kwargs.values()) if isinstance(one, Tensor)]
        source = input_tensor(args, kwargs)
        recording.calls[module].append(Call(None if source is None else source.detach().clone(), given, next(clock)))

    def after(module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        call, result = recording.calls[module][-1], output_tensor(output)
        call.end = next(clock)
        call.result = None if result is None else result.detach().clone()

    try:
        for module in model.modules():
            handles += [module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after)]
        yield recording
    finally:
        for handle in handles:
            handle.remove()


def input_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return the tensor that a module computes on: its first argument, or the keyword argument in its place."""
    named = ([kwargs["hidden_states"]] if "hidden_states" in kwargs else []) + list(kwargs.values())
    return next((one for one in (*args[:1], *named) if isinstance(one, Tensor)), None)


def output_tensor(output: Any) -> Tensor | None:
    """Return a module's result, or the first part of it."""
    if isinstance(output, Tensor):
        return output
    first = output[0] if isinstance(output, tuple | list) and output else None
    return first if isinstance(first, Tensor) else None


def with_input(
    args: tuple[Any, ...], kwargs: dict[str, Any], old: Tensor, new: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return arguments with another tensor in the place of one."""
    changed = tuple(new if one is old else one for one in args)
    return changed, {name: new if one is old else one for name, one in kwargs.items()}


def with_output(output: Any, new: Tensor) -> Any:
    """Return a result with another tensor in the place of its first one."""
    if isinstance(output, Tensor):
        return new
    return type(output)([new, *output[1:]]) if isinstance(output, list) else (new, *output[1:])


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Return whether two tensors have the same numbers in the same order, in any shape."""
    return a is not None and b is not None and a.numel() == b.numel() and torch.equal(a.flatten(), b.flatten())


Forward = Callable[[], Tensor]
"""Computes a short forward pass; returns float32 logits, shape (tokens, vocab)."""
