"""The attention weights of any model of torch: its softmaxes, intercepted where torch computes them.

No function of transformers is replaced and no option is changed: the results are what they are without interception.
`scaled_dot_product_attention` keeps no weights, so they are computed again, and a change of them adds its difference.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_SOFTMAXES = frozenset([F.softmax, torch.softmax, Tensor.softmax])


@dataclass(frozen=True, slots=True)
class Weights:
    """The attention weights of consecutive tokens in one module."""

    scores: Tensor
    """Float32, shape (tokens, heads, keys); ``-inf`` where a token does not attend."""
    probs: Tensor
    """Float32, shape (tokens, heads, keys)."""
    normalize: Callable[[Tensor], Tensor]
    """Returns the weights of other scores."""
    sums: Tensor | None = None
    """Sums of the values by the weights, float32 (tokens, heads, head_dim), if torch computed them without keeping the
    weights, which were therefore computed again."""


Visitor: TypeAlias = Callable[[nn.Module, Weights], "Tensor | None"]
"""Returns changed weights, shape (tokens, heads, keys), or None."""


class Softmaxes(TorchFunctionMode):
    """Visits the attention weights of some modules.

    Args:
        modules: those whose softmaxes are visited, each with the number of last columns that are no keys, but sinks.
        tokens: number of tokens of the forward pass.
    """

    def __init__(self, modules: Mapping[nn.Module, int], tokens: int, visit: Visitor) -> None:
        super().__init__()
        self._tokens = tokens
        self._visit = visit
        self._module: nn.Module | None = None
        self._owner = threading.get_ident()  # others may use the model at the same time
        self._modules = modules
        self._handles: list[Any] = []
        self.others: set[nn.Module] = set()
        """Modules with softmaxes of another shape."""

    def __enter__(self) -> Self:
        for module in self._modules:
            self._handles += [module.register_forward_pre_hook(self._begin), module.register_forward_hook(self._finish)]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if self._module is None or not (func is F.scaled_dot_product_attention or func in _SOFTMAXES):
            return func(*args, **given)
        output = func(*args, **given)
        if not self._is_attention(output, is_softmax=func in _SOFTMAXES):
            self.others.add(self._module)
            return output
        if func is F.scaled_dot_product_attention:
            return self._attended(self._module, output, *args, **given)
        return self._normalized(self._module, output, func, args, given)

    def _is_attention(self, output: Tensor, *, is_softmax: bool) -> bool:
        """Return whether a result has rows of all tokens for each head of one sequence."""
        rows = output.shape[-2] if output.dim() in ((3, 4) if is_softmax else (4,)) else 0
        return rows > 0 and self._tokens in (1, rows) and output.shape[:-3].numel() == 1

    def _begin(self, module: nn.Module, _args: Any) -> None:
        if threading.get_ident() == self._owner:
            self._module = module

    def _finish(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        if threading.get_ident() == self._owner:
            self._module = None

    def _normalized(
        self, module: nn.Module, output: Tensor, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        """Return the result of a softmax after its visit."""
        given = kwargs["input"] if "input" in kwargs else args[0]
        keys = given.shape[-1] - self._modules[module]
        hidden = _is_masked(given[..., :keys])
        scores = given[..., :keys].float().masked_fill(hidden, -torch.inf)

        def normalize(other: Tensor) -> Tensor:
            changed = torch.where(hidden, given[..., :keys], self._unfolded(other, given).to(given.dtype))
            whole = torch.cat((changed, given[..., keys:]), -1)
            options = {name: value for name, value in kwargs.items() if name != "input"}
            return self._folded(func(whole, *args[1:], **options)[..., :keys].float())

        weights = Weights(self._folded(scores), self._folded(output[..., :keys].float()), normalize)
        changed = self._visit(module, weights)
        if changed is None:
            return output
        return torch.cat((self._unfolded(changed, output).to(output.dtype), output[..., keys:]), -1)

    def _attended(
        self, module: nn.Module, output: Tensor, query: Tensor, key: Tensor, value: Tensor,
        attn_mask: Tensor | None = None, _dropout: float = 0.0, is_causal: bool = False,
        scale: float | None = None, **_more: Any,
    ) -> Tensor:  # fmt: skip
        """Return the result of torch's attention after the visit of weights that are computed again."""
        group = query.shape[1] // key.shape[1]
        keys, values = (one.float().repeat_interleave(group, 1) for one in (key, value))
        scores = query.float() @ keys.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            scores = scores.masked_fill(torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1), -torch.inf)
        if attn_mask is not None:
            is_bool = attn_mask.dtype == torch.bool
            hidden = ~attn_mask if is_bool else _is_masked(attn_mask)
            scores = (scores if is_bool else scores + attn_mask).masked_fill(hidden, -torch.inf)
        probs = scores.softmax(-1)
        folded = (self._folded(scores), self._folded(probs))
        weights = Weights(*folded, lambda other: other.softmax(-1), self._folded(output.float()))
        changed = self._visit(module, weights)
        if changed is None:
            return output
        return output + ((self._unfolded(changed, probs) - probs) @ values).to(output.dtype)

    def _folded(self, values: Tensor) -> Tensor:
        """Return numbers of shape (..., heads, tokens, keys) as (tokens, heads, keys).

        Query heads that share keys may be in the place of the tokens if there is but one token.
        """
        if self._tokens == 1:
            return values.reshape(1, -1, values.shape[-1])
        return values.reshape(-1, self._tokens, values.shape[-1]).transpose(0, 1)

    def _unfolded(self, values: Tensor, like: Tensor) -> Tensor:
        """Return numbers of shape (tokens, heads, keys) in the shape of a tensor, except for the number of keys."""
        shape = (*like.shape[:-1], values.shape[-1])
        return values.reshape(shape) if self._tokens == 1 else values.transpose(0, 1).reshape(shape)


def _is_masked(scores: Tensor) -> Tensor:
    """Return where an additive mask hides a key: the least number of its dtype, maybe divided with the scores."""
    return scores <= torch.finfo(scores.dtype).min / 64
