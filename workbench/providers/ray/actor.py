"""Ray actor with a provider of its own, which is called with JSON.

Every answer is JSON, errors too, so that a type that only this process has is never sent.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

from pydantic import TypeAdapter

from workbench.errors import ModelNotFoundError
from workbench.protocol import Message, ModelDef, Provider, ToolDefinition
from workbench.providers import provider_class
from workbench.providers.emissions import emissions
from workbench.providers.ray.wire import emission_to_json, request_from_json
from workbench.providers.streams import closed_after
from workbench.providers.wire import Json, error_to_wire, to_wire

_MESSAGES: TypeAdapter[list[Message]] = TypeAdapter(list[Message])


class EngineActor:
    """Actor whose calls bring the definition of their model, so that it can be restarted at any time."""

    def __init__(self, spec: str) -> None:
        provider = Provider.model_validate_json(spec)
        self._provider = provider_class(provider.provider_type, provider.provider_id)(provider)
        self._registering = asyncio.Lock()

    def pid(self) -> int:
        return os.getpid()

    async def stream(self, definition: str, request: str) -> AsyncIterator[str]:
        """Yield the emissions of one answer as JSON texts, and an error as the last one."""
        try:
            await self._serve(definition)
            parsed = request_from_json(request)
            answer = emissions(parsed, self._provider.generate(parsed))
            async with closed_after(answer):
                async for emission in answer:
                    yield emission_to_json(emission)
        except Exception as error:  # noqa: BLE001 - sent to the caller with its type
            yield json.dumps({"error": error_to_wire(error)})

    async def call(self, definition: str, method: str, arguments: str) -> str:
        """Return the result or the error of one of the methods below as JSON."""
        try:
            await self._serve(definition)
            answer = await getattr(self, f"_{method}")(ModelDef.model_validate_json(definition), json.loads(arguments))
        except Exception as error:  # noqa: BLE001 - as above
            return json.dumps({"error": error_to_wire(error)})
        return json.dumps({"result": answer})

    async def forget(self, identifier: str) -> None:
        """Unload a model, if it is loaded."""
        try:
            await self._provider.unregister_model(identifier)
        except ModelNotFoundError:
            return

    async def _serve(self, definition: str) -> None:
        model = ModelDef.model_validate_json(definition)
        async with self._registering:
            try:
                known: ModelDef | None = self._provider.get_model(model.identifier)
            except ModelNotFoundError:
                known = None
            if known is not None and _weights(known) != _weights(model):
                await self._provider.unregister_model(model.identifier)
                known = None
            if known is None:
                await self._provider.register_model(model)

    async def _check(self, _: ModelDef, arguments: Json) -> Json:
        """Raise for the first invalid request of a batch, before anything is computed."""
        for stream in await self._provider.generate_batch([request_from_json(text) for text in arguments]):
            async with closed_after(stream):
                pass

    async def _load(self, model: ModelDef, _: Json) -> Json:
        await asyncio.to_thread(self._provider.load, model.identifier)
        return to_wire(self._provider.card(model.identifier))

    async def _embed(self, model: ModelDef, arguments: Json) -> Json:
        found = await self._provider.embed(model.identifier, arguments)
        return [found.vectors, found.usage.prompt_tokens]

    async def _token_spans(self, model: ModelDef, text: Json) -> Json:
        return to_wire(await self._provider.token_spans(model.identifier, text))

    async def _score(self, model: ModelDef, arguments: Json) -> Json:
        prompt, continuations, alternatives = arguments
        return to_wire(await self._provider.score(model.identifier, _prompt(prompt), continuations, alternatives))

    async def _render(self, model: ModelDef, arguments: Json) -> Json:
        prompt, tools, tool_prompt_format = arguments
        defined = [ToolDefinition.model_validate(tool) for tool in tools]
        return to_wire(
            await self._provider.render(model.identifier, _prompt(prompt), defined or None, tool_prompt_format)
        )


def _prompt(wire: Json) -> str | list[Message]:
    return wire if isinstance(wire, str) else _MESSAGES.validate_python(wire)


def _weights(model: ModelDef) -> tuple[str, Any, Any]:
    """Return the source, the precision and the device of a model's weights."""
    return model.llama_model, model.metadata.get("precision"), model.metadata.get("device")
