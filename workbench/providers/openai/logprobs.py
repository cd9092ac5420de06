"""The logprobs that servers tell, as token records: nothing is added to what they say but what follows from it.

==========  =====================================================================================================
id          llama.cpp's tokens have one; of vLLM's the sampled ones have (``return_token_ids``); else -1
bytes       where they are told, else those of the text, in which U+FFFD may stand for a part of a character
logprob     of the raw distribution, as vLLM, TGI and llama.cpp have it when nobody sets them up otherwise
rank        the place among the most probable ones, where the list shows it; else 0
entropy     never told: NaN
==========  =====================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from workbench.providers.emissions import unknown_token
from workbench.providers.openai.wire import Candidate, Choice, Logprobs, PromptCandidate, TokenLogprob
from workbench.records import Alternative, TokenRecord


@dataclass(frozen=True, slots=True)
class Told:
    """How much a request asked to be told of each token."""

    logprobs: bool = False
    prompt: bool = False
    """Of the prompt's tokens as well."""
    alternatives: int = 0


def token_records(choice: Choice, text: str, position: int, elapsed_s: float, told: Told) -> list[TokenRecord]:
    """Records of the tokens that are new in a choice; one stands for all of them where the server tells of none."""
    ids = choice.token_ids or []
    if choice.logprobs is not None and (entries := list(_entries(choice.logprobs))):
        known = ids if len(ids) == len(entries) else [None] * len(entries)
        return [
            _record(entry, token_id, position + index, elapsed_s, told.alternatives)
            for index, (entry, token_id) in enumerate(zip(entries, known, strict=True))
        ]
    if not text:
        return []
    record = unknown_token(position, text, elapsed_s)
    return [replace(record, token_id=ids[0])] if len(ids) == 1 else [record]


def prompt_records(
    positions: list[dict[int, PromptCandidate] | None], prompt_ids: list[int], alternatives: int
) -> tuple[TokenRecord, ...]:
    """Records of a prompt's tokens, as vLLM tells of them; the first has no logprob, so it is left out."""
    return tuple(
        _prompt_record(candidates, token_id, position, alternatives)
        for position, (candidates, token_id) in enumerate(zip(positions, prompt_ids, strict=True))
        if candidates is not None and token_id in candidates
    )


def _entries(logprobs: Logprobs) -> Iterator[TokenLogprob]:
    """Both forms as the newer one."""
    if logprobs.content is not None:
        yield from logprobs.content
    for index, token in enumerate(logprobs.tokens or ()):
        likely = (logprobs.top_logprobs or [])[index : index + 1]
        others = [Candidate(token=text, logprob=value) for text, value in ((likely and likely[0]) or {}).items()]
        logprob = (logprobs.token_logprobs or [])[index : index + 1]
        yield TokenLogprob(token=token, logprob=logprob[0] if logprob else None, top_logprobs=others)


def _record(
    entry: TokenLogprob, token_id: int | None, position: int, elapsed_s: float, alternatives: int
) -> TokenRecord:
    listed = sorted(entry.top_logprobs or (), key=lambda one: -_value(one))
    sampled = next((one for one in listed if _is_same(one, entry)), None)
    others = [one for one in listed if one is not sampled]
    above = sum(_value(one) > _value(entry) for one in others)
    # llama.cpp gives a token the text that its stop strings had held back; the list has the token's own.
    named = sampled if sampled is not None and entry.id is not None else entry
    return TokenRecord(
        position=position,
        token_id=_id(entry) if token_id is None else token_id,
        text=named.token,
        bytes=_bytes(named),
        logprob=_value(entry),
        # The last of a list may be there only because it was sampled, and then its place says nothing.
        rank=above + 1 if sampled is not None and (above < len(others) or not others) else 0,
        entropy=math.nan,
        alternatives=tuple(
            Alternative(_id(one), one.token, _bytes(one), _value(one), index + 1 + (_value(one) < _value(entry)))
            for index, one in enumerate(others[:alternatives])
        ),
        elapsed_s=elapsed_s,
    )


def _prompt_record(
    candidates: dict[int, PromptCandidate], token_id: int, position: int, alternatives: int
) -> TokenRecord:
    given = candidates[token_id]
    others = sorted(
        ((one_id, one) for one_id, one in candidates.items() if one_id != token_id), key=lambda pair: -pair[1].logprob
    )
    text = given.decoded_token or ""
    return TokenRecord(
        position=position,
        token_id=token_id,
        text=text,
        bytes=text.encode(errors="replace"),
        logprob=given.logprob,
        rank=given.rank or 0,
        entropy=math.nan,
        alternatives=tuple(
            Alternative(
                one_id,
                one.decoded_token or "",
                (one.decoded_token or "").encode("utf-8", "replace"),
                one.logprob,
                one.rank or 0,
            )
            for one_id, one in others[:alternatives]
        ),
    )


def _is_same(one: Candidate, entry: TokenLogprob) -> bool:
    if entry.id is not None:
        return one.id == entry.id
    return one.token == entry.token and one.logprob == entry.logprob


def _value(one: Candidate) -> float:
    return math.nan if one.logprob is None else one.logprob


def _id(one: Candidate) -> int:
    return -1 if one.id is None else one.id


def _bytes(one: Candidate) -> bytes:
    if one.bytes is not None and all(0 <= byte <= 255 for byte in one.bytes):
        return bytes(one.bytes)
    return one.token.encode(errors="replace")
