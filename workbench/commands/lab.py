"""``workbench lab``: JupyterLab in the folder of notebooks, or with one lesson open."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.commands import jupyter
from workbench.commands.lessons import exam_copy, lesson_name, traces_of
from workbench.commands.parsing import add_command
from workbench.errors import InvalidRequestError

if TYPE_CHECKING:
    from workbench.commands.parsing import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "lab",
        run,
        summary="open JupyterLab in the notebooks folder, or at one lesson",
        examples="""
            workbench lab
            workbench lab --lesson 02
            workbench lab --lesson 02 --record traces     # run the cells to record the models' answers
            workbench lab --lesson 02 --exam traces       # replay them without a model, in a lesson without answers
            workbench lab --copy my-work                  # leaves the clone's notebooks unchanged
            workbench lab --no-browser --port 8899
            workbench lab -- --ServerApp.open_browser=False
            """,
        notes=jupyter.NOTES,
    )
    parser.add_argument("--lesson", metavar="NUMBER", help="open the lesson with this number, such as 02")
    traces = parser.add_mutually_exclusive_group()
    traces.add_argument(
        "--record", type=Path, metavar="FOLDER", help="record the lesson's model calls in FOLDER, as traces"
    )
    traces.add_argument(
        "--exam",
        type=Path,
        metavar="FOLDER",
        help="open a copy of the lesson without its answers in ./exam, and replay the traces in FOLDER",
    )
    jupyter.add_options(parser)


def run(args: argparse.Namespace) -> int:
    if args.lesson is None:
        if given := args.record or args.exam:
            option = "--record" if args.record else "--exam"
            raise InvalidRequestError(option, str(given), "used together with --lesson NUMBER")
        return jupyter.start_lab(args, notebook=None)
    root = jupyter.notebooks_root(args.copy)
    lesson = lesson_name(root / "notebooks", args.lesson)
    environment = {}
    if args.record:
        environment = {"WORKBENCH_RECORD": str(traces_of(args.record, lesson, made=False))}
    if args.exam:
        if args.device is not None:
            raise InvalidRequestError("--device", args.device, "left out with --exam, which computes no model")
        played = traces_of(args.exam, lesson, made=True)
        environment = {"WORKBENCH_PLAY": str(played), "WORKBENCH_PLAY_TIMING": "kept"}
        root = exam_copy(root / "notebooks" / lesson, Path.cwd())
    return jupyter.start_lab(args, notebook=lesson, root=root, environment=environment)
