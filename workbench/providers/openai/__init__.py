"""``remote::openai``: models behind any server that speaks OpenAI's HTTP API, and the dialects of those we know better.

The package ``openai`` (extra ``remote``) is imported when a provider of this kind is created, and nowhere else.
"""

from __future__ import annotations

from workbench.providers.openai.provider import (
    LlamaCppProvider,
    OllamaProvider,
    OpenAIProvider,
    TgiProvider,
    VllmProvider,
)

__all__ = ["LlamaCppProvider", "OllamaProvider", "OpenAIProvider", "TgiProvider", "VllmProvider"]
