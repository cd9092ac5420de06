"""``inline::transformers``: models of Hugging Face transformers, run by the engine in this process.

The provider imports torch, so it is loaded on first access: its config can be read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.providers.transformers.provider import TransformersProvider

__all__ = ["TransformersProvider"]

if not TYPE_CHECKING:  # type checkers would accept any misspelled name

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.provider"), name)
