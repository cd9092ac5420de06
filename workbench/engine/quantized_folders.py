"""Quantized model folders: checks that read some of their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open

from workbench.engine.grouped_formats import is_in_order
from workbench.engine.grouped_layouts import ADVICE, REORDERED, Gptq, GroupedLayout, Shapes, matrices
from workbench.errors import ModelFormatError


def zero_biases(stored: GroupedLayout | None, file_of: Mapping[str, Path], shapes: Shapes) -> set[str]:
    """Return biases of zero that a quantizer has added to the matrices of a folder.

    Old versions of GPTQ gave every matrix a bias. Those of one kind of module, such as all ``up_proj``, are added ones
    if all of them are zero.

    Args:
        file_of: the file of each tensor.
    """
    if not isinstance(stored, Gptq):
        return set()
    kinds: dict[str, list[str]] = {}
    for name in matrices(stored, shapes):
        bias = name.removesuffix("weight") + "bias"
        if bias in shapes:
            kinds.setdefault(name.split(".")[-2], []).append(bias)
    return {
        bias
        for biases in kinds.values()
        if not any(_has_numbers(file_of[one], one) for one in biases)
        for bias in biases
    }


def _has_numbers(path: Path, name: str) -> bool:
    """Return whether a tensor has a number other than zero."""
    with safe_open(path, framework="pt") as file:
        return bool(file.get_tensor(name).any())


def check_decoder(folder: Path, stored: GroupedLayout | None, *, is_fused: bool) -> None:
    """Raise `ModelFormatError` if a quantized folder's model cannot be read: by the fast step, and exactly."""
    if stored is None:
        return
    if not is_fused:
        raise ModelFormatError(
            f"{folder} has weights quantized by {stored.name}, which are supported only for the architectures of the "
            f"fast step and with exactly their tensors. Choose the repository of the unquantized model."
        )
    for path in sorted(folder.glob("*.safetensors")):
        if name := _reordered(path):
            raise ModelFormatError(f"{name} in {path} is not supported: {REORDERED}. {ADVICE}")


def _reordered(path: Path) -> str | None:
    """Return the first matrix of GPTQ in a file whose columns are not in the order of their groups."""
    with safe_open(path, framework="pt") as file:
        names: set[str] = set(file.keys())
        for name in sorted(name for name in names if name.endswith(".g_idx")):
            zeros = f"{name.removesuffix('g_idx')}qzeros"
            if zeros in names and not is_in_order(file.get_tensor(name), file.get_slice(zeros).get_shape()[0]):
                return name.removesuffix(".g_idx")
    return None
