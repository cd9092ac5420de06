"""Command-line options for the response format."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequestError
from workbench.paths import reason, typed_path

if TYPE_CHECKING:
    from workbench.protocol import ResponseFormat


def add_format_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--json-schema`` and ``--regex``, which exclude each other."""
    group = parser.add_argument_group(
        "format", "The format is enforced token by token. The answer is complete unless --max-tokens cuts it off."
    ).add_mutually_exclusive_group()
    group.add_argument(
        "--json-schema",
        metavar="FILE|TEXT",
        help="JSON schema that the answer must match: a file, or the schema itself as {...}",
    )
    group.add_argument("--regex", metavar="PATTERN", help="pattern that the whole answer must match")


def response_format(args: argparse.Namespace) -> ResponseFormat | None:
    """Return the response format of the options; raise InvalidRequestError, naming the option, if it is invalid."""
    from workbench.protocol import JsonSchemaResponseFormat, RegexResponseFormat

    if args.json_schema is not None:
        return JsonSchemaResponseFormat(json_schema=_schema(args.json_schema))
    if args.regex is not None:
        if not args.regex:
            raise InvalidRequestError("--regex", args.regex, "a non-empty pattern")
        return RegexResponseFormat(regex=args.regex)
    return None


@contextmanager
def named_format(args: argparse.Namespace) -> Iterator[None]:
    """Raise errors about the response format with the name of the option."""
    try:
        yield
    except InvalidRequestError as error:
        if error.field.partition(".")[0] != "response_format":
            raise
        option = "--regex" if args.json_schema is None else "--json-schema"
        raise type(error)(option, error.given, error.allowed) from None


def _schema(value: str) -> dict[str, object]:
    text = value
    if not value.lstrip().startswith("{"):
        path = typed_path(value, "--json-schema")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InvalidRequestError(
                "--json-schema", value, f"a readable file, or the schema itself as {{...}} ({reason(error)})"
            ) from None
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError("--json-schema", value, f"valid JSON ({error})") from None
    if not isinstance(schema, dict):
        raise InvalidRequestError("--json-schema", value, "a JSON schema that is an object")
    return schema
