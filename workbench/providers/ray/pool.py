"""A pool of actors: requests go to the least busy one, and on to another where one dies."""

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

_WAIT_S = 0.5
"""Before the second attempt after the first, and longer each time: a dead actor takes a while to be started anew."""
_REST_S = 5.0
"""How long an actor that was lost is asked only where all others were lost too."""
_CLOSING_S = 2.0
"""For requests on their way to notice that their actor was killed."""
_CONCURRENT = 1000
"""Requests that an actor holds at once; its engine has a limit of its own."""


class ActorLostError(Exception):
    """An actor died, or cannot be reached, before its answer was whole."""


class Pool:
    """Starts its actors when the first is needed. Safe from any thread and any event loop."""

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
        """Handles of the actors so far; none before the first request."""
        return list(self._actors)

    def start(self) -> None:
        """Blocks for seconds, the first time."""
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
                max_task_retries=0,  # what was told already must not be told again
                max_concurrency=_CONCURRENT,
            )
            spec = self._spec.model_dump_json()
            self._actors = [kind.remote(spec) for _ in range(config.actors)]
            self._busy, self._rests_until = [0] * config.actors, [0.0] * config.actors

    async def stream(self, model: ModelDef, request: str) -> AsyncIterator[Json]:
        """One attempt at an answer: its emissions as JSON.

        Raises:
            ActorLostError: the actor is gone; what came before it counts.
        """
        await self._started()
        with self._one() as actor:
            lines = actor.stream.remote(model.model_dump_json(), request)
            ended = False
            try:
                async for line in lines:
                    told = json.loads(await line)
                    if isinstance(told, dict):
                        raise error_from_wire(told["error"])
                    yield told
                ended = True
            except self._ray.exceptions.RayError as error:
                self._check_open()
                raise ActorLostError(str(error)) from None
            finally:
                if not ended:
                    self._cancel(lines)

    async def call(self, model: ModelDef, method: str, arguments: Json) -> Json:
        """The result of a method that does not stream, from whichever actor gives it."""
        await self._started()

        async def ask() -> Json:
            with self._one() as actor:
                try:
                    told = await actor.call.remote(model.model_dump_json(), method, json.dumps(arguments))
                except self._ray.exceptions.RayError as error:
                    self._check_open()
                    raise ActorLostError(str(error)) from None
            answer = json.loads(told)
            if "error" in answer:
                raise error_from_wire(answer["error"])
            return answer["result"]

        return await self.attempts(ask)

    async def attempts(self, ask: Callable[[], Any]) -> Any:
        """Ask until an actor lives long enough to answer, as often as the config allows."""
        for attempt in range(self._config.retries + 1):
            try:
                return await ask()
            except ActorLostError as error:
                await self.lost(attempt, error)
        raise AssertionError  # `lost` raised at the last attempt

    async def lost(self, attempt: int, error: ActorLostError) -> None:
        """Wait before the next attempt; raises `RemoteConnectionError` where that was the last."""
        if attempt >= self._config.retries:
            who = f"provider {self._spec.provider_id}"
            raise RemoteConnectionError(f"{who}: one request lost {attempt + 1} actors: {error}") from None
        await asyncio.sleep(_WAIT_S * attempt)

    async def forget(self, identifier: str) -> None:
        """Unload a model everywhere; an actor that is gone has nothing to unload."""
        await asyncio.gather(*(actor.forget.remote(identifier) for actor in self.actors), return_exceptions=True)

    async def alive(self, timeout_s: float = 5.0) -> int:
        """How many actors answer."""
        asked = [asyncio.wait_for(_answer(actor), timeout_s) for actor in self.actors]
        return sum(isinstance(pid, int) for pid in await asyncio.gather(*asked, return_exceptions=True))

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
        """Load a model in every actor, and return the card as one has it; blocks."""
        self.start()
        asked = [actor.call.remote(model.model_dump_json(), "load", "null") for actor in self.actors]
        answers = [json.loads(told) for told in self._ray.get(asked)]
        for answer in answers:
            if "error" in answer:
                raise error_from_wire(answer["error"])
        return answers[0]["result"]

    async def _started(self) -> None:
        if not self._actors:
            await asyncio.to_thread(self.start)

    @contextmanager
    def _one(self) -> Iterator[Any]:
        """The least busy actor, in turn where several are; the block raises `ActorLostError` where it is gone."""
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
