"""Sampling options of the command line, under the protocol's names, and their conversion to SamplingParams."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from workbench.errors import InvalidRequestError
from workbench.sampling_stages import MAX_TOKENS, PARAMETERS, STRATEGIES, Parameter, RangeByToken, StageSpec

if TYPE_CHECKING:
    from workbench.protocol import SamplingParams

# Options that are passed on unchanged; SamplingParams checks their ranges.
_FIELDS = ("strategy", *(one.field for one in PARAMETERS), "seed", "stop")
_DRAW_FIELDS = [one.field for one in PARAMETERS if isinstance(one, StageSpec) and not one.changes_argmax]


def add_sampling_options(parser: argparse.ArgumentParser, *, max_tokens: int) -> None:
    """Add an option for each field of SamplingParams; ``max_tokens`` is this command's default."""
    *others, last = (_option(field) for field in _DRAW_FIELDS if field != "top_k")
    group = parser.add_argument_group(
        "sampling",
        f"Decoding is greedy by default. Without --strategy, {', '.join(others)} or {last} implies top_p,\n"
        "and --top-k implies top_k. Sampling without --temperature uses temperature 1.",
    )
    _add_option(group, MAX_TOKENS, default=max_tokens)
    group.add_argument("--strategy", choices=STRATEGIES, help="sampling strategy (default: greedy)")
    for one in PARAMETERS:
        if one is not MAX_TOKENS:
            _add_option(group, one)
    group.add_argument("--seed", type=int, metavar="N", help="random seed; the same seed gives the same tokens")
    group.add_argument("--stop", action="append", metavar="TEXT", help="stop before this text; can be repeated")


def _add_option(group: argparse._ArgumentGroup, one: Parameter, default: int | None = None) -> None:
    add = partial(group.add_argument, _option(one.field), metavar=one.metavar, help=one.option)
    if isinstance(one.range, RangeByToken):
        add(type=_bias, action="append")
    else:
        add(type=int if one.range.is_whole else float, default=default)


def _bias(text: str) -> tuple[int, float]:
    token_id, _, value = text.partition(":")
    try:
        return int(token_id), float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a token id and a number, such as 50:-100; got {text!r}") from None


def sampling_params(args: argparse.Namespace) -> SamplingParams:
    """Return the parameters of the parsed options; raise `InvalidRequestError`, which names the option."""
    from workbench.protocol import SamplingParams

    try:
        return SamplingParams(**given_fields(args))
    except InvalidRequestError as error:
        raise InvalidRequestError(_option(error.field), error.given, error.allowed) from None


def given_fields(args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of SamplingParams that were given or are implied."""
    fields = {name: getattr(args, name) for name in _FIELDS if getattr(args, name) is not None}
    if "logit_bias" in fields:
        fields["logit_bias"] = dict(fields["logit_bias"])
    fields.setdefault("strategy", _implied_strategy(fields))
    if fields["strategy"] != "greedy":
        fields.setdefault("temperature", 1.0)
    return fields


def _implied_strategy(fields: dict[str, Any]) -> str:
    if "top_p" in fields and "top_k" in fields:
        raise InvalidRequestError("strategy", None, "top_p or top_k when both --top-p and --top-k are given")
    if "top_k" in fields:
        return "top_k"
    if fields.get("temperature") == 0 and "top_p" not in fields:
        return "greedy"
    return "top_p" if fields.keys() & set(_DRAW_FIELDS) else "greedy"


def _option(field: str) -> str:
    return f"--{field.replace('_', '-')}"
