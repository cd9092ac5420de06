"""``workbench play``: JupyterLab with the playground open."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from workbench.commands import jupyter
from workbench.commands.parsing import add_command

if TYPE_CHECKING:
    from workbench.commands.parsing import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "play",
        run,
        summary="open the playground in JupyterLab",
        examples="""
            workbench play
            workbench play --copy my-work
            workbench play --no-browser --port 8899
            workbench play -- --ServerApp.password_required=True
            """,
        notes=jupyter.NOTES,
    )
    jupyter.add_options(parser)


def run(args: argparse.Namespace) -> int:
    return jupyter.start_lab(args, notebook="00_playground.ipynb")
