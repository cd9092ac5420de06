"""Quantization of the linear layers of a model of transformers, in place."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from workbench.engine.precision import Linear, Precision, quantize
from workbench.engine.weights import Blocks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_METADATA = frozenset({"dtype", "shape", "device"})
"""Attributes of a weight that a meta tensor has, too."""


class _QuantizedModule(nn.Module):
    """A quantized linear layer that replaces an ``nn.Linear``."""

    def __init__(self, linear: Linear, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.linear = linear
        self.out_features, self.in_features = weight.shape
        self.weight = weight.to("meta")
        """Meta tensor, for models that read a weight's dtype or shape."""
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(0, -2).contiguous()  # (batch * tokens, in)
        product: torch.Tensor = self.linear(rows).unflatten(0, x.shape[:-1])
        return product


@cache
def _read_weights(module: str) -> frozenset[str]:
    """Return names of layers whose weights a model's code uses directly, instead of calling the layer."""
    found: set[str] = set()
    metadata_only: set[ast.AST] = set()
    waiting: list[ast.AST] = [ast.parse(inspect.getsource(sys.modules[module]))]
    while waiting:  # parents first, so that a weight's metadata accesses are known before the weight is visited
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef) and node.name == "_init_weights":
            continue
        if isinstance(node, ast.Attribute) and node.attr in _METADATA:
            metadata_only.add(node.value)
        if isinstance(node, ast.Attribute) and node.attr == "weight" and node not in metadata_only:
            found |= {node.value.attr} if isinstance(node.value, ast.Attribute) else set()
        waiting += ast.iter_child_nodes(node)
    return frozenset(found)


def quantize_linears(model: PreTrainedModel, precision: Precision, *, keep_bf16: bool) -> None:
    """Quantize all linear layers except the output head, which needs its exactness most."""
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    for parent in list(model.modules()):
        module = type(parent).__module__
        for name, child in list(parent.named_children()):
            # A subclass of a linear layer may compute something else, such as the routing of experts.
            if child is head or type(child) not in (nn.Linear, Conv1D) or name in _read_weights(module):
                continue
            layer: Any = child
            weight: torch.Tensor = layer.weight.detach()
            weight = weight.T.contiguous() if isinstance(child, Conv1D) else weight  # Conv1D is (in, out)
            linear = quantize(weight, layer.bias, precision, partial(Blocks.of, weight), keep_bf16=keep_bf16)
            setattr(parent, name, _QuantizedModule(linear, weight, layer.bias))
