"""``inline::llama_guard``: a served chat model that judges by the prompt and the answers of Llama Guard 3."""

from __future__ import annotations

from workbench.providers.safety.llama_guard.provider import LlamaGuardProvider

__all__ = ["LlamaGuardProvider"]
