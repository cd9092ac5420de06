"""Providers for servers with OpenAI's API."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from workbench.errors import ConfigError, InvalidRequestError, NumericalError, WorkbenchError
from workbench.protocol import HealthInfo, ModelDef
from workbench.providers.interface import InferenceProvider
from workbench.providers.openai import dialects
from workbench.providers.openai.config import OpenAIConfig, narrowed
from workbench.providers.openai.request_preparation import PreparedRequest, prepare, with_messages
from workbench.providers.openai.wire import Listing, Part, ServedModel, Vectors
from workbench.providers.requests import Request, texts_of
from workbench.records import Embeddings, Emission, Usage

if TYPE_CHECKING:
    from workbench.protocol import InterleavedTextMedia, Provider
    from workbench.records import ModelCard

_HEALTH_TIMEOUT_S = 5.0


class OpenAIProvider(InferenceProvider):
    """``remote::openai``: any server with OpenAI's API."""

    Config = OpenAIConfig
    dialect: ClassVar[dialects.Dialect] = dialects.OPENAI
    live_listing = True
    config: OpenAIConfig

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider)
        try:
            from workbench.providers.openai.client import Clients
            from workbench.providers.openai.failures import Failures
        except ImportError as error:
            raise ConfigError(
                f"provider {provider.provider_id!r}: {provider.provider_type} needs the package {error.name!r}; "
                "install it with: pip install 'inference-workbench[remote]'"
            ) from None
        config = self.config
        self.capabilities = narrowed(self.dialect.capabilities, config, self.dialect.max_logprobs)
        self._failures = Failures(f"the server of provider {self.provider_id} ({self.provider_type})", config.token)
        self._clients = Clients(config, self._failures)
        self._listed: set[str] = set()
        self._listing_lock = threading.Lock()
        for name in config.embedding_models:
            self.serve(ModelDef(identifier=name, llama_model=name))

    def generate(self, request: Request) -> AsyncIterator[Emission]:
        model = self.get_model(request.model).llama_model
        return self._answer(request, prepare(request, model, self.dialect, self.config))

    async def embed(self, model: str, contents: list[InterleavedTextMedia]) -> Embeddings:
        """Return one vector for each content, in order, pooled and normalized by the server."""
        name = self.get_model(model).llama_model
        texts = texts_of(contents)
        body = {"model": name, "input": texts, "encoding_format": "float"}
        answer = self._failures.checked(Vectors, await self._clients.post("/embeddings", body, harmless=True))
        by_index = {vector.index: vector.embedding for vector in answer.data}
        if sorted(by_index) != list(range(len(texts))):
            raise self._failures.wrong_answer(f"vectors {sorted(by_index)[:8]} for {len(texts)} texts")
        if not all(math.isfinite(value) for vector in by_index.values() for value in vector):
            raise NumericalError(f"{model} computed NaN or infinity for a text")
        read = answer.usage.prompt_tokens if answer.usage else 0
        return Embeddings([by_index[index] for index in range(len(texts))], Usage(prompt_tokens=read or 0))

    async def list_models(self) -> list[ModelDef]:
        """Return the models of the config; if it names none, those that the server lists."""
        if not (self.config.models or self.config.embedding_models):
            self._serve_listed(await self._listing())
        return await super().list_models()

    async def register_model(self, model: ModelDef) -> None:
        """Serve one of the server's models under another name.

        Raises:
            InvalidRequestError: the server has no model named ``llama_model``.
        """
        names = [served.id for served in await self._listing()] + self.config.models
        if model.llama_model not in names:
            allowed = f"a model that {self.provider_id} has: {', '.join(names) or 'none'}"
            raise InvalidRequestError("llama_model", model.llama_model, allowed)
        await super().register_model(model)

    def card(self, identifier: str) -> ModelCard:
        card, model = super().card(identifier), self.get_model(identifier)
        return replace(
            card,
            kind="embedding" if model.llama_model in self.config.embedding_models else "causal",
            context_length=model.metadata.get("context_length"),
            parameters=model.metadata.get("parameters"),
            has_chat_template=self.capabilities.chat,
        )

    async def health(self) -> HealthInfo:
        """Return whether the server answers within a few seconds."""
        path = self.dialect.health_path
        where = f"{self.config.root_url}{path}" if path and self.config.url.endswith("/v1") else "/models"
        timeout_s = min(_HEALTH_TIMEOUT_S, self.config.timeout_s)
        try:
            await self._clients.get(where, timeout_s=timeout_s)
        except WorkbenchError as error:
            return HealthInfo(status=str(error))
        return HealthInfo(status="OK")

    def close(self) -> None:
        self._clients.close()

    async def _answer(self, request: Request, prepared: PreparedRequest) -> AsyncIterator[Emission]:
        from workbench.providers.openai.reading import AnswerReader

        reader = AnswerReader(request, prepared, self._failures)
        if request.has_images:
            body = await asyncio.to_thread(with_messages, prepared, request)
        else:
            body = with_messages(prepared, request)
        async with aclosing(self._events(prepared, body)) as events:
            async for event in events:
                for emission in reader.feed(self._part(prepared, event)):
                    yield emission
                if reader.ended:
                    break
        for emission in reader.close():
            yield emission

    async def _events(self, prepared: PreparedRequest, body: dict[str, Any]) -> AsyncGenerator[object, None]:
        """Yield the parts of an answer; an answer that is not streamed is a single part."""
        if not prepared.streams:
            yield await self._clients.post(prepared.path, body, harmless=False)
            return
        is_lines = prepared.native is not None and prepared.native.is_lines
        async with aclosing(self._clients.events(prepared.path, body, is_lines=is_lines)) as events:
            async for event in events:
                yield event

    def _part(self, prepared: PreparedRequest, event: object) -> Part:
        if prepared.native is None:
            return self._failures.checked(Part, event)
        return self._failures.checked(prepared.native.event, event).part()

    async def _listing(self) -> list[ServedModel]:
        return self._failures.checked(Listing, await self._clients.get("/models")).data

    def _serve_listed(self, models: list[ServedModel]) -> None:
        """Serve the models that the server lists; stop serving those that it no longer lists."""
        with self._listing_lock:
            names = {model.id for model in models}
            for gone in self._listed - names:
                self._served.pop(gone, None)
            self._listed = names
            for model in models:
                self.serve(ModelDef(identifier=model.id, llama_model=model.id, metadata=_facts(model)))


class VllmProvider(OpenAIProvider):
    """``remote::vllm``: a vLLM server."""

    dialect = dialects.VLLM


class TgiProvider(OpenAIProvider):
    """``remote::tgi``: a Text Generation Inference server."""

    dialect = dialects.TGI


class OllamaProvider(OpenAIProvider):
    """``remote::ollama``: an Ollama server."""

    dialect = dialects.OLLAMA


class LlamaCppProvider(OpenAIProvider):
    """``remote::llama_cpp``: the server of llama.cpp."""

    dialect = dialects.LLAMA_CPP


def _facts(model: ServedModel) -> dict[str, Any]:
    context_length = model.max_model_len or (model.meta and (model.meta.n_ctx or model.meta.n_ctx_train))
    facts = {"context_length": context_length, "parameters": model.meta.n_params if model.meta else None}
    return {name: value for name, value in facts.items() if value is not None}
