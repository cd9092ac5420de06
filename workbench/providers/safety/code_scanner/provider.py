"""Provider of shields against insecure code."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import Field

from workbench.errors import ConfigError
from workbench.protocol import SafetyViolation, ViolationLevel
from workbench.providers.safety.code_scanner.code_blocks import CodeBlock, code_blocks
from workbench.providers.safety.code_scanner.scanning import Finding, scan
from workbench.providers.safety.interface import SafetyConfig, SafetyProvider, ShieldConfig, ShieldParams

if TYPE_CHECKING:
    from workbench.protocol import Message, Provider
    from workbench.providers.model_access import ModelAccess

Grade: TypeAlias = Literal["low", "medium", "high"]

_GRADES = ("low", "medium", "high")


class CodeScannerParams(ShieldParams):
    """Parameters of a code scanner."""

    error_severity: Grade = "high"
    """Least severity of a violation of level ``error``."""
    warn_severity: Grade = "medium"
    """Least severity of one of level ``warn``; what is less severe has the level ``info``."""
    min_confidence: Grade = "low"
    """Least confidence of the scanner; findings below it are left out."""


class CodeScannerConfig(SafetyConfig):
    """Settings of a code scanner."""

    shields: list[ShieldConfig] = Field(default_factory=lambda: [ShieldConfig(identifier="code_scanner")])
    """Shields that run from the start; one named ``code_scanner`` unless others are given."""


class CodeScannerProvider(SafetyProvider):
    """Shields that scan the Python code of the last message.

    Raises:
        ConfigError: the scanner is not installed.
    """

    Config = CodeScannerConfig
    Params = CodeScannerParams
    shield_types = ("code_scanner",)

    def __init__(self, provider: Provider, models: ModelAccess) -> None:
        super().__init__(provider, models)
        if importlib.util.find_spec("bandit") is None:
            install = "install it with: pip install 'inference-workbench[code]'"
            raise ConfigError(
                f"provider {self.provider_id!r}: {self.provider_type} needs the package bandit; {install}"
            )

    async def judge(self, messages: Sequence[Message], params: Any) -> SafetyViolation | None:
        """Return one violation for all findings, with the level of the most severe one.

        A finished block that claims to be Python but cannot be parsed is a violation of level ``info``.
        """
        blocks = await asyncio.to_thread(code_blocks, messages)
        readable = [block for block in blocks if block.is_python]
        findings = [one for one in await _scanned(readable) if _is_at_least(one.confidence, params.min_confidence)]
        if findings:
            return _violation(findings, params)
        unreadable = [block for block in blocks if not block.is_python]
        return _unscanned(unreadable) if unreadable else None


async def _scanned(blocks: list[CodeBlock]) -> list[Finding]:
    return await asyncio.to_thread(scan, blocks) if blocks else []


def _is_at_least(grade: str, least: str) -> bool:
    return _GRADES.index(grade) >= _GRADES.index(least)


def _violation(findings: list[Finding], params: CodeScannerParams) -> SafetyViolation:
    worst = max(findings, key=lambda finding: _GRADES.index(finding.severity))
    return SafetyViolation(
        violation_level=_level(worst.severity, params),
        user_message=f"This code was flagged: {worst.text} ({worst.test_id}, line {worst.lines[0]})",
        metadata={
            "category": worst.test_id,
            "name": worst.test_name,
            "severity": worst.severity,
            "findings": [dataclasses.asdict(finding) | {"lines": list(finding.lines)} for finding in findings],
        },
    )


def _level(severity: str, params: CodeScannerParams) -> ViolationLevel:
    if _is_at_least(severity, params.error_severity):
        return ViolationLevel.error
    return ViolationLevel.warn if _is_at_least(severity, params.warn_severity) else ViolationLevel.info


def _unscanned(blocks: list[CodeBlock]) -> SafetyViolation:
    lines = [block.first_line for block in blocks]
    return SafetyViolation(
        violation_level=ViolationLevel.info,
        user_message=f"The Python code that begins in line {lines[0]} could not be scanned: it has a syntax error.",
        metadata={"category": "unscanned", "first_lines": lines},
    )
