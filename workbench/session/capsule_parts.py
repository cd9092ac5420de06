"""Parts of a capsule: tokens, the model, the machine, and the refusal of a shield."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from workbench.protocol import SafetyViolation
from workbench.protocol.base import ProtocolModel


class CapsulePart(ProtocolModel):
    """Base class of a capsule and its parts, which cannot be changed."""

    model_config = ConfigDict(frozen=True)


class CapsuleToken(CapsulePart):
    """One generated token."""

    token_id: int = Field(ge=-1, strict=True)
    """-1 if a remote server did not report it."""
    text: str
    """The token decoded alone."""
    logprob: float | None
    """Log probability under the softmax of the raw logits; None if a remote server did not report it."""


class CapsuleModel(CapsulePart):
    """The model that answered, as far as its provider reports."""

    provider_type: str
    source: str
    """Catalog name or hub id; for a local folder or GGUF file, only its name."""
    precision: str | None
    device: str | None
    decoder: str | None = Field(default=None, exclude_if=lambda decoder: decoder is None)
    """``fused``, ``device`` or ``general``, as on its card; None in capsules of version 0.1.0 and for models
    elsewhere."""
    template_sha256: str | None
    """SHA-256 of the chat template; None for a completion."""
    files: dict[str, str]
    """SHA-256 of the model's files by name; empty if the model does not run in this process."""


class CapsuleMachine(CapsulePart):
    """The machine that computed the run."""

    threads: int
    processor: str
    features: list[str]
    """CPU instruction sets that affect matrix products."""
    versions: dict[str, str]
    """Versions of Python and of the packages that compute."""


class CapsuleViolation(CapsulePart):
    """Refusal of the prompt or the answer by a shield."""

    shield: str
    where: Literal["prompt", "answer"]
    violation: SafetyViolation
