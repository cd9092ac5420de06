"""``inline::code_scanner``: a search for insecure Python code in messages, with the scanner Bandit."""

from __future__ import annotations

from workbench.providers.safety.code_scanner.provider import CodeScannerProvider

__all__ = ["CodeScannerProvider"]
