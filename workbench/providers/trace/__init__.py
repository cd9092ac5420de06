"""``inline::trace``: recorded calls, played again without any model. `recording` makes what `provider` plays."""

from __future__ import annotations

from workbench.providers.trace.provider import TraceProvider

__all__ = ["TraceProvider"]
