"""Streams of emissions that a test wrote, which count what was read of them and how they were left."""

from __future__ import annotations

import codecs
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from workbench.protocol import StopReason
from workbench.records import Emission, TokenRecord, Usage


class ScriptedStream:
    """Call it for a generator over the emissions."""

    def __init__(self, emissions: Sequence[Emission]) -> None:
        self.emissions = list(emissions)
        self.started = 0
        self.steps = 0
        """Emissions that were computed."""
        self.closed_after: int | None = None
        """Steps at the time when the generator ended, in any way; None before."""

    async def __call__(self) -> AsyncIterator[Emission]:
        self.started += 1
        try:
            for emission in self.emissions:
                self.steps += 1
                yield emission
        finally:
            self.closed_after = self.steps


def cut(text: str, cuts: Sequence[int], *, held_back: int = 0) -> list[Emission]:
    """Return a stream of a text whose tokens are its bytes between the cuts, with all records that a run can have.

    Args:
        cuts: positions in the UTF-8 bytes, in any order.
        held_back: characters that a delta stays behind its tokens, as where a stop string may have begun.
    """
    written = text.encode()
    ends = [*sorted(set(cuts) - {0, len(written)}), len(written)] if written else []
    decoder, decoded, out, emissions = codecs.getincrementaldecoder("utf-8")(), "", 0, []
    for position, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        decoded += decoder.decode(written[start:end])
        upto = max(out, len(decoded) - held_back)
        delta, out = decoded[out:upto], upto
        token = scripted_token(position, written[start:end])
        emissions.append(_with_facts(Emission(delta, (token,), usage=Usage(5, 0, position + 1)), is_first=not position))
    last = Emission(text[out:], stop_reason=StopReason.end_of_turn, end=scripted_token(len(ends), b"</s>"))
    return [*emissions, _with_facts(last, is_first=not emissions)]


def scripted_token(position: int, written: bytes) -> TokenRecord:
    return TokenRecord(position, 100 + position, written.decode(errors="replace"), written, -0.5, 1, math.log(2))


def _with_facts(emission: Emission, *, is_first: bool) -> Emission:
    return replace(emission, seed=7, notes=("own note",), prompt_tokens=(scripted_token(0, b"?"),) if is_first else ())
