"""``workbench config``: the run config in use, its validation, and the schema of run configs."""

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
        help="show or check a run config, or print the JSON schema",
        description="A run config lists providers and the models they serve. Write secrets in it as ${env.NAME}.",
        epilog="examples:\n  workbench config show > run.yaml\n  workbench config check run.yaml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    show_parser = add_command(
        actions,
        "show",
        show,
        summary="print a run config with its secrets hidden",
        examples="workbench config show > run.yaml",
    )
    check_parser = add_command(
        actions,
        "check",
        check,
        summary="check a whole run config without loading anything",
        examples="workbench config check run.yaml",
    )
    for file_parser in (show_parser, check_parser):
        file_parser.add_argument(
            "file",
            nargs="?",
            type=Path,
            metavar="FILE",
            help="run config (default: $WORKBENCH_CONFIG, or the built-in one)",
        )
    add_command(
        actions,
        "schema",
        schema,
        summary="print the JSON schema of run configs",
        examples="workbench config schema > run-config.schema.json",
        notes="Includes the config of every installed provider type.",
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
            print(f"{provider.provider_id}: {provider.provider_type}, ok")
    return 0


def schema(_: argparse.Namespace) -> int:
    from workbench.stack import run_config_schema

    output.print_json(run_config_schema())
    return 0
