"""``workbench doctor``: problems of the installation, with instructions."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from workbench.commands import checks, output
from workbench.commands.checks import Finding
from workbench.commands.parsing import add_command

if TYPE_CHECKING:
    from workbench.commands.parsing import Subparsers

Check = Callable[[], Finding | Iterable[Finding]]

CHECKS: tuple[Check, ...] = (
    checks.python,
    checks.torch,
    checks.transformers,
    checks.cpu,
    checks.kernels,
    checks.device,
    checks.memory,
    checks.disk,
    checks.settings,
    checks.models,
    checks.notebook,
    checks.widgets,
)


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "doctor",
        run,
        summary="check this installation and say how to fix problems",
        examples="""
            workbench doctor
            workbench doctor --json
            """,
        notes="Reads every file of the installed models. Needs no network. The exit code is 1 if a check fails.",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    report = list(findings(CHECKS))
    failed = any(finding.status == "fail" for finding in report)
    if args.json:
        output.print_json({"ok": not failed, "findings": [dataclasses.asdict(finding) for finding in report]})
        return int(failed)
    for finding in report:
        print(f"{finding.status:<5} {finding.name}: {finding.message}")
        if finding.advice:
            print(f"      -> {finding.advice}")
    return int(failed)


def findings(all_checks: Iterable[Check]) -> Iterator[Finding]:
    """Return the findings of all checks; a check that raises an error is a finding, too."""
    for check in all_checks:
        name = getattr(check, "__name__", "check")
        try:
            found = check()
            yield from [found] if isinstance(found, Finding) else list(found)
        except Exception as error:  # noqa: BLE001 (see above)
            yield Finding(name, "fail", f"the check failed: {error!r}", "report this with the output of --json")
