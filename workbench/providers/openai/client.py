"""Connections to one server: shared by the requests that are on their way at once, gone when the last one ends.

A client belongs to the event loop that it was opened on, and requests come from any. So each loop has one of its own,
and none outlives its requests: nothing idle is left behind on a loop that ends, and closing needs no loop to wait on.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import ssl
import threading
from asyncio import sleep
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import httpx2
import openai

from workbench.errors import ClosedError, WorkbenchError
from workbench.providers.openai.config import OpenAIConfig
from workbench.providers.openai.failures import Failures, may_repeat, retry_after_s

Answer = TypeVar("Answer")

# Beside the client's own: JSON that is none or too deep, and what a client says that was closed under its request.
_FAILURES = (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, ValueError, RuntimeError)

_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 8.0
_LONGEST_ASKED_DELAY_S = 30.0
"""A server that asks for more is busy rather than soon back."""


class Clients:
    """Asks one server.

    Raises:
        WorkbenchError: for whatever goes wrong, and without a trace of the client's own error, which knows the token.
    """

    def __init__(self, config: OpenAIConfig, failures: Failures) -> None:
        self._config = config
        self._failures = failures
        self._tls: ssl.SSLContext | bool = ssl.create_default_context() if config.url.startswith("https:") else True
        self._by_loop: dict[asyncio.AbstractEventLoop, _Lent] = {}
        self._lock = threading.Lock()
        self._closed = False
        # Left to itself the client would send what the environment says for OpenAI's own servers to this one.
        omitted: dict[str, Any] = {"OpenAI-Organization": openai.omit, "OpenAI-Project": openai.omit}
        if config.token is None:
            omitted["Authorization"] = openai.omit
        self._options: Any = {"headers": omitted}

    async def get(self, path: str, *, timeout_s: float | None = None) -> object:
        """What the server has there; ``path`` is relative to the URL of the config, or a whole URL."""
        options = self._options if timeout_s is None else self._options | {"timeout": timeout_s}
        return await self._asked(lambda client: client.get(path, cast_to=object, options=options), harmless=True)

    async def post(self, path: str, body: dict[str, Any], *, harmless: bool) -> object:
        """The whole answer; ``harmless`` as in `may_repeat`."""
        return await self._asked(
            lambda client: client.post(path, body=body, cast_to=object, options=self._options), harmless=harmless
        )

    async def events(self, path: str, body: dict[str, Any], *, is_lines: bool = False) -> AsyncGenerator[object, None]:
        """The events of an answer as they come; closing the iterator hangs up, which ends the work over there.

        Args:
            is_lines: they are a JSON object a line, not server-sent events.
        """
        kind = _Lines if is_lines else _Events
        failure: Exception | None = None
        try:
            async with self._lent() as client:
                stream = await self._repeated(
                    lambda: client.post(
                        path, body=body, cast_to=object, stream=True, stream_cls=kind, options=self._options
                    ),
                    harmless=False,
                )
                async with stream, aclosing(stream.source) as source:
                    async for event in source:
                        yield event
        except _FAILURES as error:
            failure = error
        if failure is not None:
            raise self._ours(failure)

    async def _asked(self, call: Callable[[openai.AsyncOpenAI], Awaitable[object]], *, harmless: bool) -> object:
        try:
            async with self._lent() as client:
                return await self._repeated(lambda: call(client), harmless=harmless)
        except _FAILURES as error:
            failure = error
        # Outside of the except clause, where the client's error, which has the request's headers, would stay with ours.
        raise self._ours(failure)

    def _ours(self, failure: Exception) -> WorkbenchError:
        if isinstance(failure, WorkbenchError):
            return failure
        if self._closed:
            return ClosedError("the provider was closed while its server was answering")
        return self._failures.error(failure)

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[openai.AsyncOpenAI]:
        """The client of this event loop; the last request that has it closes it."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise ClosedError("the provider was closed; open a new workbench")
            lent = self._by_loop.get(loop)
            if lent is None:
                lent = self._by_loop[loop] = _Lent(self._client())
            lent.users += 1
        try:
            yield lent.client
        finally:
            with self._lock:
                lent.users -= 1
                if last := lent.users == 0 and self._by_loop.get(loop) is lent:
                    del self._by_loop[loop]
            if last:
                await asyncio.shield(lent.client.close())

    async def _repeated(self, call: Callable[[], Awaitable[Answer]], *, harmless: bool) -> Answer:
        """Call, and call again after a while where that is safe."""
        for attempt in itertools.count():
            try:
                return await call()
            except openai.APIError as error:
                delay_s = _delay_s(attempt, retry_after_s(error))
                given_up = self._closed or attempt >= self._config.max_retries or delay_s > _LONGEST_ASKED_DELAY_S
                if given_up or not may_repeat(error, harmless=harmless):
                    raise
            await sleep(delay_s)
        raise AssertionError  # for the type checker: the loop has no end of its own

    def close(self) -> None:
        """End every request on its way, on whichever loop."""
        with self._lock:
            self._closed = True
            lent = list(self._by_loop.items())
            self._by_loop.clear()
        for loop, one in lent:
            with suppress(RuntimeError):  # the loop has ended, and with it the requests
                asyncio.run_coroutine_threadsafe(one.client.close(), loop)

    def _client(self) -> openai.AsyncOpenAI:
        config = self._config
        timeout = httpx2.Timeout(config.timeout_s, connect=config.connect_timeout_s, pool=None)
        limits = httpx2.Limits(max_connections=config.max_connections, max_keepalive_connections=config.max_connections)
        http_client = httpx2.AsyncClient(
            verify=self._tls,
            timeout=timeout,
            limits=limits,
            follow_redirects=False,  # the token is for this server alone
            trust_env=not _is_loopback(config.url),  # a proxy knows another loopback
        )
        return openai.AsyncOpenAI(
            base_url=config.url,
            api_key=config.token or "none",
            max_retries=0,  # which are `ask`'s
            timeout=timeout,
            http_client=http_client,
        )


class _Events(openai.AsyncStream[object]):
    """Server-sent events, from an iterator that can be closed: the client's own leaves it to the collector."""

    source: AsyncGenerator[object, None]

    def __stream__(self) -> AsyncIterator[object]:
        self._decoder = cast("Any", _Decoder(self._decoder))
        self.source = self._parsed()
        return self.source

    def _parsed(self) -> AsyncGenerator[object, None]:
        return cast("AsyncGenerator[object, None]", super().__stream__())


class _Decoder:
    """The client's own, without the two kinds of events that it makes of no data: keep-alives, and half an event."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    async def aiter_bytes(self, parts: AsyncIterator[bytes]) -> AsyncGenerator[Any, None]:
        is_over = False

        async def ended() -> AsyncGenerator[bytes, None]:
            nonlocal is_over
            async for part in parts:
                yield part
            is_over = True
            yield b"\n\n"  # which some servers leave out behind their last event

        async with aclosing(ended()) as whole, aclosing(self._decoder.aiter_bytes(whole)) as events:
            try:
                async for event in events:
                    if event.data and not (is_over and not _is_json(event.data)):
                        yield event
            except UnicodeDecodeError:
                if not is_over:  # else it breaks off inside a character
                    raise


class _Lines(_Events):
    """A JSON object a line; an error is one with the key ``error``."""

    async def _parsed(self) -> AsyncGenerator[object, None]:
        try:
            async with aclosing(_lines(self.response)) as lines:
                async for line in lines:
                    event = json.loads(line) if line.strip() else {}
                    if isinstance(event, dict) and event.get("error"):
                        raise openai.APIError(str(event["error"]), self.response.request, body=event)
                    if event:
                        yield event
        finally:
            await self.response.aclose()


async def _lines(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    """The lines of a body, which end at a line feed alone: in JSON, other separators stand for themselves."""
    rest = b""
    async with aclosing(response.aiter_bytes()) as parts:
        async for part in parts:
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                yield line
    if _is_json(rest):  # else it breaks off there
        yield rest


def _is_json(text: str | bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


@dataclass(slots=True)
class _Lent:
    client: openai.AsyncOpenAI
    users: int = field(default=0)


def _delay_s(attempt: int, asked_s: float | None) -> float:
    """Twice as long each time, and never the same for two who failed together."""
    grown_s: float = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2**attempt)
    grown_s *= random.uniform(0.5, 1.0)  # noqa: S311 - it is no secret
    return max(asked_s or 0.0, grown_s)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
