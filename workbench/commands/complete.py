"""``workbench complete``: continue a text, token by token or as one JSON document."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from workbench.commands import opening, output
from workbench.commands.format_options import add_format_options, named_format, response_format
from workbench.commands.parsing import add_command
from workbench.commands.sampling_options import add_sampling_options, sampling_params
from workbench.errors import InvalidRequestError

if TYPE_CHECKING:
    from workbench.commands.parsing import Subparsers
    from workbench.protocol import LogProbConfig
    from workbench.records import TokenRecord
    from workbench.session.workbench import CompletionRun

_EXAMPLES = """
workbench complete "The capital of France is" --max-tokens 8
workbench complete "Once upon a time" --temperature 0.8 --seed 7
workbench complete "The capital of France is" --max-tokens 8 --logprobs 5 --json
workbench complete "Is the sky blue? " --regex "yes|no"
workbench complete "A person: " --json-schema person.schema.json
echo "A haiku about rain:" | workbench complete -
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "complete",
        run,
        summary="continue a text",
        examples=_EXAMPLES,
        notes="""
            Streams the continuation to standard output. With --json, prints one JSON document at the end instead:
            text, model, stop_reason, tokens, logprobs (one entry per token; null without --logprobs) and usage.
            """,
    )
    parser.add_argument("prompt", metavar="PROMPT", help="text to continue; - reads it from standard input")
    opening.add_model_options(parser)
    add_sampling_options(parser, max_tokens=256)
    add_format_options(parser)
    parser.add_argument(
        "--logprobs",
        type=int,
        metavar="K",
        help="show the logprob of each token and of K alternatives; 0: of the sampled token only",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of streaming")


def run(args: argparse.Namespace) -> int:
    params = sampling_params(args)
    logprobs = None if args.logprobs is None else _logprob_config(args.logprobs)
    answer_format = response_format(args)
    # The final newline of a piped text is not part of the prompt, whose continuation it would change.
    prompt = sys.stdin.read().removesuffix("\n") if args.prompt == "-" else args.prompt
    bench, model = opening.open_from(args)
    with bench, named_format(args):
        completion = bench.completion(
            prompt, model=model, sampling_params=params, logprobs=logprobs, response_format=answer_format
        )
        try:
            _show(completion, as_json=args.json, with_logprobs=logprobs is not None)
        except KeyboardInterrupt:
            completion.cancel()
            raise
    if answer_format is not None and completion.stop_reason == "out_of_tokens":
        print("workbench: the answer was cut off before it was complete; allow more with --max-tokens", file=sys.stderr)
    return 0


def _logprob_config(alternatives: int) -> LogProbConfig:
    from workbench.protocol import LogProbConfig

    if alternatives < 0:
        raise InvalidRequestError("--logprobs", alternatives, "a whole number, 0 (the sampled token only) or above")
    return LogProbConfig(top_k=alternatives)


def _show(completion: CompletionRun, *, as_json: bool, with_logprobs: bool) -> None:
    if as_json:
        completion.result()
        output.print_json(as_document(completion, with_logprobs=with_logprobs))
        return
    for chunk in completion:
        output.write_text(chunk.delta)
    completion.result()
    print()
    if with_logprobs:
        print("\n" + _logprob_table(completion.tokens))


def as_document(completion: CompletionRun, *, with_logprobs: bool) -> dict[str, Any]:
    """Return the object that ``--json`` prints: text, tokens and usage of the run as plain values."""
    return {
        "text": completion.text,
        "model": completion.model,
        "stop_reason": completion.stop_reason.value if completion.stop_reason else None,
        "tokens": [{"token_id": token.token_id, "text": token.text} for token in completion.tokens],
        "logprobs": [_logprob_entry(token) for token in completion.tokens] if with_logprobs else None,
        "usage": completion.usage,
    }


def _logprob_entry(token: TokenRecord) -> dict[str, Any]:
    return {
        "token_id": token.token_id,
        "text": token.text,
        "bytes": token.bytes,
        "logprob": token.logprob,
        "rank": token.rank,
        "alternatives": list(token.alternatives),
    }


def _logprob_table(tokens: list[TokenRecord]) -> str:
    rows = (
        (
            str(token.position),
            output.visible(token.text),
            f"{token.probability:.4f}",
            str(token.rank),
            "  ".join(f"{output.visible(other.text)} {other.probability:.4f}" for other in token.alternatives),
        )
        for token in tokens
    )
    return output.table(("#", "token", "prob", "rank", "alternatives"), rows)
