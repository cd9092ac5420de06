"""Types of the tensors in GGUF files, and the names of the mixtures of them that files carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class TensorType(NamedTuple):
    """Storage of a tensor: blocks of consecutive weights of one row."""

    name: str
    block: int
    """Weights in a block."""
    nbytes: int
    """Bytes of a block."""


TENSOR_TYPES: Mapping[int, TensorType] = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    9: TensorType("Q8_1", 32, 40),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    15: TensorType("Q8_K", 256, 292),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18),
    21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136),
    24: TensorType("I8", 1, 1),
    25: TensorType("I16", 1, 2),
    26: TensorType("I32", 1, 4),
    27: TensorType("I64", 1, 8),
    28: TensorType("F64", 1, 8),
    29: TensorType("IQ1_M", 256, 56),
    30: TensorType("BF16", 1, 2),
    34: TensorType("TQ1_0", 256, 54),
    35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17),
    40: TensorType("NVFP4", 64, 36),
    41: TensorType("Q1_0", 128, 18),
}
"""Tensor types by their numbers in a file; the gaps are types that llama.cpp removed."""

_BYTES_PER_WEIGHT = {one.name: one.nbytes / one.block for one in TENSOR_TYPES.values()}

READ_TYPES = frozenset(tensor_type.name for tensor_type in TENSOR_TYPES.values()) - {
    *("Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64", "Q1_0")
}
"""Types whose weights can be read: the package ``gguf`` dequantizes them."""

FTYPES: Mapping[int, str] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
    39: "NVFP4",
    40: "Q1_0",
}
"""Names of whole files by ``general.file_type``, llama.cpp's ftype; ``Q4_K_M`` mixes Q4_K with larger types."""

_GUESSED = 1024
"""Flag that llama.cpp adds to a file type that it guessed from the tensors."""


def bytes_per_weight(name: str) -> float:
    """Return the size of a weight of a tensor type, by the type's name."""
    return _BYTES_PER_WEIGHT[name]


def precision_name(file_type: object, weights_by_type: Mapping[str, int]) -> str | None:
    """Return the name that people use for a file's precision, such as ``Q4_K_M``; None for a file without tensors.

    The file's own name counts if the file has tensors of that family; otherwise the result is the type that holds most
    of the weights. Writers do set a wrong file type, for example that of the file that they converted.

    Args:
        file_type: value of ``general.file_type``, or None.
        weights_by_type: number of weights of each tensor type.
    """
    if not weights_by_type:
        return None
    named = FTYPES.get(file_type & ~_GUESSED) if isinstance(file_type, int) else None
    if named and _family(named) in map(_family, weights_by_type):
        return named
    return max(weights_by_type, key=lambda name: weights_by_type[name])


def _family(name: str) -> str:
    """Return the part of a type's name that a mixture keeps: ``Q4`` of ``Q4_K_M`` and of ``Q4_K``."""
    return name.partition("_")[0]
