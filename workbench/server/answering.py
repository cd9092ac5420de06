"""Answers on their way to the client: whole or as server-sent events, and ended when the client is gone.

HTTP servers tell of a client that has left through ``receive`` alone, and only to who listens: each answer here has
one task that computes and one that listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request
from fastapi.responses import Response
from pydantic_core import to_json
from starlette.requests import ClientDisconnect

from workbench.errors import ClosedError
from workbench.providers.json_lines import one_line
from workbench.providers.streams import closed_after
from workbench.server.faults import error_body, error_response

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

T = TypeVar("T")
Ask = Callable[[Request], Awaitable[Any]]
"""Reads a request and begins to answer it: with the awaitable of a value, or an async iterator of events."""

_STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # else a proxy in front may gather events before it hands them on
}
_CLIENT_GONE = 499  # what servers write into their logs for it; nobody receives it


async def answer(request: Request, ask: Ask, last: bytes = b"") -> Response:
    """The response to a request, whatever becomes of it.

    Args:
        last: what ends a stream that went well, after its last event.
    """
    try:
        outcome = await ask(request)
        if not hasattr(outcome, "__aiter__"):
            value = await _while_connected(request.receive, outcome)
            return Response(to_json(value), media_type="application/json")
        # The first event is waited for here, so that what is wrong with a request is its status and no event.
        first = await _while_connected(request.receive, anext(outcome, None))
        return EventStream(first, outcome, last)
    except (ClientDisconnect, ClientGone):
        return Response(status_code=_CLIENT_GONE)
    except Exception as error:  # noqa: BLE001 (every error has an answer)
        return error_response(error)


class EventStream(Response):
    """Server-sent events. A fault after the first is an event of its own with ``error``, and the last one."""

    def __init__(self, first: Any, rest: AsyncIterator[Any], last: bytes) -> None:
        super().__init__(headers=_STREAM_HEADERS)
        del self.headers["content-length"]
        self._first = first
        self._rest = rest
        self._last = last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        last = self._last
        try:
            async with closed_after(self._rest):  # a stream that is left must stop computing now
                await _while_connected(receive, self._told(send))
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 (told to the client in its stream)
            last = event(error_body(error))
        await send({"type": "http.response.body", "body": last})

    async def _told(self, send: Send) -> None:
        if self._first is not None:
            await send({"type": "http.response.body", "body": event(self._first), "more_body": True})
        async for item in self._rest:
            await send({"type": "http.response.body", "body": event(item), "more_body": True})


class ClientGone(Exception):  # noqa: N818 (no fault of anybody's, and never told)
    """Nobody is there to be answered."""


def event(value: Any) -> bytes:
    """One server-sent event, which no client takes for several lines."""
    return b"data: " + one_line(to_json(value)) + b"\n\n"


async def _while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """The outcome of ``work``, which is cancelled when the client leaves; the request was read to its end before.

    Raises:
        ClientGone: it left first.
        ClosedError: the server stops and could not wait any longer.
    """
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    except asyncio.CancelledError:
        # Nothing but the server cancels a request: when it stops, and its time for what is under way has run out.
        raise ClosedError("the server is shutting down; try again when it is back") from None
    finally:
        left.cancel()
        task.cancel()
        await asyncio.gather(task, left, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
