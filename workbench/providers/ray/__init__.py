"""``inline::ray``: a provider's engine as actors on a Ray cluster, which share the requests among them.

The package ``ray`` (extra ``ray``) is imported in `cluster`, when the first request comes, and nowhere else.
"""

from __future__ import annotations

from workbench.providers.ray.provider import RayProvider

__all__ = ["RayProvider"]
