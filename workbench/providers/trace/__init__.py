"""``inline::trace``: replay of recorded calls without a model. `recording` writes what `provider` replays."""

from __future__ import annotations

from workbench.providers.trace.provider import TraceProvider

__all__ = ["TraceProvider"]
