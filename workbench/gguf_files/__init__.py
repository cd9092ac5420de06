"""GGUF files: their headers, which nobody vouches for, and what transformers calls what is in them.

Importing this package loads neither torch nor the package ``gguf``.
"""

from __future__ import annotations

from workbench.gguf_files.config import config_of
from workbench.gguf_files.header import (
    GgufArray,
    GgufHeader,
    GgufTensor,
    begins_as_gguf,
    is_later_part,
    part_paths,
    read_gguf_header,
)
from workbench.gguf_files.model import GgufModel, is_unchanged, join_parts, read_gguf_model
from workbench.gguf_files.tensor_types import precision_name

GGUF_FACTS = "gguf.json"
"""File in the folder of a model whose weights are in a GGUF file; it says where."""

__all__ = [
    "GGUF_FACTS",
    "GgufArray",
    "GgufHeader",
    "GgufModel",
    "GgufTensor",
    "begins_as_gguf",
    "config_of",
    "is_later_part",
    "is_unchanged",
    "join_parts",
    "part_paths",
    "precision_name",
    "read_gguf_header",
    "read_gguf_model",
]
