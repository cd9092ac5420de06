"""Judges of the numbers inside a forward pass: transformers' own outputs, and hooks on modules named here by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.engine.insides.taps import Captured, Taps
from workbench.insides import Point, PointEdit

TOLERANCE = 1e-4

Taken = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Names:
    """Where a family has its numbers: paths of modules within a layer, with ``<`` for inputs and ``>`` for outputs."""

    layers: str
    embedding: str
    paths: Mapping[str, str]
    taken: Mapping[str, Taken] = field(default_factory=dict)
    """Which of a token's numbers they are, where it is not all of them."""
    is_parallel: bool = False


def _values(heads: int, parts: int, part: int) -> Taken:
    """Values within a projection: of each head, its last part."""
    return lambda rows: rows.view(len(rows), heads, parts, -1)[:, :, part]


def _codegen_values(rows: Tensor) -> Tensor:
    """Four blocks of queries, values and keys."""
    return rows.view(len(rows), 4, 3, -1)[:, :, 1].flatten(1)


_FC = {
    "z": "self_attn.out_proj<",
    "value": "self_attn.v_proj>",
    "attn_out": "self_attn.out_proj>",
    "attn_in": "self_attn_layer_norm>",
    "resid_mid": "final_layer_norm<",
    "mlp_in": "final_layer_norm>",
    "mlp_pre": "fc1>",
    "mlp_act": "fc2<",
    "mlp_out": "fc2>",
}
_LLAMA = {
    "attn_in": "input_layernorm>",
    "value": "self_attn.v_proj>",
    "z": "self_attn.o_proj<",
    "attn_out": "self_attn.o_proj>",
    "resid_mid": "post_attention_layernorm<",
    "mlp_in": "post_attention_layernorm>",
    "mlp_pre": "mlp.gate_proj>",
    "mlp_act": "mlp.down_proj<",
    "mlp_out": "mlp.down_proj>",
}
_UP = _LLAMA | {"mlp_pre": "mlp.up_proj>"}
_GPT2 = {
    "attn_in": "ln_1>",
    "value": "attn.c_attn>",
    "z": "attn.c_proj<",
    "attn_out": "attn.c_proj>",
    "resid_mid": "ln_2<",
    "mlp_in": "ln_2>",
    "mlp_pre": "mlp.c_fc>",
    "mlp_act": "mlp.c_proj<",
    "mlp_out": "mlp.c_proj>",
}
_BLOOM = {
    "attn_in": "input_layernorm>",
    "value": "self_attention.query_key_value>",
    "z": "self_attention.dense<",
    "attn_out": "self_attention.dense>",
    "resid_mid": "post_attention_layernorm<",
    "mlp_in": "post_attention_layernorm>",
    "mlp_pre": "mlp.dense_h_to_4h>",
    "mlp_act": "mlp.dense_4h_to_h<",
    "mlp_out": "mlp.dense_4h_to_h>",
}
_GPTJ = {
    "attn_in": "ln_1>",
    "value": "attn.v_proj>",
    "z": "attn.out_proj<",
    "attn_out": "attn.out_proj>",
    "mlp_in": "ln_1>",
    "mlp_pre": "mlp.fc_in>",
    "mlp_act": "mlp.fc_out<",
    "mlp_out": "mlp.fc_out>",
}
_WITHOUT = {kind: path for kind, path in _BLOOM.items() if kind not in ("resid_mid", "mlp_in")}

GENERAL: dict[str, Names] = {
    "apertus": Names(
        "model.layers", "model.embed_tokens",
        _UP | {
            "attn_in": "attention_layernorm>", "resid_mid": "feedforward_layernorm<",
            "mlp_in": "feedforward_layernorm>",
        },
    ),
    "arcee": Names("model.layers", "model.embed_tokens", _UP),
    "biogpt": Names("biogpt.layers", "biogpt.embed_tokens", _FC),
    "bloom": Names("transformer.h", "transformer.word_embeddings", _BLOOM, {"value": _values(4, 3, 2)}),
    "codegen": Names(
        "transformer.h", "transformer.wte", _GPTJ | {"value": "attn.qkv_proj>"}, {"value": _codegen_values}, True
    ),
    "falcon": Names(
        "transformer.h", "transformer.word_embeddings", _WITHOUT | {"mlp_in": "input_layernorm>"},
        {"value": lambda rows: rows[:, -16:]}, True,
    ),
    "glm": Names(
        "model.layers", "model.embed_tokens", _LLAMA | {"mlp_pre": "mlp.gate_up_proj>"},
        {"mlp_pre": lambda rows: rows.chunk(2, -1)[0]},
    ),
    "gpt_bigcode": Names("transformer.h", "transformer.wte", _GPT2, {"value": lambda rows: rows[:, -16:]}),
    "gpt_neo": Names(
        "transformer.h", "transformer.wte",
        _GPT2 | {
            "value": "attn.attention.v_proj>", "z": "attn.attention.out_proj<", "attn_out": "attn.attention.out_proj>"
        },
    ),
    "gptj": Names("transformer.h", "transformer.wte", _GPTJ, {}, True),
    "mpt": Names(
        "transformer.blocks", "transformer.wte",
        {
            "attn_in": "norm_1>", "value": "attn.Wqkv>", "z": "attn.out_proj<", "attn_out": "attn.out_proj>",
            "resid_mid": "norm_2<", "mlp_in": "norm_2>", "mlp_pre": "ffn.up_proj>", "mlp_act": "ffn.down_proj<",
            "mlp_out": "ffn.down_proj>",
        },
        {"value": lambda rows: rows.chunk(3, -1)[2]},
    ),
    "nemotron": Names("model.layers", "model.embed_tokens", _UP),
    "olmo": Names("model.layers", "model.embed_tokens", _LLAMA),
    "opt": Names("model.decoder.layers", "model.decoder.embed_tokens", _FC),
    "persimmon": Names(
        "model.layers", "model.embed_tokens",
        {kind: path.replace("self_attention", "self_attn") for kind, path in _BLOOM.items()},
        {"value": _values(4, 3, 2)},
    ),
}  # fmt: skip
"""Families that transformers' own forward computes, by model type; sizes are those of `tests.zoo_models`."""

RECURRENT = ("mamba", "rwkv")

FUSED: dict[str, Names] = {
    "gpt2": Names("transformer.h", "transformer.wte", _GPT2, {"value": lambda rows: rows.chunk(3, -1)[2]}),
    "llama": Names("model.layers", "model.embed_tokens", _LLAMA),
    "qwen2": Names("model.layers", "model.embed_tokens", _LLAMA),
    "qwen3": Names("model.layers", "model.embed_tokens", _LLAMA),
    "gemma3": Names(
        "model.layers", "model.embed_tokens",
        _LLAMA | {"resid_mid": "pre_feedforward_layernorm<", "mlp_in": "pre_feedforward_layernorm>"},
    ),
    "mixtral": Names(
        "model.layers", "model.embed_tokens",
        {kind: path for kind, path in _LLAMA.items() if not kind.startswith("mlp_")}
        | {"mlp_in": "post_attention_layernorm>", "mlp_out": "mlp>"},
    ),
}  # fmt: skip
"""The families of `tests.tiny_models`."""


def judged(model: Any, token_ids: Sequence[int], names: Names) -> dict[Point, Tensor]:
    """The numbers of all points of one forward pass of transformers' model, shape (tokens, ...) flat per token."""
    found: dict[Point, Tensor] = {}
    layers = model.get_submodule(names.layers)
    with _keeping(model, names, found), torch.no_grad():
        output = eager(model)(
            torch.tensor([token_ids]), use_cache=False, output_hidden_states=True, output_attentions=True
        )
        base = model.base_model(torch.tensor([token_ids]), use_cache=False)
    for layer in range(len(layers)):
        found[Point("resid_pre", layer)] = output.hidden_states[layer][0]
        found[Point("attn_probs", layer)] = output.attentions[layer][0].transpose(0, 1)
        if layer:
            found[Point("resid_post", layer - 1)] = output.hidden_states[layer][0]
    found[Point("final_norm")] = base.last_hidden_state[0]
    found[Point("lm_head")] = output.logits[0]
    return found


def eager(model: Any) -> Any:
    """The same model with attention that returns its weights."""
    for config in {id(one.config): one.config for one in model.modules() if hasattr(one, "config")}.values():
        config._attn_implementation = "eager"  # the public setter refuses some families that read it at each call
    return model


@contextmanager
def _keeping(model: Any, names: Names, found: dict[Point, Tensor]) -> Any:
    layers, handles = model.get_submodule(names.layers), []

    def keep(point: Point, taken: Taken) -> Callable[[Tensor], None]:
        def store(tensor: Tensor) -> None:
            found[point] = taken(tensor.detach().clone().flatten(0, -2))

        return store

    for layer, block in enumerate(layers):
        for kind, path in names.paths.items():
            taken = names.taken.get(kind, lambda rows: rows)
            handles.append(hook(block, path, keep(Point(kind, layer), taken)))
    handles.append(hook(model, f"{names.embedding}>", keep(Point("embeddings"), lambda rows: rows)))
    handles.append(hook(layers[-1], ">", keep(Point("resid_post", len(layers) - 1), lambda rows: rows)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def hook(block: Any, path: str, change: Callable[[Tensor], Tensor | None]) -> Any:
    """Call a function with a module's input or output, which is replaced with the result unless that is None."""
    module = block.get_submodule(path[:-1])
    if path.endswith("<"):

        def before(_module: Any, args: Any) -> Any:
            changed = change(args[0])
            return None if changed is None else (changed, *args[1:])

        return module.register_forward_pre_hook(before)

    def after(_module: Any, _args: Any, output: Any) -> Any:
        changed = change(output[0] if isinstance(output, tuple) else output)
        if changed is None:
            return None
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return module.register_forward_hook(after)


def computed(decoder: Any, token_ids: Sequence[int], taps: Taps | None, parts: Sequence[int] = (9, 1, 5)) -> Tensor:
    """Logits of all positions: of prompt parts, and of single steps after them, shape (tokens, vocab)."""
    cache, rows, done = decoder.new_cache(), [], 0
    cache.taps = taps
    with torch.inference_mode():
        for size in parts:
            rows.append(decoder.prefill(token_ids[done : done + size], cache, every_position=True).clone())
            done += size
        rows.extend(decoder.decode([token_id], [cache]).logits.cpu().clone() for token_id in token_ids[done:])
    return torch.cat(rows)


def captured(decoder: Any, token_ids: Sequence[int], parts: Sequence[int] = (9, 1, 5)) -> dict[Point, Tensor]:
    """The numbers of all points of a decoder."""
    points = decoder.points.all()
    found = Captured(points, range(len(token_ids)))
    computed(decoder, token_ids, Taps((), found), parts)
    return {point: torch.from_numpy(found.array(point)) for point in points}


def check_captures(found: Mapping[Point, Tensor], expected: Mapping[Point, Tensor]) -> None:
    """All numbers that both know are equal, and the judge knows all that were read except for scores."""
    for point, values in found.items():
        if point.kind == "attn_scores":
            probs = found[Point("attn_probs", point.layer)]
            assert float((values.softmax(-1) - probs).abs().max()) <= TOLERANCE, point
            continue
        judge = expected[point]
        error = float((values.flatten(1) - judge.flatten(1)).abs().max())
        assert values.flatten(1).shape == judge.flatten(1).shape, point
        assert error <= TOLERANCE * max(1.0, float(judge.abs().max())), f"{point} differs by {error:.2g}"


def write_backs(found: Mapping[Point, Tensor]) -> dict[str, list[PointEdit]]:
    """Edits by kind that set all numbers to those that were read."""
    edits: dict[str, list[PointEdit]] = {}
    for point, values in found.items():
        edits.setdefault(point.kind, []).append(PointEdit(point, "set", values.numpy(), 0, len(values)))
    return edits


def noise(shape: Sequence[int], seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
