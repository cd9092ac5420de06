"""Requests made from a run: a branch of it, its continuation after the end, and the same request again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from workbench.errors import InvalidRequestError
from workbench.protocol import Edit, SamplingParams, StopReason, validate_sampling
from workbench.protocol.sampling import is_count
from workbench.providers.requests import Request
from workbench.records import AnswerPrefix
from workbench.session.run_protocols import RunLike


def branched(run: RunLike, position: int, token_id: int | None, sampling_params: SamplingParams | None) -> Request:
    """Return a request that keeps the first ``position`` tokens of a run and continues with ``token_id``, if any.

    Raises:
        InvalidRequestError: the run has fewer tokens, or an argument has the wrong type or range.
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
    params = _with_seed(run, sampling_params)
    given_ids = () if token_id is None else (int(token_id),)
    least = position + len(given_ids)
    if params.max_tokens and params.max_tokens < least:
        allowed = f"0, or at least {least}, the number of tokens that the answer begins with"
        raise InvalidRequestError("sampling_params.max_tokens", params.max_tokens, allowed)
    answer_prefix = AnswerPrefix(tuple(tokens[:position]), given_ids, tuple(run.prompt_tokens), run.inspector)
    return replace(run.request, sampling_params=params, answer_prefix=answer_prefix)


def extended(run: RunLike, max_tokens: int | None) -> Request:
    """Return a request that continues a run that was stopped or cut off.

    Raises:
        InvalidRequestError: the run has not ended, or the model ended it.
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
    """Return the request of a run with another seed; None draws a fresh one."""
    params = run.sampling_params.model_copy(update={"seed": seed})
    validate_sampling(params)
    return replace(run.request, sampling_params=params)


def edited(
    run: RunLike, edits: Sequence[Edit], *, keep_tokens: bool, sampling_params: SamplingParams | None
) -> Request:
    """Return the request of a run with further edits and the same seed.

    Raises:
        InvalidRequestError: there is no edit, or an argument has the wrong type.
    """
    if not edits or not all(isinstance(edit, Edit) for edit in edits):
        raise InvalidRequestError("edits", list(edits), "at least one Edit")
    params = _with_seed(run, sampling_params)
    prefix = run.request.answer_prefix
    given = [token.token_id for token in run.tokens] if keep_tokens else list(prefix.token_ids if prefix else ())
    answer_prefix = AnswerPrefix(given_ids=tuple(given)) if given else None
    everything = (*run.request.edits, *(edit.model_copy() for edit in edits))
    return replace(run.request, sampling_params=params, edits=everything, answer_prefix=answer_prefix)


def _with_seed(run: RunLike, params: SamplingParams | None) -> SamplingParams:
    """Return a copy of the parameters, by default the run's, with the run's own seed unless they have one."""
    chosen = run.sampling_params if params is None else params
    validate_sampling(chosen)
    return chosen.model_copy(update={"seed": run.seed} if chosen.seed is None else {})


def _in_all(run: RunLike, more: int | None) -> int:
    """Return ``max_tokens`` for a continued answer: by default the rest of the budget, or the same budget again."""
    there, limit = len(run.tokens), run.sampling_params.max_tokens or 0
    if more is not None:
        return there + int(more) if more else 0
    if limit == 0 or there < limit:
        return limit
    answer_prefix = run.request.answer_prefix
    return there + limit - (len(answer_prefix.kept) if answer_prefix else 0)
