"""Scans of Python code with Bandit, the only module that imports it (extra ``code``)."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.providers.safety.code_scanner.code_blocks import CodeBlock


@dataclass(frozen=True, slots=True)
class Finding:
    """Insecure code that the scanner found."""

    test_id: str
    """Bandit's test, such as ``B602``."""
    test_name: str
    severity: str
    """``low``, ``medium`` or ``high``."""
    confidence: str
    """``low``, ``medium`` or ``high``."""
    text: str
    """Bandit's sentence about it."""
    source: str
    """Where the code stands: ``message``, or the name of a tool that is called with it."""
    lines: tuple[int, ...]
    """Lines of the source, from 1."""


def scan(blocks: Sequence[CodeBlock]) -> list[Finding]:
    """Return the findings in blocks of Python code; comments such as ``# nosec`` change nothing. Blocks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it calls its plug-in loader in an old form
        from bandit.core.config import BanditConfig
        from bandit.core.manager import BanditManager

    with tempfile.TemporaryDirectory(prefix="workbench-scan-") as folder:
        paths = {}
        for index, block in enumerate(blocks):
            path = Path(folder) / f"block_{index:05}.py"
            path.write_text(block.code, encoding="utf-8", errors="replace", newline="\n")
            paths[str(path)] = block
        manager = BanditManager(BanditConfig(), "file", ignore_nosec=True)
        manager.discover_files(list(paths))
        manager.run_tests()
    return [_finding(issue, paths[str(Path(issue.fname))]) for issue in manager.results]


def _finding(issue: object, block: CodeBlock) -> Finding:
    facts = vars(issue)
    lines = facts["linerange"] or [facts["lineno"]]
    return Finding(
        test_id=facts["test_id"],
        test_name=facts["test"],
        severity=facts["severity"].lower(),
        confidence=facts["confidence"].lower(),
        text=facts["text"],
        source=block.source,
        lines=tuple(sorted(line + block.first_line - 1 for line in lines)),
    )
