"""``inline::prompt_guard``: a text classifier that finds prompt injections and jailbreaks."""

from __future__ import annotations

from workbench.providers.safety.prompt_guard.provider import PromptGuardProvider

__all__ = ["PromptGuardProvider"]
