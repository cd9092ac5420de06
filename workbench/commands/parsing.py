"""Construction of the subcommands' parsers, with common options and formatting."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 (it has no public name)


def add_command(
    subparsers: Subparsers,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    summary: str,
    examples: str,
    notes: str = "",
) -> argparse.ArgumentParser:
    """Add a subcommand's parser with ``--debug``; ``run`` takes the parsed arguments and returns the exit code."""
    description = f"{summary[0].upper()}{summary[1:]}."
    if notes:
        description += "\n\n" + textwrap.dedent(notes).strip()
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=description,
        epilog="examples:\n" + textwrap.indent(textwrap.dedent(examples).strip(), "  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run=run)
    return parser


def json_object(text: str) -> dict[str, Any]:
    """Return the JSON object of an option; for ``type`` of an argument."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('must be a JSON object such as \'{"note": "mine"}\'')
    return value
