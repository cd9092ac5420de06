"""Cut of answers after their first tool call, for requests whose ``parallel_tool_calls`` is false."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from workbench.protocol import StopReason, ToolCallDelta, ToolCallParseStatus
from workbench.providers.streams import closed_after
from workbench.records import Emission


async def until_first_call(emissions: AsyncIterator[Emission]) -> AsyncIterator[Emission]:
    """Yield the emissions of a chat up to its first complete call, which ends the turn and the computation.

    The result equals that of a model that ends its turn after a single call.
    """
    async with closed_after(emissions):
        async for emission in emissions:
            yield emission
            delta = emission.delta
            if isinstance(delta, ToolCallDelta) and delta.parse_status is ToolCallParseStatus.success:
                yield replace(
                    emission, delta="", tokens=(), prompt_tokens=(), logprobs=(), stop_reason=StopReason.end_of_message
                )
                return
