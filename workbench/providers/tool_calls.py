"""Extraction of tool calls from an answer's text.

Text that may begin a call is buffered until that is decided, and so are the records of its tokens: they come with the
next emission, so that each generated token is emitted exactly once. Only the last emission may be empty.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from workbench.errors import ToolCallError
from workbench.prompts.tools.parsing import ToolCallParser
from workbench.protocol import StopReason, ToolCallDelta, ToolCallParseStatus
from workbench.providers.streams import closed_after
from workbench.records import Emission, TokenRecord


async def with_tool_calls(
    emissions: AsyncIterator[Emission], parser: ToolCallParser, *, must_call: bool = False
) -> AsyncIterator[Emission]:
    """Yield the emissions of an answer, with each tool call in place of its text.

    Raises:
        ToolCallError: ``must_call``, and no call is complete; raised in place of the last emission.
    """
    calls = 0
    tokens: tuple[TokenRecord, ...] = ()
    prompt: tuple[TokenRecord, ...] = ()
    async with closed_after(emissions):
        async for emission in emissions:
            tokens += emission.tokens
            prompt += emission.prompt_tokens
            for delta in _deltas(parser, emission):
                calls += isinstance(delta, ToolCallDelta) and delta.parse_status is ToolCallParseStatus.success
                yield _with(emission, parser, delta=delta, tokens=tokens, prompt_tokens=prompt, stop_reason=None)
                tokens = prompt = ()
            if emission.stop_reason is None:
                continue
            if must_call and not calls:
                raise ToolCallError(_missing_call(parser, emission.stop_reason))
            yield _with(emission, parser, delta="", tokens=tokens, prompt_tokens=prompt)


def _deltas(parser: ToolCallParser, emission: Emission) -> list[str | ToolCallDelta]:
    """Return the deltas that one more emission makes certain."""
    # A tag may be a control token of its own, which is not part of the text.
    tags = "".join(token.text for token in emission.tokens if token.is_special and token.text in parser.tags)
    deltas = parser.feed(f"{emission.delta}{tags}")
    return deltas if emission.stop_reason is None else deltas + parser.close()


def _with(emission: Emission, parser: ToolCallParser, **changes: Any) -> Emission:
    faults = tuple(f"a tool call could not be read: {fault}" for fault in parser.faults)
    return replace(emission, notes=emission.notes + faults, call_opening=parser.opening, **changes)


def _missing_call(parser: ToolCallParser, stop_reason: StopReason) -> str:
    """Return why a required call is missing, and what to do."""
    if stop_reason == StopReason.out_of_tokens:
        return (
            "tool_choice is required, but the token limit was reached before a call was complete; "
            "raise sampling_params.max_tokens, or shorten the conversation"
        )
    reason = parser.faults[-1] if parser.faults else "it ended before a call was complete"
    return f"tool_choice is required, but the answer contains no tool call: {reason}"
