"""Pausing of providers that compute nothing ahead of their reader: not reading on is enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from workbench.protocol import ToolCallDelta, ToolCallParseStatus
from workbench.providers.requests import Request
from workbench.providers.streams import closed_after
from workbench.records import Breakpoint, Control, Emission


async def pausable(emissions: AsyncIterator[Emission], request: Request) -> AsyncIterator[Emission]:
    """Yield the emissions of a request, pausing between two of them on request and at breakpoints."""
    control = request.control or Control()
    gate = _Gate(control)
    matchers = [(one, _BreakpointMatcher(one)) for one in request.breakpoints]
    control.attach(gate)
    async with closed_after(emissions):
        async for emission in emissions:
            yield emission
            if emission.stop_reason is None:
                if hits := [one for one, matcher in matchers if matcher.matches(emission)]:
                    gate.close(hits[0])
                await gate.passed()


class TextFinder:
    """Incremental search for a text in the deltas of an answer."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._before = ""

    def completes(self, delta: str) -> bool:
        """Return whether ``delta`` completes an occurrence of the text."""
        grown = self._before + delta
        # One character too short for an occurrence, so that none is found twice.
        self._before = grown[max(0, len(grown) - len(self._text) + 1) :]
        return self._text in grown


class _Gate:
    """Gate between two emissions; `passed` waits while it is closed."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._at: Breakpoint | None = None

    def pause(self) -> None:
        self._loop.call_soon_threadsafe(self.close)

    def resume(self) -> None:
        self._loop.call_soon_threadsafe(self._open.set)

    def close(self, at: Breakpoint | None = None) -> None:
        if self._open.is_set():
            self._at = at
            self._open.clear()

    async def passed(self) -> None:
        if self._open.is_set():
            return
        self._control.report_pause(paused=True, at=self._at)
        await self._open.wait()
        self._control.report_pause(paused=False)


class _BreakpointMatcher:
    """Test of emissions against one breakpoint."""

    def __init__(self, breakpoint_: Breakpoint) -> None:
        self._breakpoint = breakpoint_
        self._text = TextFinder(breakpoint_.text) if breakpoint_.text else None

    def matches(self, emission: Emission) -> bool:
        delta = emission.delta
        if self._breakpoint.tool_call:
            return isinstance(delta, ToolCallDelta) and delta.parse_status is ToolCallParseStatus.started
        if self._text is not None:
            return self._text.completes(delta if isinstance(delta, str) else _call_text(delta))
        above = self._breakpoint.entropy_above
        return above is not None and any(token.entropy > above for token in emission.tokens)


def _call_text(delta: ToolCallDelta) -> str:
    under_way = delta.parse_status in (ToolCallParseStatus.started, ToolCallParseStatus.in_progress)
    return str(delta.content) if under_way else ""
