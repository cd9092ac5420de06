"""``workbench models register``, ``unregister`` and ``list --served``: the models of a run config's providers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.commands import opening, output
from workbench.commands.parsing import add_command, json_object

if TYPE_CHECKING:
    from workbench.commands.parsing import Subparsers


def add_register(actions: Subparsers) -> None:
    parser = add_command(
        actions,
        "register",
        register,
        summary="register a model with a provider",
        examples="""
            workbench models register ./my-model
            workbench models register mine ./my-model --precision int4
            workbench models register mine ./my-model --provider exact
            workbench models register mine smollm2-135m-instruct+./adapter
            """,
        notes="Workbenches and servers that are already running serve it after a restart.",
    )
    parser.add_argument("name", metavar="NAME", help="name of the model; without SOURCE, also where it comes from")
    parser.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="catalog name, local folder, GGUF file, hub id or name in Ollama, followed by +./adapter for a LoRA"
        " adapter",
    )
    parser.add_argument("--provider", metavar="ID", help="provider in the run config (default: the first one)")
    parser.add_argument("--precision", choices=opening.PRECISIONS, help=opening.PRECISION_HELP)
    opening.add_device_option(parser)
    parser.add_argument("--metadata", metavar="JSON", type=json_object, help="JSON object to store with the model")
    add_config_option(parser)


def add_unregister(actions: Subparsers) -> None:
    parser = add_command(
        actions,
        "unregister",
        unregister,
        summary="unregister models",
        examples="""
            workbench models unregister mine
            workbench models unregister exact/mine
            """,
        notes="The model's files are kept. A model that the run config lists is still served.",
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="model name, or PROVIDER/NAME")
    add_config_option(parser)


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``, as for the commands that run a model."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="run config (default: $WORKBENCH_CONFIG)")


def register(args: argparse.Namespace) -> int:
    opening.check_device(args.device)
    with opening.open_workbench(args.config) as bench:
        model = bench.register_model(
            args.name,
            args.source,
            provider_id=args.provider,
            precision=args.precision,
            device=args.device,
            metadata=args.metadata,
        )
        served_in = bench.card(f"{model.provider_id}/{model.identifier}").precision
    precision = f", in {served_in}" if served_in else ""
    print(f"{model.identifier}: registered with {model.provider_id}, from {model.llama_model}{precision}")
    return 0


def unregister(args: argparse.Namespace) -> int:
    with opening.open_workbench(args.config) as bench:
        for name in args.names:
            is_listed = bench.models.is_listed(name)
            bench.unregister_model(name)
            result = "still served, because its provider's config or server lists it" if is_listed else "unregistered"
            print(f"{name}: {result}", flush=True)
    return 0


def list_served(args: argparse.Namespace) -> int:
    """Return the models that the run config's providers serve, by the names for requests."""
    with opening.open_workbench(args.config) as bench:
        served = [{"name": known.name, **known.definition.model_dump()} for known in bench.models.registrations()]
    if args.json:
        output.print_json(served)
        return 0
    rows = [(facts["name"], facts["provider_id"], facts["llama_model"]) for facts in served]
    print(output.table(("NAME", "PROVIDER", "SOURCE"), rows))
    return 0
