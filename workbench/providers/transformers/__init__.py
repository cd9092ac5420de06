"""``inline::transformers``: models of Hugging Face transformers, run by the engine in this process."""

from __future__ import annotations

from workbench.providers.transformers.provider import TransformersProvider

__all__ = ["TransformersProvider"]
