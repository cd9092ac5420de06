"""The last norm and the head of a model of transformers, computed by its own forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.engine.insides.contributions import Unembedding
from workbench.engine.insides.taps import Taps
from workbench.errors import UnsupportedFieldError
from workbench.insides import Point, PointEdit

if TYPE_CHECKING:
    from workbench.engine.decoders import GeneralDecoder

_EPS = 1e-6
"""Of a norm whose module does not tell its own."""
_TOLERANCE = 1e-4


def logits_after(decoder: GeneralDecoder, point: Point, rows: Tensor) -> Tensor:
    """Return the logits that follow from numbers at a point after all layers, float32, shape (rows, vocab).

    A forward pass of as many tokens is computed, in which they take the place of its own.

    Raises:
        UnsupportedFieldError: the model lacks the point.
    """
    decoder.points.check(point, "points")
    cache = decoder.new_cache()
    cache.taps = Taps([PointEdit(point, "set", rows.numpy(), 0, len(rows))])
    return decoder.prefill([0] * len(rows), cache, every_position=True)


def module_unembedding(decoder: GeneralDecoder, norm: nn.Module | None) -> Unembedding:
    """Return the last norm and the head as a sum of parts needs them.

    Args:
        norm: the module of the last norm.

    Raises:
        UnsupportedFieldError: it is neither a root mean square norm nor a layer norm.
    """
    config: Any = decoder.model.config.get_text_config(decoder=True)
    cap = float(getattr(config, "final_logit_softcapping", None) or 0.0)

    def head(normed: Tensor) -> Tensor:
        logits = logits_after(decoder, Point("final_norm"), normed)
        return torch.atanh((logits / cap).clamp(-1 + 1e-7, 1 - 1e-7)) * cap if cap else logits

    found = None if norm is None else _norm(norm, int(config.hidden_size), head, cap)
    if found is None:
        allowed = "a point of a model whose last norm is a root mean square norm or a layer norm"
        raise UnsupportedFieldError("position", type(norm).__name__, allowed)
    return found


@torch.inference_mode()
def _norm(norm: nn.Module, size: int, head: Callable[[Tensor], Tensor], cap: float) -> Unembedding | None:
    """Return a norm's weights, found from what it makes of rows; None if no norm makes that of other rows."""
    parameter = next(norm.parameters(), torch.zeros(0))
    rows = torch.randn(3, size, generator=torch.Generator().manual_seed(0)) * 4.0
    zeros = torch.zeros(1, size)
    normed = norm(torch.cat([rows, zeros]).to(parameter)).float().cpu()
    eps = float(getattr(norm, "variance_epsilon", getattr(norm, "eps", None)) or _EPS)
    bias = normed[-1].double()
    for kind in ("rms", "layer"):
        plain = Unembedding(kind, eps, torch.ones(size), None, head, cap)
        units = torch.stack([plain.normed(row.unsqueeze(0), row)[0] for row in rows.double()])
        weight = (normed[0] - bias) / units[0]
        if torch.allclose(units[1:] * weight + bias, normed[1:3].double(), rtol=_TOLERANCE, atol=_TOLERANCE):
            return Unembedding(kind, eps, weight.float(), bias.float() if bias.any() else None, head, cap)
    return None
