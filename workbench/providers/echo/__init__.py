"""``inline::echo``: a provider without a model, which returns the text that it receives."""

from __future__ import annotations

from workbench.providers.echo.provider import EchoProvider

__all__ = ["EchoProvider"]
