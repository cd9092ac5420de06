"""The packed weights of a model as kernels read them: by address, and with the numbers of their structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from workbench.engine.block_structure import BlockStructure
from workbench.engine.kernels.activation import ACTIVATION_IDS
from workbench.engine.kernels.matrix import Matrix
from workbench.engine.kernels.step_memory import (
    HEAD_NORM,
    LAYER_NORM,
    NO_NORM,
    PROJECTION_NORM,
    RMS_NORM,
    Shape,
    Weights,
)
from workbench.engine.model_weights import Block, ModelWeights

_QK_NORMS = {"none": NO_NORM, "head": HEAD_NORM, "own_heads": HEAD_NORM, "projection": PROJECTION_NORM}

PackedWeights: TypeAlias = ModelWeights[Matrix]


def kernel_weights(weights: PackedWeights) -> Weights:
    """Return the addresses that kernels read; the caller keeps the weights alive."""
    layers = weights.structure.layers[: len(weights.blocks)]
    linears = [_linears(block, weights.structure) for block in weights.blocks]
    norms = [[(0, 0) if norm is None else norm.addresses for norm in block.norms] for block in weights.blocks]
    rotary = [-1 if layer.rotary is None else layer.rotary for layer in layers]
    return Weights(
        linears=np.array(linears, np.int64).reshape(-1, 7, 5),
        norms=np.array([*norms, [weights.final_norm.addresses, *[(0, 0)] * 4]], np.int64),
        layers=np.array(
            [[index, layer.window, layer.chunk] for index, layer in zip(rotary, layers, strict=True)], np.int64
        ).reshape(-1, 3),
        routers=np.array(
            [block.router.descriptor if block.router else [0] * 5 for block in weights.blocks], np.int64
        ).reshape(-1, 5),
        attention_scales=np.array([layer.attention_scale for layer in layers], np.float32),
        embedding=np.array(weights.embedding.descriptor, np.int64),
        positions=np.array(weights.positions.descriptor if weights.positions else [0] * 5, np.int64),
        head=np.array(weights.head.descriptor, np.int64),
    )


def _linears(block: Block[Matrix], structure: BlockStructure) -> list[list[int]]:
    """Return the descriptors of a layer's linear layers, in the order of `Weights.linears`."""
    sizes = [heads * structure.head_dim for heads in (structure.heads, structure.kv_heads, structure.kv_heads)]
    inner = structure.inner * (structure.experts or 1)
    return [
        *_descriptors(block.qkv, sizes),
        block.output.descriptor,
        *_descriptors(block.gate_up, [inner, inner]),
        block.down.descriptor,
    ]


def _descriptors(matrices: Sequence[Matrix], sizes: Sequence[int]) -> list[list[int]]:
    """Return the descriptors of parts, each a matrix, or all in one matrix, one after the other."""
    if len(matrices) == len(sizes):
        return [matrix.descriptor for matrix in matrices]
    (joined,) = matrices
    return [joined.descriptor_from(sum(sizes[:part])) for part in range(len(sizes))]


def kernel_shape(structure: BlockStructure) -> Shape:
    """Return the numbers by which kernels know a structure, each of one type, so that they are compiled once."""
    return Shape(
        layers=len(structure.layers),
        hidden=structure.hidden,
        inner=structure.inner,
        vocab=structure.vocab,
        heads=structure.heads,
        kv_heads=structure.kv_heads,
        head_dim=structure.head_dim,
        eps=float(structure.norm_eps),
        norm=LAYER_NORM if structure.norm == "layer" else RMS_NORM,
        qk_norm=_QK_NORMS[structure.qk_norm],
        activation=ACTIVATION_IDS[structure.activation],
        is_gated=structure.is_gated,
        is_parallel=structure.is_parallel,
        experts=structure.experts,
        active_experts=structure.active_experts,
        normalizes_experts=structure.normalizes_experts,
        rotary_dim=structure.rotary_dim,
        attention_cap=float(structure.attention_cap),
        embedding_scale=float(structure.embedding_scale),
        residual_scale=float(structure.residual_scale),
        logit_scale=float(structure.logit_scale),
        logit_cap=float(structure.logit_cap),
    )
