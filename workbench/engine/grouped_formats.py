"""Matrices of 4 bits in groups that share a scale and a zero, in the formats of GPTQ, AWQ and compressed-tensors.

All three store ``weight = scale * (q - zero)``, with q from 0 to 15, and differ in how eight q share one int32 word:

==================  ============================  ================================  =======================
format              q: tensor, shape, word        zero: tensor, shape, word         scale: tensor, shape
==================  ============================  ================================  =======================
GPTQ                ``qweight``, (in / 8, out),   ``qzeros``, (groups, out / 8),    ``scales``, (groups, out)
                    8 columns, in order           8 rows, in order; less 1
AWQ                 ``qweight``, (in, out / 8),   ``qzeros``, (groups, out / 8),    ``scales``, (groups, out)
                    8 rows, 0 2 4 6 1 3 5 7       8 rows, 0 2 4 6 1 3 5 7
compressed-tensors  ``weight_packed``,            ``weight_zero_point``,            ``weight_scale``,
                    (out, in / 8), 8 columns,     (out / 8, groups), 8 rows, in     (out, groups)
                    in order                      order; without one, 8
==================  ============================  ================================  =======================

The first number is in the lowest bits. GPTQ's second version, ``gptq_v2``, stores zeros as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from workbench.engine.weight_sizes import GROUP
from workbench.errors import ModelFormatError

PER_WORD = 8
"""Numbers of 4 bits in a word of 32."""

_AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Place in a word of AWQ, counted from the lowest bits, of each of its eight rows."""

_SHIFTS = torch.arange(0, 32, 4, dtype=torch.int32)

Read = Callable[[str], Tensor]
"""Function from the end of a tensor's name, such as ``qweight``, to the tensor of one matrix."""

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of the tensors of one matrix, by the ends of their names."""


@dataclass(frozen=True, slots=True)
class Groups:
    """A matrix of 4 bits: ``scale * (q - zero)`` for groups of columns of each row."""

    q: Tensor
    """uint8 from 0 to 15, shape (rows, columns)."""
    scale: Tensor
    """float32, shape (rows, groups)."""
    zero: Tensor
    """float32, shape (rows, groups)."""

    def dense(self) -> Tensor:
        """Return the float32 matrix, shape (rows, columns); exact for scales of 16 bits."""
        groups = self.q.float().unflatten(1, (self.scale.shape[1], -1))  # (rows, groups, columns of a group)
        product: Tensor = (groups - self.zero.unsqueeze(-1)) * self.scale.unsqueeze(-1)
        return product.flatten(1)

    def per_block(self) -> tuple[Tensor, Tensor]:
        """Return scale and minimum of each 32 columns, float32, shape (rows, columns / 32) each."""
        repeats = self.q.shape[1] // GROUP // self.scale.shape[1]
        scale = self.scale.repeat_interleave(repeats, 1)
        return scale, -scale * self.zero.repeat_interleave(repeats, 1)


class GroupedFormat(Protocol):
    """A format in which each matrix is stored as several tensors."""

    @property
    def name(self) -> str:
        """Name for messages and cards."""

    @property
    def q_name(self) -> str:
        """End of the name of the tensor with q, which each matrix has."""

    @property
    def other_names(self) -> tuple[str, ...]:
        """Ends of the names of the other tensors, some of which may be missing."""

    def shape(self, shapes: Shapes) -> tuple[int, int] | None:
        """Return the shape of a matrix, (rows, columns); None if the tensors do not match each other."""

    def read(self, read: Read, shapes: Shapes) -> Groups:
        """Return a matrix whose tensors match."""


@dataclass(frozen=True, slots=True)
class Gptq:
    """The format of GPTQ.

    Args:
        zero_offset: number to add to the stored zeros.
    """

    zero_offset: int

    name = "GPTQ"
    q_name = "qweight"
    other_names = ("qzeros", "scales", "g_idx")

    def shape(self, shapes: Shapes) -> tuple[int, int] | None:
        (words, rows), columns = shapes["qweight"], shapes["qweight"][0] * PER_WORD
        return _matching(shapes, rows, columns, words * PER_WORD)

    def read(self, read: Read, shapes: Shapes) -> Groups:
        q = _in_order(read("qweight").T.contiguous())  # (rows, columns)
        zero = _in_order(read("qzeros")).T + self.zero_offset  # (rows, groups)
        if "g_idx" in shapes and not is_in_order(read("g_idx"), zero.shape[1]):
            raise ModelFormatError(REORDERED)
        return Groups(q, read("scales").T.float().contiguous(), zero.float().contiguous())


@dataclass(frozen=True, slots=True)
class Awq:
    """The format of AWQ, in its version for matrix products (``gemm``)."""

    name = "AWQ"
    q_name = "qweight"
    other_names = ("qzeros", "scales")

    def shape(self, shapes: Shapes) -> tuple[int, int] | None:
        columns, words = shapes["qweight"]
        return _matching(shapes, words * PER_WORD, columns, columns)

    def read(self, read: Read, shapes: Shapes) -> Groups:  # noqa: ARG002 - the protocol's
        q, zero = (_awq_order(read(name)).T.contiguous() for name in ("qweight", "qzeros"))
        return Groups(q, read("scales").T.float().contiguous(), zero.float())


@dataclass(frozen=True, slots=True)
class CompressedTensors:
    """The format of compressed-tensors that is named ``pack-quantized``."""

    name = "compressed-tensors"
    q_name = "weight_packed"
    other_names = ("weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx")

    def shape(self, shapes: Shapes) -> tuple[int, int] | None:
        rows, words = shapes["weight_packed"]
        scale, zero = shapes.get("weight_scale", ()), shapes.get("weight_zero_point")
        if len(scale) != 2 or scale[0] != rows or "weight_g_idx" in shapes:
            return None
        if zero is not None and zero != (-(-rows // PER_WORD), scale[1]):
            return None
        return (rows, words * PER_WORD) if _is_whole(words * PER_WORD, scale[1]) else None

    def read(self, read: Read, shapes: Shapes) -> Groups:
        q, scale = _in_order(read("weight_packed")), read("weight_scale").float()
        zero = torch.full_like(scale, 8.0)
        if "weight_zero_point" in shapes:
            zero = _in_order(read("weight_zero_point").T.contiguous())[:, : len(scale)].T.float()
        return Groups(q, scale.contiguous(), zero.contiguous())


REORDERED = (
    "its columns are in the order of their activations (desc_act), so that the columns of a group are not beside each "
    "other"
)
"""Reason to refuse a matrix of GPTQ."""


def is_in_order(group_of_column: Tensor, groups: int) -> bool:
    """Return whether the columns of each group are beside each other, the first group first."""
    columns = len(group_of_column)
    return torch.equal(group_of_column.long(), torch.arange(columns) // (columns // groups))


def matrices(stored: GroupedFormat, shapes: Shapes) -> dict[str, dict[str, str]]:
    """Return the tensors of each matrix: by its name, which ends in ``weight``, those by the ends of their names."""
    found = {}
    for name in shapes:
        prefix, _, end = name.rpartition(".")
        if end == stored.q_name and len(shapes[name]) == 2:
            parts = {part: f"{prefix}.{part}" for part in (end, *stored.other_names)}
            found[f"{prefix}.weight"] = {part: full for part, full in parts.items() if full in shapes}
    return found


def dense_shapes(stored: GroupedFormat, shapes: Shapes) -> dict[str, tuple[int, ...]]:
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


ADVICE = (
    "Choose the repository of the unquantized model and a precision such as int4; or a quantized one of 4 bits in "
    "groups of 128, from GPTQ (without desc_act), AWQ (gemm) or compressed-tensors (pack-quantized)."
)
"""What to do when a quantized folder is refused."""


def _matching(shapes: Shapes, rows: int, columns: int, in_features: int) -> tuple[int, int] | None:
    """Return (rows, columns) if the other tensors of GPTQ or AWQ have the shapes that follow from q."""
    scales = shapes.get("scales", ())
    if len(scales) != 2 or scales[1] != rows or rows % PER_WORD or not _is_whole(columns, scales[0]):
        return None
    if shapes.get("qzeros") != (scales[0], rows // PER_WORD) or shapes.get("g_idx", (in_features,)) != (in_features,):
        return None
    return rows, columns


def _is_whole(columns: int, groups: int) -> bool:
    """Return whether all groups have one number of columns, a multiple of 32."""
    return groups > 0 and columns > 0 and columns % (groups * GROUP) == 0


def _numbers(words: Tensor) -> Tensor:
    """Return the eight numbers of each word from the lowest bits on, uint8, shape (..., 8)."""
    return (words.to(torch.int32).unsqueeze(-1) >> _SHIFTS & 15).to(torch.uint8)


def _in_order(words: Tensor) -> Tensor:
    """Return the numbers of rows of words, shape (rows, 8 * words)."""
    return _numbers(words).flatten(1)


def _awq_order(words: Tensor) -> Tensor:
    return _numbers(words)[..., _AWQ_PLACES].flatten(1)
