"""``inline::echo``: a provider without a model, which says again what it was asked."""

from __future__ import annotations

from workbench.providers.echo.provider import EchoProvider

__all__ = ["EchoProvider"]
