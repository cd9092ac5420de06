"""Structures are read from configs, and what a structure does not cover has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional as F

from tests.tiny_models import llama_like
from workbench.engine.families import structure_of
from workbench.engine.kernels.activation import ACTIVATION_IDS, activate
from workbench.engine.kernels.attention import first_position
from workbench.engine.kernels.row_intrinsics import layer_norm, soft_cap

# Typed as Any, for transformers' configs are only partly typed.
configs: Any = transformers


def of(kind: Any, architecture: str, **more: Any) -> Any:
    return structure_of(kind(**llama_like(architectures=[architecture], **more)))


# ------------------------------------------------------------------------------------------------------ structures


@pytest.mark.parametrize("window", [0, 1, 5])
@pytest.mark.parametrize("chunk", [0, 4])
def test_the_first_position_is_that_of_the_mask(window: int, chunk: int) -> None:
    for position in range(20):
        seen = [
            key
            for key in range(position + 1)
            if (not window or key > position - window) and (not chunk or key // chunk == position // chunk)
        ]
        assert list(range(first_position(window, chunk, position), position + 1)) == seen


def test_windows_and_angles_are_those_of_each_layer() -> None:
    types = ["sliding_attention", "full_attention", "sliding_attention"]
    more = {"num_hidden_layers": 3, "head_dim": 8, "sliding_window": 24, "layer_types": types}
    found = of(configs.Gemma3TextConfig, "Gemma3ForCausalLM", **more)
    assert [layer.window for layer in found.layers] == [24, 0, 24]
    assert [found.rotary[layer.rotary] for layer in found.layers] == types


def test_a_window_as_long_as_the_context_is_none() -> None:
    found = of(configs.MistralConfig, "MistralForCausalLM", sliding_window=512)
    assert [layer.window for layer in found.layers] == [0, 0]


def test_layers_without_rotary_positions_are_known() -> None:
    found = of(configs.SmolLM3Config, "SmolLM3ForCausalLM", no_rope_layers=[1, 0])
    assert [layer.rotary for layer in found.layers] == [0, None]


@pytest.mark.parametrize(
    "make",
    [
        lambda: of(configs.LlamaConfig, "SomethingElse"),
        lambda: of(configs.LlamaConfig, "LlamaForCausalLM", hidden_act="tanh"),
        lambda: of(configs.GemmaConfig, "GemmaForCausalLM", use_bidirectional_attention=True),
        lambda: of(configs.Gemma3TextConfig, "Gemma3ForCausalLM", attn_logit_softcapping=5.0),
        lambda: of(configs.MistralConfig, "MistralForCausalLM", layer_types=["full_attention", "sliding_attention"]),
        lambda: of(configs.Qwen3Config, "Qwen3ForCausalLM", layer_types=["full_attention", "chunked_attention"]),
        lambda: structure_of(configs.GPT2Config(architectures=["GPT2LMHeadModel"], add_cross_attention=True)),
    ],
)
def test_what_a_structure_does_not_cover_has_none(make: Callable[[], object]) -> None:
    assert make() is None


# --------------------------------------------------------------------------------------------------------- kernels

TORCH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
}


def called(intrinsic: Any, count: int) -> Any:
    """Return a function that Python can call: numba compiles functions alone, and an intrinsic has a fixed number of
    arguments."""
    names = ", ".join(f"a{index}" for index in range(count))
    make: Any = numba.njit
    return make(eval(f"lambda {names}: intrinsic({names})", {"intrinsic": intrinsic}))


activate_row, cap_row, norm_row = called(activate, 4), called(soft_cap, 3), called(layer_norm, 7)


def spread(count: int) -> torch.Tensor:
    """Numbers of all sizes, and exactly 0."""
    sizes = torch.logspace(-6, 2, count // 2)
    return torch.cat((-sizes, torch.zeros(1), sizes))[:count].contiguous()


@pytest.mark.parametrize("name", TORCH)
def test_an_activation_is_torchs(name: str) -> None:
    x = spread(160)
    out = torch.empty_like(x)
    activate_row(ACTIVATION_IDS[name], x.data_ptr(), out.data_ptr(), 10)
    torch.testing.assert_close(out, TORCH[name](x), rtol=2e-6, atol=5e-7)


@pytest.mark.parametrize("name", TORCH)
def test_an_activation_of_nan_is_nan(name: str) -> None:
    x = torch.full((16,), torch.nan)
    activate_row(ACTIVATION_IDS[name], x.data_ptr(), x.data_ptr(), 1)
    assert x.isnan().all()


@pytest.mark.parametrize("cap", [0.5, 30.0])
def test_a_soft_cap_is_a_scaled_tanh(cap: float) -> None:
    x = spread(160)
    expected = (cap * torch.tanh(x.double() / cap)).float()
    cap_row(x.data_ptr(), np.float32(cap), 10)
    torch.testing.assert_close(x, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("width", [3, 16, 50])
@pytest.mark.parametrize("mean", [0.0, 300.0])
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_layer_norm_is_torchs_and_ignores_the_padding(width: int, mean: float, has_bias: bool) -> None:
    generator = torch.Generator().manual_seed(width)
    x, weight, bias = (torch.zeros(64) for _ in range(3))
    for part in (x, weight, bias):
        part[:width] = torch.randn(width, generator=generator)
    x[:width] += mean
    out = torch.empty(64)
    norm_row(
        x.data_ptr(), 4, width, weight.data_ptr(), bias.data_ptr() if has_bias else 0, np.float32(1e-5), out.data_ptr()
    )
    row = x[:width].double()
    expected = F.layer_norm(row, (width,), weight[:width].double(), bias[:width].double() if has_bias else None)
    torch.testing.assert_close(out[:width].double(), expected, rtol=1e-5, atol=1e-5 * (1 + mean))
    assert not out[width:].any()
