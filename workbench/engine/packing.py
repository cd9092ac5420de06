"""Packing of a model's files for the fused decoder.

The structure decides whether the fused decoder serves a model: the architecture's name, the options of its config, and
exactly the expected tensors. The general decoder serves all other models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor

from workbench.engine.adapted_weights import AdaptedWeights
from workbench.engine.adapters import Adapter
from workbench.engine.block_structure import BlockStructure, expected_tensors
from workbench.engine.families import structure_of
from workbench.engine.fused import FusedDecoder
from workbench.engine.gguf_weights import GgufWeights, check_gguf_tensors, is_gguf
from workbench.engine.kernels.simd import ROWS
from workbench.engine.matrix_packing import MatrixPacker
from workbench.engine.model_reading import WeightReader
from workbench.engine.packed_models import PackedParts
from workbench.engine.precision import Precision, compute_dtype
from workbench.engine.rotary_table import Rotary
from workbench.engine.weights import Checkpoint, WeightFiles
from workbench.machine import thread_count

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def is_packable(structure: BlockStructure) -> bool:
    """Return whether threads can share the rows of the MLP, and of experts, in whole groups."""
    return structure.inner % ROWS == 0 and (not structure.experts or structure.hidden % ROWS == 0)


def _folder_structure(folder: Path, config: PreTrainedConfig) -> BlockStructure | None:
    """Return the structure of a folder's model; GGUF files have the matrices of all architectures as (out, in)."""
    structure = structure_of(config)
    return replace(structure, is_transposed=False) if structure is not None and is_gguf(folder) else structure


def served_structure(
    folder: Path, config: PreTrainedConfig, shapes: Mapping[str, tuple[int, ...]]
) -> BlockStructure | None:
    """Return the structure of a folder's model, or None if only transformers' own forward computes it.

    Raises:
        ModelFormatError: it is a GGUF file, which transformers' forward does not compute; the message says why.
    """
    structure = _folder_structure(folder, config)
    if not is_gguf(folder):
        return structure if structure is not None and _has_structure(structure, shapes) else None
    is_covered = structure is not None and is_packable(structure)
    expected = expected_tensors(structure) if structure is not None and is_covered else None
    check_gguf_tensors(folder, expected, is_tied=structure is not None and structure.is_tied)
    return structure


def _has_structure(structure: BlockStructure, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether the tensors of a model, by name and shape, are exactly those of a structure."""
    expected, unused = expected_tensors(structure), structure.names.unused
    head = f"{structure.names.head}.weight"
    named = {structure.full_name(name): shape for name, shape in shapes.items() if not name.endswith(unused)}
    names = {*named, head} if structure.is_tied else set(named)
    return names == set(expected) and all(named[name] == expected[name] for name in named)


def pack(
    folder: Path,
    config: PreTrainedConfig,
    precision: Precision,
    parts: PackedParts | None = None,
    *,
    adapter: Adapter | None = None,
) -> FusedDecoder:
    """Return the fused decoder of a model folder whose structure is packable.

    Args:
        parts: parts that were packed before; all others are added to it.
        adapter: adapter that is merged into the weights before they are packed.
    """
    structure, parts = _folder_structure(folder, config), parts or PackedParts()
    assert structure is not None, "the caller has checked that it fits"
    with opened(folder, structure.full_name, adapter) as files:
        matrices = MatrixPacker(structure, files, precision, parts)
        weights = WeightReader(structure, files, matrices).weights()
    return FusedDecoder(
        weights,
        rotary=rotary_versions(config, structure, parts),
        dtype=compute_dtype(precision),
        context_length=config.max_position_embeddings,
        threads=thread_count(),
    )


@contextmanager
def opened(folder: Path, full_name: Callable[[str], str], adapter: Adapter | None = None) -> Iterator[Checkpoint]:
    """Open the weights of a model folder, which are in its safetensors files or in a GGUF file.

    Args:
        full_name: function from a tensor's name in transformers to the name by which it is found.
        adapter: adapter that is merged into the weights as they are read, in float32.
    """
    with GgufWeights(folder, full_name) if is_gguf(folder) else WeightFiles(folder, full_name) as weights:
        if adapter is None:
            yield weights
            return
        with safe_open(adapter.weights, framework="pt") as tensors:
            yield AdaptedWeights(weights, adapter, tensors, full_name)


def rotary_versions(
    config: PreTrainedConfig, structure: BlockStructure, parts: PackedParts | None = None
) -> list[list[Rotary]]:
    """Return the sets of angles, in one version or in that of short and that of long texts."""
    lengths = [None, structure.rotary_border + 1] if structure.rotary_border else [None]
    kinds, width = structure.rotary, structure.rotary_dim
    return [[ConfigRotary(config, width, kind, length, parts) for kind in kinds] for length in lengths]


class ConfigRotary:
    """Rotary cosines and sines, equal to the bit to those of transformers' module, whose import takes two seconds.

    Args:
        width: number of rotated components of a head.
        layer_type: the layers with these angles, if the config has several sets.
        length: length of the text in tokens, where angles depend on it; None for those of the shortest texts.
        parts: of a stored model, which has the frequencies of scaled types.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        width: int,
        layer_type: str | None = None,
        length: int | None = None,
        parts: PackedParts | None = None,
    ) -> None:
        rope: dict[str, Any] = config.rope_parameters if layer_type is None else config.rope_parameters[layer_type]
        self._scale = 1.0
        if rope["rope_type"] == "default":
            steps = torch.arange(0, width, 2, dtype=torch.float) / width
            self._frequencies = 1.0 / (rope["rope_theta"] ** steps)  # (width / 2,)
        else:
            self._frequencies, self._scale = (parts or PackedParts()).rotary(
                f"rotary {layer_type} {length}", lambda: _scaled_rotary(config, rope["rope_type"], layer_type, length)
            )

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of integer positions, float32, shape (positions, width) each."""
        angles = positions[:, None].float() * self._frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos() * self._scale, angles.sin() * self._scale


def _scaled_rotary(
    config: PreTrainedConfig, rope_type: str, layer_type: str | None, length: int | None
) -> tuple[Tensor, float]:
    """Return the frequencies of a scaled rotary type, shape (width / 2,), and the scale of cosines and sines."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    options: dict[str, Any] = {} if layer_type is None else {"layer_type": layer_type}
    frequencies, scale = ROPE_INIT_FUNCTIONS[rope_type](config, seq_len=length, **options)
    return frequencies, scale
