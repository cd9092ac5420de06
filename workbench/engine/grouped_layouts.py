"""Layouts of matrices of 4 bits in groups: which tensors a matrix of GPTQ, AWQ or compressed-tensors has, in shapes.

All three store ``weight = scale * (q - zero)``, with q from 0 to 15, and differ in how eight q share one int32 word:

==================  ============================  ================================  =======================
layout              q: tensor, shape, word        zero: tensor, shape, word         scale: tensor, shape
==================  ============================  ================================  =======================
GPTQ                ``qweight``, (in / 8, out),   ``qzeros``, (groups, out / 8),    ``scales``, (groups, out)
                    8 columns, in order           8 rows, in order; less 1
AWQ                 ``qweight``, (in, out / 8),   ``qzeros``, (groups, out / 8),    ``scales``, (groups, out)
                    8 rows, 0 2 4 6 1 3 5 7       8 rows, 0 2 4 6 1 3 5 7
compressed-tensors  ``weight_packed``,            ``weight_zero_point``,            ``weight_scale``,
                    (out, in / 8), 8 columns,     (out / 8, groups), 8 rows, in     (out, groups)
                    in order                      order; without one, 8
==================  ============================  ================================  =======================

The first number is in the lowest bits. GPTQ's second version, ``gptq_v2``, stores zeros as they are. `grouped_formats`
reads them. Nothing here needs torch, so that models can be listed without loading it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from workbench.engine.weight_sizes import GROUP
from workbench.errors import ModelFormatError

PER_WORD = 8
"""Numbers of 4 bits in a word of 32."""

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""Shapes of tensors by name; those of one matrix by the ends of their names, such as ``qweight``."""


@dataclass(frozen=True, slots=True)
class Gptq:
    """The layout of GPTQ.

    Args:
        zero_offset: number to add to the stored zeros.
    """

    zero_offset: int

    name = "GPTQ"
    q_name = "qweight"
    other_names = ("qzeros", "scales", "g_idx")

    def shape(self, shapes: Shapes) -> tuple[int, int] | None:
        """Return the shape of a matrix, (rows, columns); None if its tensors do not match each other."""
        words, rows = shapes["qweight"]
        return _matching(shapes, rows, words * PER_WORD)


@dataclass(frozen=True, slots=True)
class Awq:
    """The layout of AWQ, in its version for matrix products (``gemm``)."""

    name = "AWQ"
    q_name = "qweight"
    other_names = ("qzeros", "scales")

    def shape(self, shapes: Shapes) -> tuple[int, int] | None:
        """Return the shape of a matrix, (rows, columns); None if its tensors do not match each other."""
        columns, words = shapes["qweight"]
        return _matching(shapes, words * PER_WORD, columns)


@dataclass(frozen=True, slots=True)
class CompressedTensors:
    """The layout of compressed-tensors that is named ``pack-quantized``."""

    name = "compressed-tensors"
    q_name = "weight_packed"
    other_names = ("weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx")

    def shape(self, shapes: Shapes) -> tuple[int, int] | None:
        """Return the shape of a matrix, (rows, columns); None if its tensors do not match each other."""
        rows, words = shapes["weight_packed"]
        scale, zero = shapes.get("weight_scale", ()), shapes.get("weight_zero_point")
        if len(scale) != 2 or scale[0] != rows or "weight_g_idx" in shapes:
            return None
        if zero is not None and zero != (-(-rows // PER_WORD), scale[1]):
            return None
        return (rows, words * PER_WORD) if _is_whole(words * PER_WORD, scale[1]) else None


GroupedLayout: TypeAlias = Gptq | Awq | CompressedTensors
"""A layout in which each matrix is stored as several tensors.

``q_name`` is the end of the name of the tensor with q, which each matrix has; ``other_names`` are the ends of the names
of the others, some of which may be missing.
"""

REORDERED = (
    "its columns are in the order of their activations (desc_act), so that the columns of a group are not beside each "
    "other"
)
"""Reason to refuse a matrix of GPTQ."""

ADVICE = (
    "Choose the repository of the unquantized model and a precision such as int4; or a quantized one of 4 bits in "
    "groups of 128, from GPTQ (without desc_act), AWQ (gemm) or compressed-tensors (pack-quantized)."
)
"""What to do when a quantized folder is refused."""


def matrices(stored: GroupedLayout, shapes: Shapes) -> dict[str, dict[str, str]]:
    """Return the tensors of each matrix: by its name, which ends in ``weight``, those by the ends of their names."""
    found = {}
    for name in shapes:
        prefix, point, end = name.rpartition(".")
        if point and end == stored.q_name and len(shapes[name]) == 2:
            parts = {part: f"{prefix}.{part}" for part in (end, *stored.other_names)}
            found[f"{prefix}.weight"] = {part: full for part, full in parts.items() if full in shapes}
    return found


def dense_shapes(stored: GroupedLayout, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of a folder's weights as if its matrices were not quantized.

    Raises:
        ModelFormatError: the tensors of a matrix do not match each other, or have groups that are not supported.
    """
    dense = dict(shapes)
    for name, parts in matrices(stored, shapes).items():
        shape = stored.shape({part: shapes[full] for part, full in parts.items()})
        if shape is None:
            described = ", ".join(f"{part} {tuple(shapes[full])}" for part, full in parts.items())
            raise ModelFormatError(
                f"{name} is stored in a way that is not supported ({stored.name}: {described}); supported are 4 bits "
                f"in groups of {GROUP}, 64, 128 or more columns that are beside each other. {ADVICE}"
            )
        for full in parts.values():
            del dense[full]
        dense[name] = shape
    return dense


def mxfp4_shapes(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of weights as transformers unpacks those in the format mxfp4.

    A matrix is stored as ``NAME_blocks``, shape (experts, rows, groups, 16), with two numbers of 4 bits in a byte, and
    ``NAME_scales``, shape (experts, rows, groups). It becomes ``NAME``, shape (experts, columns, rows).
    """
    unpacked = dict(shapes)
    for name, shape in shapes.items():
        matrix = name.removesuffix("_blocks")
        if matrix != name and len(shape) > 2 and shapes.get(f"{matrix}_scales") == shape[:-1]:
            *outer, rows, groups, nbytes = shape
            del unpacked[name], unpacked[f"{matrix}_scales"]
            unpacked[matrix] = (*outer, groups * nbytes * 2, rows)
    return unpacked


def _matching(shapes: Shapes, rows: int, columns: int) -> tuple[int, int] | None:
    """Return (rows, columns) if the other tensors of GPTQ or AWQ have the shapes that follow from q."""
    scales = shapes.get("scales", ())
    if len(scales) != 2 or scales[1] != rows or rows % PER_WORD or not _is_whole(columns, scales[0]):
        return None
    if shapes.get("qzeros") != (scales[0], rows // PER_WORD) or shapes.get("g_idx", (columns,)) != (columns,):
        return None
    return rows, columns


def _is_whole(columns: int, groups: int) -> bool:
    """Return whether all groups have one number of columns, a multiple of 32."""
    return groups > 0 and columns > 0 and columns % (groups * GROUP) == 0
