"""Sampling options of the command line, in the protocol's names, and the SamplingParams they stand for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from workbench.errors import InvalidRequestError

if TYPE_CHECKING:
    from workbench.protocol import SamplingParams

STRATEGIES = ("greedy", "top_p", "top_k")

# Options of SamplingParams that are handed on as they are; the protocol checks their ranges.
_FIELDS = ("strategy", "temperature", "top_p", "top_k", "max_tokens", "repetition_penalty", "seed", "stop")


def add_sampling_options(parser: argparse.ArgumentParser, *, max_tokens: int) -> None:
    """All options of SamplingParams; ``max_tokens`` is this command's default."""
    group = parser.add_argument_group(
        "sampling",
        "Decoding is greedy by default. Without --strategy, --temperature or --top-p implies top_p,\n"
        "and --top-k implies top_k. Sampling without --temperature uses temperature 1.",
    )
    group.add_argument(
        "--max-tokens",
        type=int,
        default=max_tokens,
        metavar="N",
        help="generate at most N tokens; 0: until the model stops or its context is full (default: %(default)s)",
    )
    group.add_argument("--strategy", choices=STRATEGIES, help="sampling strategy (default: greedy)")
    group.add_argument("--temperature", type=float, metavar="T", help="sampling temperature; 0 is greedy")
    group.add_argument(
        "--top-p", type=float, metavar="P", help="sample from the most probable tokens whose probabilities add up to P"
    )
    group.add_argument("--top-k", type=int, metavar="K", help="sample from the K most probable tokens; 0: from all")
    group.add_argument(
        "--repetition-penalty", type=float, metavar="R", help="above 1, repeated tokens become less likely (default: 1)"
    )
    group.add_argument("--seed", type=int, metavar="N", help="random seed; the same seed gives the same tokens")
    group.add_argument("--stop", action="append", metavar="TEXT", help="stop before this text; can be repeated")


def sampling_params(args: argparse.Namespace) -> SamplingParams:
    """What the options say; raises InvalidRequestError that names the option."""
    from workbench.protocol import SamplingParams

    try:
        return SamplingParams(**given_fields(args))
    except InvalidRequestError as error:
        raise InvalidRequestError(f"--{error.field.replace('_', '-')}", error.given, error.allowed) from None


def given_fields(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of SamplingParams that were given, with what they imply."""
    fields = {name: getattr(args, name) for name in _FIELDS if getattr(args, name) is not None}
    fields.setdefault("strategy", _implied_strategy(fields))
    if fields["strategy"] != "greedy":
        fields.setdefault("temperature", 1.0)
    return fields


def _implied_strategy(fields: dict[str, Any]) -> str:
    if "top_p" in fields and "top_k" in fields:
        raise InvalidRequestError("strategy", None, "top_p or top_k when both --top-p and --top-k are given")
    if "top_k" in fields:
        return "top_k"
    return "top_p" if "top_p" in fields or fields.get("temperature", 0) != 0 else "greedy"
