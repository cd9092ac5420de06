"""``workbench serve``: the models over HTTP."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.commands import opening, output
from workbench.commands.parsing import add_command
from workbench.errors import InvalidRequestError, WorkbenchError

if TYPE_CHECKING:
    from workbench.commands.parsing import Subparsers
    from workbench.server import Access, Listener

TOKEN_VARIABLE = "WORKBENCH_TOKEN"  # noqa: S105 (its name)

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?", re.IGNORECASE)
_HOST_NAME = re.compile(r"[A-Za-z0-9.-]+|[0-9a-fA-F]*(:[0-9a-fA-F]*){2,}")
_TOKEN = re.compile(r"[!-~]*")

_NOTES = f"""
Serves every route of the protocol, and OpenAI's API under /v1, until Ctrl+C. Every request needs the token that is
printed at startup, in the header "Authorization: Bearer TOKEN". It is a new one each time, unless the environment
variable {TOKEN_VARIABLE} sets one. There is no TLS: to serve other machines, put a proxy in front.
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "serve",
        run,
        summary="serve the models over HTTP",
        examples="""
            workbench serve
            workbench serve --config run.yaml --port 8321
            workbench serve --port 0 --json
            workbench serve --insides
            workbench serve --host 0.0.0.0 --allow-host models.example
            """,
        notes=_NOTES,
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="run config (default: $WORKBENCH_CONFIG)")
    opening.add_device_option(parser)
    parser.add_argument("--json", action="store_true", help="print the address and token as JSON")
    parser.add_argument(
        "--insides",
        action="store_true",
        help="also serve the routes /insides/*, which read the numbers inside models, and allow edits of them",
    )
    address = parser.add_argument_group("access")
    address.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, for this machine only)"
    )
    address.add_argument("--port", type=int, default=8321, help="port to listen on; 0 picks a free one (default: 8321)")
    address.add_argument("--no-token", action="store_true", help="require no token; only on this machine")
    address.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="host name that clients may use; can be repeated",
    )
    address.add_argument(
        "--allow-origin",
        metavar="ORIGIN",
        action="append",
        default=[],
        help="web origin that may send requests: https://name[:port]; can be repeated",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-body-mb", metavar="N", type=int, help="largest request body in MiB (default: 8)")
    limits.add_argument("--max-batch", metavar="N", type=int, help="most items per batch (default: 64)")
    limits.add_argument(
        "--max-tokens", metavar="N", type=int, help="most tokens per answer (default: the model's context)"
    )
    limits.add_argument("--max-concurrent", metavar="N", type=int, help="most requests at once (default: 128)")
    limits.add_argument(
        "--grace",
        metavar="S",
        type=int,
        default=10,
        help="seconds that running requests get to finish at shutdown (default: 10)",
    )


def run(args: argparse.Namespace) -> int:
    options = _checked(args)
    missing = [name for name in ("fastapi", "uvicorn", "jiter") if importlib.util.find_spec(name) is None]
    if missing:
        raise WorkbenchError(f"{', '.join(missing)} not installed: pip install 'inference-workbench[serve]'")
    from workbench import server
    from workbench.stack import Stack

    access, limits = _access(args), server.Limits(**options)
    with server.Listener(args.host, args.port) as listener:
        stack = Stack(args.config, device=args.device, insides=args.insides)
        serving = server.Serving(stack, listener, access, limits, grace_s=args.grace)
        server.run(serving, lambda: _announce(listener, access, as_json=args.json))
    return 0


def _checked(args: argparse.Namespace) -> dict[str, int]:
    """Return the limits of the options; raise `InvalidRequestError` if they contradict each other."""
    opening.check_device(args.device)
    from_options = {
        "max_body_bytes": args.max_body_mb and args.max_body_mb * 2**20,
        "max_batch": args.max_batch,
        "max_tokens": args.max_tokens,
        "max_concurrent": args.max_concurrent,
    }
    limits = {name: value for name, value in from_options.items() if value is not None}
    for option in ("max_body_mb", "max_batch", "max_tokens", "max_concurrent"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise InvalidRequestError(f"--{option.replace('_', '-')}", value, "1 or above")
    if not 0 <= args.port <= 65535:
        raise InvalidRequestError("--port", args.port, "from 0 (any free port) to 65535")
    if args.grace < 0:
        raise InvalidRequestError("--grace", args.grace, "0 or above")
    if args.no_token and args.host not in {"127.0.0.1", "localhost", "::1"}:
        raise InvalidRequestError("--no-token", args.host, "omitted unless --host is this machine: 127.0.0.1 or ::1")
    _check_names(args)
    return limits


def _check_names(args: argparse.Namespace) -> None:
    """Raise `InvalidRequestError` for an origin, host name or token that no client can send."""
    for origin in args.allow_origin:
        if not _ORIGIN.fullmatch(origin):
            raise InvalidRequestError("--allow-origin", origin, "https://name or https://name:port, without a path")
    for name in args.allow_host:
        if not _HOST_NAME.fullmatch(name):
            raise InvalidRequestError("--allow-host", name, "a host name or address without a port")
    if not _TOKEN.fullmatch(os.environ.get(TOKEN_VARIABLE, "")):
        raise InvalidRequestError(
            TOKEN_VARIABLE, "(not shown)", "printable ASCII without spaces, because it is sent in a header"
        )


def _access(args: argparse.Namespace) -> Access:
    from workbench import server

    token = None if args.no_token else os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(32)
    hosts = {args.host, *args.allow_host} - {"0.0.0.0", "::"}  # noqa: S104 (addresses that only stand for any)
    return server.Access(
        token=token,
        hosts=server.LOOPBACK | {host.lower() for host in hosts},
        origins=frozenset(origin.lower() for origin in args.allow_origin),
    )


def _announce(listener: Listener, access: Access, *, as_json: bool) -> None:
    if as_json:
        output.print_json({"url": listener.url, "token": access.token})
    else:
        print(f"Serving at {listener.url}")
        print(
            f"Token: {access.token}" if access.token else "No token: every program on this machine can send requests."
        )
        query = f"?token={access.token}" if access.token else ""
        print(f"Routes: {listener.url}/docs{query}")
        print("Press Ctrl+C to stop.")
    sys.stdout.flush()
