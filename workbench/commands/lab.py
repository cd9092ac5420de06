"""``workbench lab``: JupyterLab in the folder of the notebooks."""

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
        "lab",
        run,
        summary="open JupyterLab in the notebooks' folder",
        examples="""
            workbench lab
            workbench lab --no-browser --port 8899
            workbench lab -- --ServerApp.open_browser=False
            """,
        notes=jupyter.NOTES,
    )
    jupyter.add_options(parser)


def run(args: argparse.Namespace) -> int:
    return jupyter.start_lab(args, notebook=None)
