"""Pausing a provider that computes nothing ahead of its reader: it is enough not to read on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from workbench.protocol import ToolCallDelta, ToolCallParseStatus
from workbench.providers.requests import Request
from workbench.providers.streams import closed_after
from workbench.records import Breakpoint, Control, Emission


async def pausable(emissions: AsyncIterator[Emission], request: Request) -> AsyncIterator[Emission]:
    """Yield the emissions of a request, pausing between two of them when asked to and at the request's breakpoints."""
    control = request.control or Control()
    gate = _Gate(control)
    finders = [(one, _Finder(one)) for one in request.breakpoints]
    control.attach(gate)
    async with closed_after(emissions):
        async for emission in emissions:
            yield emission
            if emission.stop_reason is None:
                if hits := [one for one, finder in finders if finder.sees(emission)]:
                    gate.close(hits[0])
                await gate.passed()


class TextFinder:
    """Finds a text in a growing one, each time that it is completed."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._before = ""

    def completes(self, delta: str) -> bool:
        """Whether what is new ends one more occurrence."""
        grown = self._before + delta
        # Too few characters are kept for one that was whole before.
        self._before = grown[max(0, len(grown) - len(self._text) + 1) :]
        return self._text in grown


class _Gate:
    """Closed, it holds back whoever wants to pass."""

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
        self._control.tell(paused=True, at=self._at)
        await self._open.wait()
        self._control.tell(paused=False)


class _Finder:
    """One breakpoint, looked for in emissions."""

    def __init__(self, breakpoint_: Breakpoint) -> None:
        self._breakpoint = breakpoint_
        self._text = TextFinder(breakpoint_.text) if breakpoint_.text else None

    def sees(self, emission: Emission) -> bool:
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
