"""``workbench config``: the run config that is used, whether it is right, and the schema of all."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.commands import output
from workbench.commands.parsing import add_command

if TYPE_CHECKING:
    from workbench.commands.parsing import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "config",
        help="show, check and describe run configs",
        description="A run config says which providers serve which models. Secrets in it are written as ${env.NAME}.",
        epilog="examples:\n  workbench config show > run.yaml\n  workbench config check run.yaml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    show_parser = add_command(
        actions,
        "show",
        show,
        summary="print a run config, with its secrets hidden",
        examples="workbench config show > run.yaml",
    )
    check_parser = add_command(
        actions,
        "check",
        check,
        summary="check a run config as a whole; nothing is loaded",
        examples="workbench config check run.yaml",
    )
    for file_parser in (show_parser, check_parser):
        file_parser.add_argument(
            "file", nargs="?", type=Path, metavar="FILE", help="run config (default: $WORKBENCH_CONFIG, else built in)"
        )
    add_command(
        actions,
        "schema",
        schema,
        summary="print the JSON schema of run configs",
        examples="workbench config schema > run-config.schema.json",
        notes="With the config of every provider type that is installed here.",
    )


def show(args: argparse.Namespace) -> int:
    import yaml

    from workbench.stack import load_run_config

    content = load_run_config(args.file).model_dump(mode="json", exclude_unset=True)
    print(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), end="")
    return 0


def check(args: argparse.Namespace) -> int:
    from workbench.stack import load_run_config

    config = load_run_config(args.file)
    for instances in config.providers.values():
        for provider in instances:
            print(f"{provider.provider_id}: {provider.provider_type}, in order")
    return 0


def schema(_: argparse.Namespace) -> int:
    from workbench.stack import run_config_schema

    output.print_json(run_config_schema())
    return 0
