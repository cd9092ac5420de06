"""The command ``workbench``: its subcommands and exit codes.

Exit codes: 0 success, 1 failure, 2 bad usage (as from argparse, or an unknown model), 130 interrupted by Ctrl+C.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from workbench._version import __version__
from workbench.commands import bench, chat, complete, config, doctor, lab, memory, models, play, serve, shields
from workbench.errors import ConfigError, InvalidRequestError, ResourceNotFoundError, UnknownModelError, WorkbenchError

_COMMANDS = (play, lab, complete, chat, models, memory, shields, config, serve, bench, doctor)

_GARBAGE_THRESHOLD = 100_000
"""New objects after which Python searches for garbage. At its default of 700, searches take a tenth of the time to the
first token, because imports create hundreds of thousands of objects and no garbage."""

_BAD_USAGE = (InvalidRequestError, ConfigError, ResourceNotFoundError, UnknownModelError)

_EPILOG = """\
examples:
  workbench play                                   open the playground in JupyterLab
  workbench complete "The capital of France is"    continue a text
  workbench chat                                   chat with a model
  workbench doctor                                 check this installation

environment:
  WORKBENCH_CONFIG   run config to use instead of the embedded models
  WORKBENCH_CACHE    folder for converted models
  WORKBENCH_STATE    folder for registrations and memory banks
  WORKBENCH_RECORD   folder to record the models' answers in, as traces
  WORKBENCH_PLAY     folder of traces to replay instead of running models
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; the module of each command adds its part."""
    parser = argparse.ArgumentParser(
        prog="workbench",
        description="Run language models on this machine and see what they compute.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"workbench {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; only argparse's own SystemExit passes through."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a model may write what the terminal cannot encode
    args = build_parser().parse_args(argv)
    try:
        with _few_collections(), warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (head, a pager) has left; otherwise Python reports it again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except WorkbenchError as error:
        return _report(error, with_traceback=args.debug)
    except OSError as error:  # a full disk or a closed stdout; other failures have errors of their own
        return _report(WorkbenchError(f"cannot read or write: {error}"), with_traceback=args.debug)
    return code


@contextmanager
def _few_collections() -> Iterator[None]:
    """Let Python search for garbage less often, until the command ends."""
    usual = gc.get_threshold()
    gc.set_threshold(_GARBAGE_THRESHOLD)
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*usual)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print the message alone: the line of code that raised it is of no use at a command line."""
    print(f"workbench: warning: {message}", file=sys.stderr)


def _report(error: WorkbenchError, *, with_traceback: bool) -> int:
    if with_traceback:
        traceback.print_exception(error)
    else:
        print(f"workbench: {error}", file=sys.stderr)
    return 2 if isinstance(error, _BAD_USAGE) else 1


def _open_closed_streams() -> None:
    """Replace standard streams that the caller closed (``>&-``): Python sets them to None, which fails on any use.

    Reading then returns the end of file at once, and writing fails as on the closed stream itself.
    """
    for name, mode in (("stdin", "r"), ("stdout", "r"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 (open until exit)
