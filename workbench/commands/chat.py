"""``workbench chat``: a conversation in the terminal, or with one turn per line from a pipe."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.commands import opening, output
from workbench.commands.conversation import Conversation
from workbench.commands.parsing import add_command
from workbench.commands.sampling_options import add_sampling_options, sampling_params
from workbench.errors import InvalidRequestError, WorkbenchError
from workbench.paths import reason, typed_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workbench.commands.parsing import Subparsers
    from workbench.protocol import ToolDefinition

_HELP = """\
/system TEXT            set the system message; without TEXT, show it
/params NAME=VALUE ...  change sampling parameters; without arguments, show them
/result TEXT            give the result of the model's tool call
/save FILE              save the conversation as JSON
/reset                  clear the conversation
/help                   show this help
/quit                   quit, like Ctrl+D; Ctrl+C stops an answer"""


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "chat",
        run,
        summary="chat with a model",
        examples="""
            workbench chat
            workbench chat --system "Answer in one sentence." --temperature 0.7
            printf 'Hi\\nAnd in French?\\n' | workbench chat
            workbench chat --tools tools.json --tool-choice required
            workbench chat --shield content_guard
            """,
        notes=f"When input is piped, each line is one turn. Commands in the chat:\n\n{_HELP}",
    )
    opening.add_model_options(parser)
    add_sampling_options(parser, max_tokens=512)
    parser.add_argument("--system", metavar="TEXT", help="system message")
    parser.add_argument(
        "--shield",
        metavar="NAME",
        action="append",
        dest="shields",
        help="shield that checks each message and each sentence of an answer; may be repeated",
    )
    group = parser.add_argument_group("tools", "Tool calls are shown but not run; enter their results with /result.")
    group.add_argument(
        "--tools", metavar="FILE", type=Path, help="JSON file with a list of the protocol's tool definitions"
    )
    group.add_argument(
        "--tool-choice",
        choices=("auto", "required"),
        default="auto",
        help="required: answer every message with a tool call (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    from workbench.protocol import ToolChoice

    params, tools = sampling_params(args), read_tools(args.tools) if args.tools else None
    bench, model = opening.open_from(args)
    with bench:
        # Mistakes in the names are reported before the first line is typed.
        bench.load(model)
        for name in args.shields or ():
            bench.safety.get_shield(name)
        choice = ToolChoice(args.tool_choice)
        return Repl(Conversation(bench, model, params, args.system, tools, choice, args.shields)).run()


def read_tools(path: Path) -> list[ToolDefinition]:
    """Return the definitions in a file; raise `InvalidRequestError` with the file and its mistake if it is invalid."""
    from workbench.prompts.tools.definitions import Toolset
    from workbench.protocol import ToolDefinition

    file = typed_path(path, "--tools")
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequestError("--tools", str(path), f"a readable JSON file ({reason(error)})") from None
    if not isinstance(listed, list):
        raise InvalidRequestError("--tools", str(path), "a JSON file with a list of tool definitions")
    try:
        return list(Toolset.of([ToolDefinition.model_validate(one) for one in listed]).definitions)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"--tools {path}: {error.field}", error.given, error.allowed) from None


class Repl:
    """The loop that reads lines until the end of input; its exit code is 1 if a turn from a pipe failed."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._interactive = sys.stdin.isatty()
        self._failed = False

    def run(self) -> int:
        if self._interactive:
            print("Type a message. /help lists the commands; Ctrl+D quits.")
        for line in self._lines():
            if line == "/quit":
                break
            try:
                self._answer(line)
            except KeyboardInterrupt:
                if not self._interactive:
                    raise
                print(" [stopped]")  # a second Ctrl+C before the end of the answer removes the turn
            except (WorkbenchError, OSError) as error:
                self._failed = True
                print(f"workbench: {error}", file=sys.stderr)
        return 1 if self._failed and not self._interactive else 0

    def _lines(self) -> Iterator[str]:
        """Yield lines that are not blank; Ctrl+C at the prompt discards the line."""
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
                print("\n(Ctrl+D quits)")
                continue
            if line:
                yield line

    def _answer(self, line: str) -> None:
        if line.startswith("/"):
            self._command(*line.partition(" ")[::2])
        else:
            self._end(self._conversation.say(line, output.write_text))

    def _give_result(self, text: str) -> None:
        if len(self._conversation.open_calls) > 1:  # the model continues once the last call has its result
            self._conversation.give_result(text, output.write_text)
            self._remind()
        else:
            self._end(self._conversation.give_result(text, output.write_text))

    def _end(self, complete: bool) -> None:
        print("" if complete else " [stopped]")
        if not complete and not self._interactive:
            raise KeyboardInterrupt
        self._remind()

    def _remind(self) -> None:
        if self._interactive and self._conversation.open_calls:
            print(f"(enter the result of {self._conversation.open_calls[0].tool_name} with /result)")

    def _command(self, name: str, argument: str) -> None:
        conversation = self._conversation
        if name == "/result":
            self._give_result(argument)
        elif name == "/system":
            conversation.system = argument or conversation.system
            print(f"system: {conversation.system or '(none)'}")
        elif name == "/params":
            conversation.set_params(argument)
            print(", ".join(f"{field}={value}" for field, value in conversation.params.model_dump(mode="json").items()))
        elif name == "/save" and argument:
            conversation.save(typed_path(argument, "/save"))
            print(f"saved to {argument}")
        elif name == "/reset":
            conversation.reset()
            print("(conversation cleared)")
        elif name == "/help":
            print(_HELP)
        else:
            raise InvalidRequestError("command", name, "one that /help lists, with its argument")


def _edit_lines() -> None:
    """Add arrow keys and a history to ``input`` if this Python has readline."""
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")  # the import alone enables it
