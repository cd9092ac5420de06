"""Answers to the client, whole or as server-sent events, which are cancelled when it disconnects.

ASGI servers report a disconnect only as a message of ``receive``, so each answer has one task that computes and one
that receives.
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
Respond = Callable[[Request], Awaitable[Any]]
"""Function that reads a request and returns the awaitable of a value, or an async iterator of events."""

_STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # else a proxy may buffer events
}
_CLIENT_GONE = 499  # only for logs: the client does not receive it


async def answer(request: Request, respond: Respond, last: bytes = b"") -> Response:
    """Return the response to a request, also for an error or a disconnect.

    Args:
        last: bytes after the last event of a stream without errors.
    """
    try:
        outcome = await respond(request)
        if not hasattr(outcome, "__aiter__"):
            value = await _while_connected(request.receive, outcome)
            return Response(to_json(value), media_type="application/json")
        # Await the first event, so that an invalid request gets a status of its own instead of an event.
        first = await _while_connected(request.receive, anext(outcome, None))
        return EventStream(first, outcome, last)
    except (ClientDisconnect, ClientGone):
        return Response(status_code=_CLIENT_GONE)
    except Exception as error:  # noqa: BLE001 (every error has an answer)
        return error_response(error)


class EventStream(Response):
    """Response of server-sent events; an error after the first event is the last event, with ``error``."""

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
            async with closed_after(self._rest):  # a disconnect stops the computation
                await _while_connected(receive, self._send_events(send))
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 (sent to the client in its stream)
            last = event(error_body(error))
        await send({"type": "http.response.body", "body": last})

    async def _send_events(self, send: Send) -> None:
        if self._first is not None:
            await send({"type": "http.response.body", "body": event(self._first), "more_body": True})
        async for item in self._rest:
            await send({"type": "http.response.body", "body": event(item), "more_body": True})


class ClientGone(Exception):  # noqa: N818 (not an error, and never reported)
    """Disconnect of the client before its answer."""


def event(value: Any) -> bytes:
    """Return a server-sent event, escaped so that every client reads it as one line."""
    return b"data: " + one_line(to_json(value)) + b"\n\n"


async def _while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """Return the result of ``work``, which is cancelled if the client disconnects; the body must have been read.

    Raises:
        ClientGone: the client disconnected.
        ClosedError: the server is stopping and cancelled the request.
    """
    task = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    except asyncio.CancelledError:
        # Only the server cancels requests: when it stops and their grace period is over.
        raise ClosedError("the server is shutting down; try again when it is back") from None
    finally:
        disconnect.cancel()
        task.cancel()
        await asyncio.gather(task, disconnect, return_exceptions=True)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
