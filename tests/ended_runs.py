"""Runs of a session that are waited for, and what is compared of them."""

from __future__ import annotations

from typing import Any


def ended(run: Any, patience_s: float) -> Any:
    """A run that has ended without an error."""
    assert run.wait(patience_s), run
    assert run.error is None, run.error
    return run


def facts(run: Any) -> list[tuple[int, float]]:
    """Id and logprob of each token."""
    return [(token.token_id, token.logprob) for token in run.tokens]
