"""Conversion of servers' logprobs to token records; a value that a server does not send stays unknown.

==========  =====================================================================================================
id          of all tokens from llama.cpp, of sampled ones from vLLM (``return_token_ids``); else -1
bytes       as sent; else those of the text, in which U+FFFD may replace a part of a character
logprob     of the raw distribution, the default of vLLM, TGI and llama.cpp
rank        among the most probable tokens, if their list shows it; else 0
entropy     never sent: NaN
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
class LogprobOptions:
    """Logprobs that an answer must contain."""

    enabled: bool = False
    prompt: bool = False
    """Whether the prompt's tokens need them too."""
    alternatives: int = 0


def token_records(choice: Choice, text: str, position: int, elapsed_s: float, alternatives: int) -> list[TokenRecord]:
    """Return the records of a choice's new tokens; without logprobs, one record stands for all of them."""
    ids = choice.token_ids or []
    if choice.logprobs is not None and (entries := list(_entries(choice.logprobs))):
        known = ids if len(ids) == len(entries) else [None] * len(entries)
        return [
            _record(entry, token_id, position + index, elapsed_s, alternatives)
            for index, (entry, token_id) in enumerate(zip(entries, known, strict=True))
        ]
    if not text:
        return []
    record = unknown_token(position, text, elapsed_s)
    return [replace(record, token_id=ids[0])] if len(ids) == 1 else [record]


def prompt_records(
    positions: list[dict[int, PromptCandidate] | None], prompt_ids: list[int], alternatives: int
) -> tuple[TokenRecord, ...]:
    """Return the records of a prompt's tokens from vLLM; the first token has no logprob and is left out."""
    return tuple(
        _prompt_record(candidates, token_id, position, alternatives)
        for position, (candidates, token_id) in enumerate(zip(positions, prompt_ids, strict=True))
        if candidates is not None and token_id in candidates
    )


def _entries(logprobs: Logprobs) -> Iterator[TokenLogprob]:
    """Normalize legacy logprobs to the current schema."""
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
    # llama.cpp adds the text that was buffered for stop strings to a token; the list has the token's own text.
    named = sampled if sampled is not None and entry.id is not None else entry
    return TokenRecord(
        position=position,
        token_id=_id(entry) if token_id is None else token_id,
        text=named.token,
        bytes=_bytes(named),
        logprob=_value(entry),
        # The last of a list may be there only because it was sampled, so its index gives no rank.
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
    candidate = candidates[token_id]
    others = sorted(
        ((one_id, one) for one_id, one in candidates.items() if one_id != token_id), key=lambda pair: -pair[1].logprob
    )
    text = candidate.decoded_token or ""
    return TokenRecord(
        position=position,
        token_id=token_id,
        text=text,
        bytes=text.encode(errors="replace"),
        logprob=candidate.logprob,
        rank=candidate.rank or 0,
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
