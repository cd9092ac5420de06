"""Pool of actors: a request goes to the least busy one, and to another one if that dies."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from workbench.errors import ClosedError, RemoteConnectionError
from workbench.protocol import ModelDef, Provider
from workbench.providers.ray.actor import EngineActor
from workbench.providers.ray.cluster import join, leave
from workbench.providers.ray.config import RayConfig
from workbench.providers.wire import Json, error_from_wire

_RESTART_S = 60.0
"""Time for a dead actor to restart, which on a busy machine takes Ray many seconds."""
_POLL_S = 0.5
"""Time between two questions whether an actor answers; during a restart, Ray refuses them."""
_ANSWER_S = 2.0
"""Time for its answer."""
_REST_S = 5.0
"""Time for which a lost actor is used only if all others were lost too."""
_CLOSING_S = 2.0
"""Time for running requests to notice that their actor was killed."""
_CONCURRENT = 1000
"""Maximum number of concurrent requests of an actor; its engine has a limit of its own."""


class ActorLostError(Exception):
    """Death of an actor, or loss of the connection to it, before its answer was complete."""


class Pool:
    """Pool that starts its actors at the first request. Safe from any thread and any event loop."""

    def __init__(self, spec: Provider, config: RayConfig) -> None:
        self._spec = spec
        self._config = config
        self._lock = threading.Lock()
        self._ray: Any = None
        self._actors: list[Any] = []
        self._busy: list[int] = []
        self._rests_until: list[float] = []
        self._turn = 0
        self._idle = threading.Condition(self._lock)
        self._closed = False

    @property
    def actors(self) -> list[Any]:
        """Handles of the started actors; none before the first request."""
        return list(self._actors)

    def start(self) -> None:
        """Start the actors unless they are running; blocks for seconds."""
        with self._lock:
            if self._closed:
                raise ClosedError(f"provider {self._spec.provider_id} was closed; open a new workbench")
            if self._actors:
                return
            config = self._config
            self._ray = join(config.address, config.actors * config.cpus_per_actor)
            kind = self._ray.remote(EngineActor).options(
                num_cpus=config.cpus_per_actor,
                num_gpus=config.gpus_per_actor,
                max_restarts=-1,
                max_task_retries=0,  # a retry would repeat emissions
                max_concurrency=_CONCURRENT,
            )
            spec = self._spec.model_dump_json()
            self._actors = [kind.remote(spec) for _ in range(config.actors)]
            self._busy, self._rests_until = [0] * config.actors, [0.0] * config.actors

    async def stream(self, model: ModelDef, request: str) -> AsyncIterator[Json]:
        """Yield the emissions of one attempt at an answer as JSON.

        Raises:
            ActorLostError: the actor is gone; the emissions before the error are valid.
        """
        await self._started()
        with self._least_busy() as actor:
            lines = actor.stream.remote(model.model_dump_json(), request)
            ended = False
            try:
                async for line in lines:
                    wire = json.loads(await line)
                    if isinstance(wire, dict):
                        raise error_from_wire(wire["error"])
                    yield wire
                ended = True
            except self._ray.exceptions.RayError as error:
                self._check_open()
                raise ActorLostError(str(error)) from None
            finally:
                if not ended:
                    self._cancel(lines)

    async def call(self, model: ModelDef, method: str, arguments: Json) -> Json:
        """Return the result of a method that does not stream, from any actor."""
        await self._started()

        async def attempt() -> Json:
            with self._least_busy() as actor:
                try:
                    text = await actor.call.remote(model.model_dump_json(), method, json.dumps(arguments))
                except self._ray.exceptions.RayError as error:
                    self._check_open()
                    raise ActorLostError(str(error)) from None
            answer = json.loads(text)
            if "error" in answer:
                raise error_from_wire(answer["error"])
            return answer["result"]

        return await self.attempts(attempt)

    async def attempts(self, call: Callable[[], Any]) -> Any:
        """Return the result of ``call``, which is repeated after a lost actor, as often as the config allows."""
        for attempt in range(self._config.retries + 1):
            try:
                return await call()
            except ActorLostError as error:
                await self.lost(attempt, error)
        raise AssertionError  # `lost` raised at the last attempt

    async def lost(self, attempt: int, error: ActorLostError) -> None:
        """Wait until an actor answers; raise `RemoteConnectionError` after the last attempt, or if none restarts."""
        give_up_at = time.monotonic() + _RESTART_S
        while attempt < self._config.retries and time.monotonic() < give_up_at:
            if await self.alive(_ANSWER_S):
                return
            self._check_open()
            await asyncio.sleep(_POLL_S)
        who = f"provider {self._spec.provider_id}"
        raise RemoteConnectionError(f"{who}: one request lost {attempt + 1} actors: {error}") from None

    async def forget(self, identifier: str) -> None:
        """Unload a model in every actor that is alive."""
        await asyncio.gather(*(actor.forget.remote(identifier) for actor in self.actors), return_exceptions=True)

    async def alive(self, timeout_s: float = 5.0) -> int:
        """Return the number of actors that answer within ``timeout_s``."""
        pids = [asyncio.wait_for(_answer(actor), timeout_s) for actor in self.actors]
        return sum(isinstance(pid, int) for pid in await asyncio.gather(*pids, return_exceptions=True))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            actors, self._actors = self._actors, []
            for actor in actors:
                self._ray.kill(actor)
            self._idle.wait_for(lambda: not any(self._busy), _CLOSING_S)
        if actors:
            leave()

    def load(self, model: ModelDef) -> Json:
        """Load a model in every actor, and return the card from one of them; blocks."""
        self.start()
        calls = [actor.call.remote(model.model_dump_json(), "load", "null") for actor in self.actors]
        answers = [json.loads(text) for text in self._ray.get(calls)]
        for answer in answers:
            if "error" in answer:
                raise error_from_wire(answer["error"])
        return answers[0]["result"]

    async def _started(self) -> None:
        if not self._actors:
            await asyncio.to_thread(self.start)

    @contextmanager
    def _least_busy(self) -> Iterator[Any]:
        """Yield the least busy actor, round-robin among equals; the block raises `ActorLostError` if it is gone."""
        with self._lock:
            self._check_open()
            index = self._next()
            self._busy[index] += 1
            actor = self._actors[index]
        try:
            yield actor
        except ActorLostError:
            self._rests_until[index] = time.monotonic() + _REST_S
            raise
        finally:
            with self._lock:
                self._busy[index] -= 1
                self._idle.notify_all()

    def _next(self) -> int:
        now, count = time.monotonic(), len(self._actors)
        self._turn = min(
            ((self._turn + step) % count for step in range(1, count + 1)),
            key=lambda index: (self._rests_until[index] > now, self._busy[index]),
        )
        return self._turn

    def _cancel(self, lines: Any) -> None:
        if not self._closed:
            self._ray.cancel(lines)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"provider {self._spec.provider_id} was closed; open a new workbench")


async def _answer(actor: Any) -> int:
    pid: int = await actor.pid.remote()
    return pid
