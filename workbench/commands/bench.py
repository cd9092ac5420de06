"""``workbench bench``: speed and exactness of the precisions on this machine, in comparison with other programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.commands import output
from workbench.commands.opening import DEFAULT_MODEL, PRECISIONS
from workbench.commands.parsing import add_command
from workbench.errors import InvalidRequestError

if TYPE_CHECKING:
    from workbench.benchmarks.lineup import Settings
    from workbench.benchmarks.measuring import Report
    from workbench.commands.parsing import Subparsers

TASKS = ("decode", "prefill", "first-token", "batch", "embeddings", "cold-start", "exactness", "gemma")
_PRECISIONS, _FILE_PRECISIONS = "int4,bf16,float32", "file,float32"
RIVALS = ("transformers", "llama.cpp", "openvino")


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "bench",
        run,
        summary="measure speed and exactness against other programs",
        examples="""
            workbench bench
            workbench bench --tasks decode --precision int4,int8,bf16 --rounds 9
            workbench bench --against llama.cpp,openvino
            workbench bench --against llama.cpp --tasks decode --busy 1
            workbench bench --against openvino --processor avx2
            workbench bench --tasks exactness --exactness-tokens 2000 --json
            workbench bench --model ./model.gguf --against llama.cpp --tasks decode,cold-start,exactness
            """,
        notes="""
            Generation is compared with transformers.generate in float32 and bf16, embeddings with a loop over the
            texts, a cold start with "import torch". All programs are measured in turn, round by round; the workbench
            streams with top-5 logprobs. Close other programs first: they distort the figures.
            This takes ten minutes; --tasks and --rounds make it shorter. The task gemma measures a second model,
            Gemma 3 270M, which is fetched when --tasks names it (238 MB, under Google's terms of use).
            """,
    )
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help="catalog name, local folder, GGUF file or hub id (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        metavar="LIST",
        help=f"precisions of the workbench: any of {', '.join(PRECISIONS)}, and file, a GGUF file's own"
        f" (default: {_PRECISIONS}; {_FILE_PRECISIONS} for a GGUF file)",
    )
    parser.add_argument(
        "--device",
        default="cpu",
        metavar="NAME",
        help="device of the workbench: cpu, auto, cuda, cuda:N, mps, xpu or torch:cpu (default: %(default)s)",
    )
    parser.add_argument(
        "--against",
        default="transformers",
        metavar="LIST",
        help="other programs to include: llama.cpp, openvino (pip install 'inference-workbench[bench]')",
    )
    parser.add_argument(
        "--tasks", metavar="LIST", help=f"any of {', '.join(TASKS)} (default: all; gemma only if it was fetched before)"
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="measured rounds (default: %(default)s)")
    parser.add_argument(
        "--tokens", type=int, default=64, metavar="N", help="tokens that decode generates (default: 64)"
    )
    parser.add_argument(
        "--exactness-tokens", type=int, default=500, metavar="N", help="tokens that exactness compares (default: 500)"
    )
    parser.add_argument(
        "--gguf",
        type=Path,
        metavar="FILE",
        help="GGUF file for llama.cpp and openvino (default: the catalog model's own, or the file that is measured)",
    )
    parser.add_argument(
        "--processor",
        metavar="NAME",
        help="hold all programs to a smaller processor's instructions: avx2, a laptop's (default: this machine's own)",
    )
    parser.add_argument(
        "--busy", type=int, metavar="N", help="keep N cores busy with other processes while measuring (default: none)"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(args: argparse.Namespace) -> int:
    settings = _settings(args)
    # Imported here, so that options are checked without loading torch.
    from workbench.benchmarks import report as reports

    report = _measure(settings)
    if args.json:
        output.print_json(reports.as_json(report))
    else:
        print("\n".join(reports.lines(report)))
    return 0


def _measure(settings: Settings) -> Report:
    from workbench.benchmarks.measuring import measure

    show, end = _progress()
    try:
        return measure(settings, show)
    finally:
        end()


def _settings(args: argparse.Namespace) -> Settings:
    from workbench.catalog import gguf_path

    is_file = gguf_path(args.model) is not None
    precisions = _listed(
        "--precision",
        args.precision or (_FILE_PRECISIONS if is_file else _PRECISIONS),
        (*PRECISIONS, "file") if is_file else PRECISIONS,
    )
    rivals = _listed("--against", args.against, RIVALS)
    tasks = TASKS if args.tasks is None else _listed("--tasks", args.tasks, TASKS)
    for option, value, lowest, highest in (
        ("--rounds", args.rounds, 1, 1000),
        ("--tokens", args.tokens, 2, 1024),
        ("--exactness-tokens", args.exactness_tokens, 2, 100_000),
    ):
        if not lowest <= value <= highest:
            raise InvalidRequestError(option, value, f"from {lowest} to {highest}")
    _check_conditions(args)
    from workbench.benchmarks.lineup import Settings

    return Settings(
        model=args.model,
        device=_device(args.device),
        precisions=precisions,  # type: ignore[arg-type] # the names were checked above
        rivals=frozenset(rivals),
        tasks=frozenset(tasks),
        rounds=args.rounds,
        tokens=args.tokens,
        exactness_tokens=args.exactness_tokens,
        gguf=args.gguf,
        processor=args.processor,
        busy=args.busy or 0,
        may_fetch=args.tasks is not None,
    )


def _device(name: str) -> str:
    """Return the device that ``--device`` names on this machine; raise `InvalidRequestError` if it is not there."""
    from workbench.engine.devices import choose

    return choose(name, "--device").device


def _check_conditions(args: argparse.Namespace) -> None:
    """Raise InvalidRequestError unless ``--gguf`` is there, and this machine can do what the other options say."""
    from workbench.benchmarks.gguf_file import check_gguf
    from workbench.benchmarks.processors import check_processor
    from workbench.machine import thread_count

    cores = thread_count()
    if args.busy is not None and not 1 <= args.busy <= cores:
        raise InvalidRequestError("--busy", args.busy, f"from 1 to {cores}, the cores that this process may use")
    if args.processor is not None:
        check_processor(args.processor)
    if args.gguf is not None:
        check_gguf(args.gguf)


def _listed(option: str, text: str, allowed: Sequence[str]) -> tuple[str, ...]:
    """Return comma-separated names, each once; raise InvalidRequestError unless all are allowed."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = next((name for name in names if name not in allowed), None)
    if unknown is not None or not names:
        raise InvalidRequestError(option, unknown or text, f"a comma-separated list of {', '.join(allowed)}")
    return names


def _progress() -> tuple[Callable[[str], None], Callable[[], None]]:
    """Return functions that show the progress on standard error and end it: one changing line, or a line per stage."""
    if sys.stderr.isatty():
        return (
            lambda said: print(f"\r\033[K{said}", end="", file=sys.stderr, flush=True),
            lambda: print("\r\033[K", end="", file=sys.stderr, flush=True),
        )
    stages: list[str] = []

    def show(said: str) -> None:
        stage = said.partition(":")[0]
        if stage not in stages:
            stages.append(stage)
            print(stage, file=sys.stderr, flush=True)

    return show, lambda: None
