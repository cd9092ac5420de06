"""``workbench memory``: the memory banks of a run config's providers, and the documents in them."""

from __future__ import annotations

import argparse
import glob
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands import opening, output, registering
from workbench.commands.parsing import add_command, json_object

if TYPE_CHECKING:
    from workbench.commands.parsing import Subparsers
    from workbench.protocol import MemoryBankDef, QueryDocumentsResponse
    from workbench.session.documents import Source

_TYPES = ("vector", "keyword", "keyvalue", "graph")


def add_parser(subparsers: Subparsers) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "memory",
        help="list, register, unregister, fill and query memory banks",
        description="Memory banks hold documents, which are found by their meaning, their words or their ids.",
        epilog="examples:\n  workbench memory register notes\n  workbench memory insert notes docs/\n"
        '  workbench memory query notes "How do I start?"',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for add in (_add_list, _add_register, _add_unregister, _add_insert, _add_query, _add_delete):
        registering.add_config_option(add(actions))


def _add_list(actions: Subparsers) -> argparse.ArgumentParser:
    parser = add_command(
        actions,
        "list",
        list_banks,
        summary="list memory banks, or the documents in one",
        examples="""
            workbench memory list
            workbench memory list notes --json
            """,
    )
    parser.add_argument("bank", nargs="?", metavar="BANK", help="list the ids of the documents in this bank instead")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_register(actions: Subparsers) -> argparse.ArgumentParser:
    parser = add_command(
        actions,
        "register",
        register,
        summary="register a memory bank with a provider",
        examples="""
            workbench memory register notes
            workbench memory register notes --chunk-size 64 --overlap 0
            workbench memory register glossary --type keyvalue
            """,
        notes="Workbenches and servers that are already running serve it after a restart.",
    )
    parser.add_argument("name", metavar="NAME", help="name of the bank")
    parser.add_argument("--type", choices=_TYPES, default="vector", help="type of the bank (default: vector)")
    parser.add_argument("--provider", metavar="ID", help="provider in the run config (default: the first one)")
    group = parser.add_argument_group("vector banks")
    group.add_argument(
        "--embedding-model", metavar="NAME", help="sentence model (default: the first one that is served)"
    )
    group.add_argument("--chunk-size", metavar="N", type=int, help="maximum tokens of a chunk (default: 128)")
    group.add_argument(
        "--overlap",
        metavar="N",
        type=int,
        help="tokens that a chunk shares with the one before (default: a quarter of the chunk size)",
    )
    return parser


def _add_unregister(actions: Subparsers) -> argparse.ArgumentParser:
    parser = add_command(
        actions,
        "unregister",
        unregister,
        summary="delete memory banks with their documents",
        examples="workbench memory unregister notes",
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="name of a bank, or PROVIDER/NAME")
    return parser


def _add_insert(actions: Subparsers) -> argparse.ArgumentParser:
    parser = add_command(
        actions,
        "insert",
        insert,
        summary="insert files in a memory bank, all or none",
        examples="""
            workbench memory insert notes docs/ README.md
            workbench memory insert notes 'docs/**/*.md' --metadata '{"course": 1}'
            workbench memory insert notes today.txt --ttl 86400
            echo "The exam is on Monday." | workbench memory insert notes -
            """,
        notes="""
            Reads text in UTF-8, such as Markdown, HTML or JSON, and PDF. A file becomes a document of its name, and a
            file in a folder one of its path there; a document of the same name in the bank is replaced.
            """,
    )
    parser.add_argument("bank", metavar="BANK", help="name of the bank")
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="file, folder or pattern; - reads a text from standard input"
    )
    parser.add_argument("--ttl", metavar="SECONDS", type=int, help="time after which the documents are no longer found")
    parser.add_argument("--metadata", metavar="JSON", type=json_object, help="JSON object to store with the documents")
    parser.add_argument("--json", action="store_true", help="print the ids of the documents as JSON")
    return parser


def _add_query(actions: Subparsers) -> argparse.ArgumentParser:
    parser = add_command(
        actions,
        "query",
        query,
        summary="find the chunks of a memory bank that match a text best",
        examples="""
            workbench memory query notes "How do I start?"
            workbench memory query notes "exit code" --mode hybrid --max-chunks 3
            workbench memory query notes rules --filter course=1 --filter language=en --filter language=de
            workbench memory query glossary log --prefix --json
            """,
    )
    parser.add_argument("bank", metavar="BANK", help="name of the bank")
    parser.add_argument("text", metavar="TEXT", help="text to search for; the id of a document in a keyvalue bank")
    parser.add_argument("--max-chunks", metavar="N", type=int, help="maximum number of chunks")
    parser.add_argument("--score-threshold", metavar="SCORE", type=float, help="leave out chunks with a lower score")
    parser.add_argument(
        "--filter",
        metavar="KEY=VALUE",
        type=_pair,
        action="append",
        help="only documents with this value in their metadata; the same key again allows another value",
    )
    parser.add_argument("--mode", choices=("vector", "keyword", "hybrid"), help="search of a vector bank")
    parser.add_argument(
        "--prefix", action="store_true", default=None, help="find ids that begin with the text, in a keyvalue bank"
    )
    parser.add_argument("--hops", metavar="N", type=int, help="number of links to follow in a graph bank")
    parser.add_argument("--json", action="store_true", help="print the chunks and scores as JSON")
    return parser


def _add_delete(actions: Subparsers) -> argparse.ArgumentParser:
    parser = add_command(
        actions,
        "delete",
        delete,
        summary="delete documents from a memory bank, all or none",
        examples="workbench memory delete notes today.txt",
    )
    parser.add_argument("bank", metavar="BANK", help="name of the bank")
    parser.add_argument("ids", nargs="+", metavar="ID", help="id of a document")
    return parser


def list_banks(args: argparse.Namespace) -> int:
    with opening.open_workbench(args.config) as bench:
        if args.bank is not None:
            ids = bench.list_documents(args.bank)
            output.print_json(ids) if args.json else _print_lines(ids)
            return 0
        bench.list_memory_banks()
        served = [(known.name, known.definition) for known in bench.memory_banks.registrations()]
    if args.json:
        output.print_json([{"name": name, **bank.model_dump()} for name, bank in served])
        return 0
    rows = [(name, bank.provider_id, bank.type, _details(bank)) for name, bank in served]
    print(output.table(("NAME", "PROVIDER", "TYPE", "CHUNKS"), rows))
    return 0


def register(args: argparse.Namespace) -> int:
    with opening.open_workbench(args.config) as bench:
        bank = bench.register_memory_bank(
            args.name,
            args.type,
            embedding_model=args.embedding_model,
            chunk_size_in_tokens=args.chunk_size,
            overlap_size_in_tokens=args.overlap,
            provider_id=args.provider,
        )
    details = f", {_details(bank)}" if _details(bank) else ""
    print(f"{bank.identifier}: {bank.type} bank registered with {bank.provider_id}{details}")
    return 0


def unregister(args: argparse.Namespace) -> int:
    with opening.open_workbench(args.config) as bench:
        for name in args.names:
            bench.memory_banks.find(name)  # documents cannot be restored: delete all banks or none
        for name in args.names:
            bench.unregister_memory_bank(name)
            print(f"{name}: deleted", flush=True)
    return 0


def insert(args: argparse.Namespace) -> int:
    sources = [source for path in args.paths for source in _sources(path)]
    with opening.open_workbench(args.config) as bench:
        ids = bench.insert(args.bank, sources, ttl_seconds=args.ttl, metadata=args.metadata)
    if args.json:
        output.print_json(ids)
    else:
        print(f"{args.bank}: {len(ids)} {'document' if len(ids) == 1 else 'documents'} inserted")
    return 0


def query(args: argparse.Namespace) -> int:
    given = ("max_chunks", "score_threshold", "mode", "prefix", "hops")
    params = {name: value for name in given if (value := getattr(args, name)) is not None}
    if args.filter:
        params["filter"] = _filter(args.filter)
    with opening.open_workbench(args.config) as bench:
        found = bench.query(args.bank, args.text, **params)
    if args.json:
        output.print_json(found.model_dump(mode="json"))
    else:
        _show(found)
    return 0


def delete(args: argparse.Namespace) -> int:
    with opening.open_workbench(args.config) as bench:
        bench.delete_documents(args.bank, args.ids)
    print(f"{args.bank}: {', '.join(args.ids)} deleted")
    return 0


def _sources(path: str) -> list[Source]:
    """Return the text of standard input, or the paths that a pattern matches; one that does not is a path itself."""
    if path == "-":
        return [sys.stdin.read()]
    if glob.has_magic(path) and (found := sorted(glob.glob(path, recursive=True))):  # noqa: PTH207 (as shells do it)
        return [Path(name) for name in found]
    return [Path(path)]


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE; got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:  # a text needs no quotes
        return name, value


def _filter(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the filter of pairs; several values of one key are alternatives."""
    values: dict[str, list[Any]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return {name: found[0] if len(found) == 1 else found for name, found in values.items()}


def _details(bank: MemoryBankDef) -> str:
    if bank.type != "vector":
        return ""
    overlap = bank.overlap_size_in_tokens
    shared = "" if overlap is None else f", {overlap} of them shared"
    return f"{bank.chunk_size_in_tokens} tokens of {bank.embedding_model}{shared}"


def _show(found: QueryDocumentsResponse) -> None:
    for chunk, score in zip(found.chunks, found.scores, strict=True):
        metadata = f"  {json.dumps(chunk.metadata, ensure_ascii=False)}" if chunk.metadata else ""
        content = chunk.content if isinstance(chunk.content, str) else "".join(map(str, chunk.content))
        output.write_text(f"{score:.3g}  {chunk.document_id}{metadata}\n{_indented(content)}\n\n")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.strip().splitlines())


def _print_lines(lines: list[str]) -> None:
    output.write_text("".join(f"{line}\n" for line in lines))
