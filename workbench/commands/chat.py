"""``workbench chat``: a conversation in the terminal, or one turn a line from a pipe."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.commands import opening, output
from workbench.commands.conversation import Conversation
from workbench.commands.parsing import add_command
from workbench.commands.sampling_options import add_sampling_options, sampling_params
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workbench.commands.parsing import Subparsers

_HELP = """\
/system TEXT            set the system message; without TEXT, show it
/params NAME=VALUE ...  change sampling parameters; without any, show them
/save FILE              write the conversation as JSON
/reset                  forget the turns
/help                   show this
/quit                   leave; Ctrl+D too. Ctrl+C stops an answer"""


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "chat",
        run,
        summary="talk to the model",
        examples="""
            workbench chat
            workbench chat --system "Answer in one sentence." --temperature 0.7
            printf 'Hi\\nAnd in French?\\n' | workbench chat
            """,
        notes=f"From a pipe, each line is one turn. In the chat:\n\n{_HELP}",
    )
    opening.add_model_options(parser)
    add_sampling_options(parser, max_tokens=512)
    parser.add_argument("--system", metavar="TEXT", help="the system message")


def run(args: argparse.Namespace) -> int:
    params = sampling_params(args)
    bench, model = opening.open_from(args)
    with bench:
        bench.load(model)  # what is wrong with it is told before the first line is typed
        return Repl(Conversation(bench, model, params, args.system)).run()


class Repl:
    """Reads lines until the end of input; exit code 1 where a turn from a pipe failed."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._interactive = sys.stdin.isatty()
        self._failed = False

    def run(self) -> int:
        if self._interactive:
            print("Type a message; /help lists the commands, Ctrl+D leaves.")
        for line in self._lines():
            if line == "/quit":
                break
            try:
                self._answer(line)
            except (WorkbenchError, OSError) as error:
                self._failed = True
                print(f"workbench: {error}", file=sys.stderr)
        return 1 if self._failed and not self._interactive else 0

    def _lines(self) -> Iterator[str]:
        """Lines with something on them; Ctrl+C at the prompt throws the line away."""
        if self._interactive:
            _edit_lines()
        while True:
            try:
                line = input("> " if self._interactive else "").strip()
            except EOFError:
                if self._interactive:
                    print()
                return
            except KeyboardInterrupt:
                if not self._interactive:
                    raise
                print("\n(Ctrl+D leaves)")
                continue
            if line:
                yield line

    def _answer(self, line: str) -> None:
        if line.startswith("/"):
            self._command(*line.partition(" ")[::2])
            return
        complete = self._conversation.say(line, output.write_text)
        print("" if complete else " [stopped]")
        if not complete and not self._interactive:
            raise KeyboardInterrupt

    def _command(self, name: str, argument: str) -> None:
        conversation = self._conversation
        if name == "/system":
            conversation.system = argument or conversation.system
            print(f"system: {conversation.system or '(none)'}")
        elif name == "/params":
            conversation.set_params(argument)
            print(", ".join(f"{field}={value}" for field, value in conversation.params.model_dump(mode="json").items()))
        elif name == "/save" and argument:
            conversation.save(Path(argument).expanduser())
            print(f"saved to {argument}")
        elif name == "/reset":
            conversation.reset()
            print("(the turns are forgotten)")
        else:
            print(_HELP)


def _edit_lines() -> None:
    """Give ``input`` arrow keys and a history, where this Python has readline."""
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")  # importing it is what switches it on
