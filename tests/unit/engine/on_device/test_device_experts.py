"""Experts on a device are those of transformers, however few tokens there are, and no step copies a layer of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

from workbench.engine.on_device.dense import DenseMatrix
from workbench.engine.on_device.experts import FEW_TOKENS, mix_experts

HIDDEN, INNER, ACTIVE = 24, 20, 2


class Largest(TorchDispatchMode):
    """Records how many numbers the largest tensor has that is computed, views apart."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, _: Any, given: Any = (), named: Any = None) -> Any:
        found = function(*given, **(named or {}))
        for one in found if isinstance(found, tuple | list) else (found,):
            if isinstance(one, Tensor) and not function.is_view:
                self.numbers = max(self.numbers, one.numel())
        return found


def oracle(experts: int, *, norms: bool) -> Any:
    sizes: dict[str, Any] = {"hidden_size": HIDDEN, "moe_intermediate_size": INNER, "num_experts": experts}
    config: Any = transformers.Qwen3MoeConfig(**sizes, num_experts_per_tok=ACTIVE, norm_topk_prob=norms)
    config._experts_implementation = "eager"
    block: Any = Qwen3MoeSparseMoeBlock(config).eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return block


def held(block: Any, experts: int, *, norms: bool) -> tuple[Any, Any]:
    """The structure and the weights that the reader makes of a block."""
    gates, ups = block.experts.gate_up_proj.detach().chunk(2, 1)
    structure = SimpleNamespace(experts=experts, active_experts=ACTIVE, normalizes_experts=norms)
    return structure, SimpleNamespace(
        router=DenseMatrix(block.gate.weight.detach()),
        gate_up=[DenseMatrix(torch.cat([gates, ups]).flatten(0, 1))],
        down=DenseMatrix(block.experts.down_proj.detach().flatten(0, 1)),
    )


def test_any_number_of_tokens_passes_the_experts_of_transformers_without_a_copy_of_a_layer() -> None:
    torch.manual_seed(0)
    for experts in (4, 64):
        for norms in (True, False):
            block = oracle(experts, norms=norms)
            structure, weights = held(block, experts, norms=norms)
            for rows in (1, 2, 8, FEW_TOKENS, FEW_TOKENS + 3):
                given = torch.randn(rows, 1, HIDDEN)
                with torch.inference_mode():
                    expected = block(given)
                    with Largest() as largest:  # type: ignore[no-untyped-call]
                        found = mix_experts(structure, weights, given, F.silu)
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
                assert largest.numbers < experts * INNER * HIDDEN, "as many as one matrix of all experts"


def test_an_expert_that_overflows_harms_no_token_that_did_not_choose_it() -> None:
    torch.manual_seed(0)
    block = oracle(4, norms=True)
    structure, weights = held(block, 4, norms=True)
    given = torch.randn(FEW_TOKENS, 1, HIDDEN)
    block.experts.down_proj.data[2] = torch.inf
    _, _, chosen = block.gate(given)
    with torch.inference_mode():
        found = mix_experts(structure, weights, given, F.silu)
    assert torch.equal(found.isfinite().all(-1).flatten(), ~(chosen == 2).any(-1))
    assert 0 < int((chosen == 2).any(-1).sum()) < FEW_TOKENS
