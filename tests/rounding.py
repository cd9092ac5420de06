"""How far the logprobs of a request in company may be from those of the same request alone."""

from __future__ import annotations

from workbench.engine.loading import LoadedModel


def rounding(model: LoadedModel) -> float:
    """Return the greatest difference in nats: torch has other kernels for other numbers of rows on a device."""
    return 1e-5 if model.device == "cpu" else 1e-4
