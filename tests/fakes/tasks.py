"""Tasks of an event loop, waited for."""

from __future__ import annotations

import asyncio


async def other_tasks_ended() -> None:
    """Return once nothing but the caller's own task is left on the loop."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
