"""``inline::content_guard``: a classifier of hazards over the vectors of a served sentence model.

A logistic regression over the hazard categories and harmless text judges every sentence of a message. It is fitted to
sentences that come with the package, so that it needs no model but the one that makes the vectors.
"""

from __future__ import annotations

from workbench.providers.safety.content_guard.provider import ContentGuardProvider

__all__ = ["ContentGuardProvider"]
