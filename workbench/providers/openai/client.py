"""Connections to one server: shared by concurrent requests, and closed when the last one ends.

A client belongs to the event loop that it was opened on, and requests come from any loop. So each loop has its own, and
none outlives its requests: nothing idle remains on a loop that ends, and closing needs no loop to wait on.
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

# Besides the client's own errors: invalid or too deeply nested JSON, and a client that was closed during a request.
_FAILURES = (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, ValueError, RuntimeError)

_FIRST_DELAY_S = 0.5
_MAX_DELAY_S = 8.0
_MAX_REQUESTED_DELAY_S = 30.0
"""A server that requests a longer delay is given up."""


class Clients:
    """Requests to one server.

    Raises:
        WorkbenchError: for every failure, without a reference to the client's own error, which contains the token.
    """

    def __init__(self, config: OpenAIConfig, failures: Failures) -> None:
        self._config = config
        self._failures = failures
        self._tls: ssl.SSLContext | bool = ssl.create_default_context() if config.url.startswith("https:") else True
        self._by_loop: dict[asyncio.AbstractEventLoop, _SharedClient] = {}
        self._lock = threading.Lock()
        self._closed = False
        # By default, the client would send this server the settings that the environment has for OpenAI's own.
        omitted: dict[str, Any] = {"OpenAI-Organization": openai.omit, "OpenAI-Project": openai.omit}
        if config.token is None:
            omitted["Authorization"] = openai.omit
        self._options: Any = {"headers": omitted}

    async def get(self, path: str, *, timeout_s: float | None = None) -> object:
        """Return the JSON at a path, which is relative to the config's URL, or a whole URL."""
        options = self._options if timeout_s is None else self._options | {"timeout": timeout_s}
        return await self._request(lambda client: client.get(path, cast_to=object, options=options), harmless=True)

    async def post(self, path: str, body: dict[str, Any], *, harmless: bool) -> object:
        """Return the whole answer; ``harmless`` as in `may_repeat`."""
        return await self._request(
            lambda client: client.post(path, body=body, cast_to=object, options=self._options), harmless=harmless
        )

    async def events(self, path: str, body: dict[str, Any], *, is_lines: bool = False) -> AsyncGenerator[object, None]:
        """Yield the events of an answer; closing the iterator hangs up, which ends the server's work.

        Args:
            is_lines: the answer is one JSON object per line instead of server-sent events.
        """
        kind = _Lines if is_lines else _Events
        failure: Exception | None = None
        try:
            async with self._client() as client:
                stream = await self._with_retries(
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
            raise self._translated(failure)

    async def _request(self, call: Callable[[openai.AsyncOpenAI], Awaitable[object]], *, harmless: bool) -> object:
        try:
            async with self._client() as client:
                return await self._with_retries(lambda: call(client), harmless=harmless)
        except _FAILURES as error:
            failure = error
        # After the except clause: inside, the client's error, which has the request's headers, would be the context.
        raise self._translated(failure)

    def _translated(self, failure: Exception) -> WorkbenchError:
        if isinstance(failure, WorkbenchError):
            return failure
        if self._closed:
            return ClosedError("the provider was closed while its server was answering")
        return self._failures.error(failure)

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[openai.AsyncOpenAI]:
        """Provide the client of this event loop; the last request that uses it closes it."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise ClosedError("the provider was closed; open a new workbench")
            shared = self._by_loop.get(loop)
            if shared is None:
                shared = self._by_loop[loop] = _SharedClient(self._new_client())
            shared.users += 1
        try:
            yield shared.client
        finally:
            with self._lock:
                shared.users -= 1
                if is_last := shared.users == 0 and self._by_loop.get(loop) is shared:
                    del self._by_loop[loop]
            if is_last:
                await asyncio.shield(shared.client.close())

    async def _with_retries(self, call: Callable[[], Awaitable[Answer]], *, harmless: bool) -> Answer:
        """Call, and retry after a delay where that is safe."""
        for attempt in itertools.count():
            try:
                return await call()
            except openai.APIError as error:
                delay_s = _delay_s(attempt, retry_after_s(error))
                given_up = self._closed or attempt >= self._config.max_retries or delay_s > _MAX_REQUESTED_DELAY_S
                if given_up or not may_repeat(error, harmless=harmless):
                    raise
            await sleep(delay_s)
        raise AssertionError  # for the type checker: the loop never ends

    def close(self) -> None:
        """Abort all requests, on all loops."""
        with self._lock:
            self._closed = True
            open_clients = list(self._by_loop.items())
            self._by_loop.clear()
        for loop, shared in open_clients:
            with suppress(RuntimeError):  # the loop has ended, and with it the requests
                asyncio.run_coroutine_threadsafe(shared.client.close(), loop)

    def _new_client(self) -> openai.AsyncOpenAI:
        config = self._config
        timeout = httpx2.Timeout(config.timeout_s, connect=config.connect_timeout_s, pool=None)
        limits = httpx2.Limits(max_connections=config.max_connections, max_keepalive_connections=config.max_connections)
        http_client = httpx2.AsyncClient(
            verify=self._tls,
            timeout=timeout,
            limits=limits,
            follow_redirects=False,  # the token is for this server alone
            trust_env=not _is_loopback(config.url),  # a proxy's loopback is another machine
        )
        return openai.AsyncOpenAI(
            base_url=config.url,
            api_key=config.token or "none",
            max_retries=0,  # `_with_retries` retries
            timeout=timeout,
            http_client=http_client,
        )


class _Events(openai.AsyncStream[object]):
    """Server-sent events, from an iterator that can be closed: the client's own is left to the garbage collector."""

    source: AsyncGenerator[object, None]

    def __stream__(self) -> AsyncIterator[object]:
        self._decoder = cast("Any", _Decoder(self._decoder))
        self.source = self._parsed()
        return self.source

    def _parsed(self) -> AsyncGenerator[object, None]:
        return cast("AsyncGenerator[object, None]", super().__stream__())


class _Decoder:
    """The client's decoder, without the events that it makes from keep-alives and from a truncated last event."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    async def aiter_bytes(self, parts: AsyncIterator[bytes]) -> AsyncGenerator[Any, None]:
        is_over = False

        async def ended() -> AsyncGenerator[bytes, None]:
            nonlocal is_over
            async for part in parts:
                yield part
            is_over = True
            yield b"\n\n"  # some servers omit it after their last event

        async with aclosing(ended()) as whole, aclosing(self._decoder.aiter_bytes(whole)) as events:
            try:
                async for event in events:
                    if event.data and not (is_over and not _is_json(event.data)):
                        yield event
            except UnicodeDecodeError:
                if not is_over:  # otherwise it was cut off inside a character
                    raise


class _Lines(_Events):
    """One JSON object per line; an object with the key ``error`` is raised."""

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
    """Yield the lines of a body, which only line feeds end: JSON may contain other separators."""
    rest = b""
    async with aclosing(response.aiter_bytes()) as parts:
        async for part in parts:
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                yield line
    if _is_json(rest):  # otherwise it was cut off
        yield rest


def _is_json(text: str | bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


@dataclass(slots=True)
class _SharedClient:
    client: openai.AsyncOpenAI
    users: int = field(default=0)


def _delay_s(attempt: int, requested_s: float | None) -> float:
    """Return a delay that doubles with each attempt, with jitter to spread out requests that failed together."""
    backoff_s: float = min(_MAX_DELAY_S, _FIRST_DELAY_S * 2**attempt)
    backoff_s *= random.uniform(0.5, 1.0)  # noqa: S311 - it is no secret
    return max(requested_s or 0.0, backoff_s)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
