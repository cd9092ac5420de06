"""Asking anew for a run, or for one that goes on from it: which tokens are kept, under which parameters and seed."""

from __future__ import annotations

from dataclasses import replace

from workbench.errors import InvalidRequestError
from workbench.protocol import SamplingParams, StopReason, validate_sampling
from workbench.protocol.sampling import is_count
from workbench.providers.requests import Request
from workbench.records import AnswerPrefix
from workbench.session.run_protocols import RunLike


def branched(run: RunLike, position: int, token_id: int | None, sampling_params: SamplingParams | None) -> Request:
    """The request of a run that keeps the first ``position`` tokens and goes on with ``token_id``, if that is given.

    Raises:
        InvalidRequestError: there are not so many tokens, or what is given cannot be such a thing.
    """
    tokens = run.tokens
    if not is_count(position) or position > len(tokens):
        raise InvalidRequestError(
            "position", position, f"a whole number from 0 to {len(tokens)}, the number of tokens so far"
        )
    if not tokens and not run.done:
        raise InvalidRequestError("position", position, "used after the run has its first token or has ended")
    if token_id is not None and not is_count(token_id):
        raise InvalidRequestError("token_id", token_id, "None or a token id, 0 or above")
    params = run.sampling_params if sampling_params is None else sampling_params
    validate_sampling(params)
    given_ids = () if token_id is None else (int(token_id),)
    least = position + len(given_ids)
    if params.max_tokens and params.max_tokens < least:
        allowed = f"0, or at least {least}, the number of tokens that the answer begins with"
        raise InvalidRequestError("sampling_params.max_tokens", params.max_tokens, allowed)
    if params.seed is None:  # the numbers that were drawn are the ones to go on with
        params = params.model_copy(update={"seed": run.seed})
    answer_prefix = AnswerPrefix(tuple(tokens[:position]), given_ids, run.prompt_tokens, run.inspector)
    return replace(run.request, sampling_params=params.model_copy(), answer_prefix=answer_prefix)


def extended(run: RunLike, max_tokens: int | None) -> Request:
    """The request of a run that goes on where this one was stopped or cut off.

    Raises:
        InvalidRequestError: the run has not ended, or ended by itself.
    """
    if not run.done or run.stop_reason not in (None, StopReason.out_of_tokens):
        given = f"{run.state}, {run.stop_reason}" if run.stop_reason else run.state
        allowed = "cancelled, failed or out_of_tokens: resume() a paused run; a complete answer cannot be extended"
        raise InvalidRequestError("state", given, allowed)
    if max_tokens is not None and not is_count(max_tokens):
        raise InvalidRequestError("max_tokens", max_tokens, "None or a whole number, 0 (until the end) or above")
    params = run.sampling_params.model_copy(update={"max_tokens": _in_all(run, max_tokens)})
    return branched(run, len(run.tokens), None, params)


def repeated(run: RunLike, seed: int | None) -> Request:
    """The same request anew, with that seed or a fresh one."""
    params = run.sampling_params.model_copy(update={"seed": seed})
    validate_sampling(params)
    return replace(run.request, sampling_params=params)


def _in_all(run: RunLike, more: int | None) -> int:
    """``max_tokens`` of an answer that goes on; by default what was left, and where nothing was, as many again."""
    there, limit = len(run.tokens), run.sampling_params.max_tokens or 0
    if more is not None:
        return there + int(more) if more else 0
    if limit == 0 or there < limit:
        return limit
    answer_prefix = run.request.answer_prefix
    return there + limit - (len(answer_prefix.kept) if answer_prefix else 0)
