"""The protocol's methods, for a class that answers a `Request`: a provider, or the router in front of all of them.

They convert emissions to the protocol's chunks and responses, for callers in this process.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from workbench.errors import InvalidRequestError, UnsupportedFieldError
from workbench.protocol import (
    BatchChatCompletionRequest,
    BatchChatCompletionResponse,
    BatchCompletionRequest,
    BatchCompletionResponse,
    BatchInference,
    ChatCompletionRequest,
    CompletionRequest,
    EmbeddingsResponse,
    Inference,
)
from workbench.providers.chunks import protocol_chunks
from workbench.providers.folding import response
from workbench.providers.requests import Request
from workbench.providers.streams import Stream

if TYPE_CHECKING:
    from workbench.protocol import CompletionMessage, InterleavedTextMedia, ModelDef
    from workbench.protocol.base import ProtocolModel
    from workbench.records import Embeddings, Emission

Response = TypeVar("Response")


def _takes_arguments_of(
    declared: Callable[..., Any], body_type: type[ProtocolModel]
) -> Callable[[Callable[[Any, Any], Response]], Callable[..., Response]]:
    """Give a method that takes a body the signature of a method of the protocol: its arguments become the body."""
    signature = inspect.signature(declared)

    def replace_signature(method: Callable[[Any, Any], Response]) -> Callable[..., Response]:
        @functools.wraps(declared)
        def call(*arguments: Any, **keywords: Any) -> Response:
            bound = signature.bind(*arguments, **keywords)
            bound.apply_defaults()
            this = bound.arguments.pop("self")
            return method(this, body_type.model_construct(**bound.arguments))

        return call

    return replace_signature


class ProtocolMethods(ABC):
    """Mixin that implements the protocol's methods with `stream`, `answer_batch` and `embed`."""

    @abstractmethod
    def get_model(self, identifier: str) -> ModelDef:
        """Return the definition of a served model; raise `ModelNotFoundError` for any other name."""

    @abstractmethod
    def stream(self, request: Request) -> AsyncIterator[Emission]:
        """Return the emissions of one request, which may go beyond the protocol: see the last fields of `Request`."""

    @abstractmethod
    async def answer_batch(self, model: str, requests: Sequence[Request]) -> list[CompletionMessage]:
        """Return the answers to several requests of one model under the same parameters, in their order."""

    @abstractmethod
    async def embed(self, model: str, contents: list[InterleavedTextMedia]) -> Embeddings:
        """Return one vector for each content, in order, and the number of tokens read."""

    @_takes_arguments_of(Inference.completion, CompletionRequest)
    def completion(self, body: CompletionRequest) -> Any:
        return self._respond(body)

    @_takes_arguments_of(Inference.chat_completion, ChatCompletionRequest)
    def chat_completion(self, body: ChatCompletionRequest) -> Any:
        return self._respond(body)

    @_takes_arguments_of(BatchInference.batch_completion, BatchCompletionRequest)
    async def batch_completion(self, body: BatchCompletionRequest) -> BatchCompletionResponse:
        answers = await self._answer_all(body, CompletionRequest, "content")
        return BatchCompletionResponse(completion_message_batch=answers)

    @_takes_arguments_of(BatchInference.batch_chat_completion, BatchChatCompletionRequest)
    async def batch_chat_completion(self, body: BatchChatCompletionRequest) -> BatchChatCompletionResponse:
        answers = await self._answer_all(body, ChatCompletionRequest, "messages")
        return BatchChatCompletionResponse(completion_message_batch=answers)

    async def embeddings(self, model: str, contents: list[InterleavedTextMedia]) -> EmbeddingsResponse:
        return EmbeddingsResponse(embeddings=(await self.embed(model, contents)).vectors)

    def begin(self, body: CompletionRequest | ChatCompletionRequest) -> tuple[Request, AsyncIterator[Emission]]:
        """Return the request of a body, after the checks that need no model, and its emissions."""
        self.get_model(body.model)
        request = Request.from_body(body)
        return request, self.stream(request)

    def _respond(self, body: CompletionRequest | ChatCompletionRequest) -> Any:
        request, emissions = self.begin(body)
        return Stream(protocol_chunks(request, emissions)) if body.stream else whole_response(request, emissions)

    async def _answer_all(
        self, batch: ProtocolModel, body_type: type[CompletionRequest | ChatCompletionRequest], field: str
    ) -> list[CompletionMessage]:
        """Answer each item of the batch's field ``{field}_batch`` as a body of its own, with the shared parameters."""
        shared, field_batch = dict(batch), f"{field}_batch"
        model, items, logprobs = shared["model"], shared.pop(field_batch), shared["logprobs"]
        self.get_model(model)
        if not isinstance(items, list | tuple):
            raise InvalidRequestError(field_batch, items, "a list")
        if logprobs is not None:
            allowed = "absent: batch responses have no logprobs; send the requests one by one"
            raise UnsupportedFieldError("logprobs", logprobs, allowed)
        bodies = [body_type.model_construct(**shared, **{field: item}) for item in items]
        requests = [Request.from_body(body, field=f"{field_batch}[{index}]") for index, body in enumerate(bodies)]
        return await self.answer_batch(model, requests)


async def whole_response(request: Request, emissions: AsyncIterator[Emission]) -> Any:
    """Return the protocol's response to a request."""
    return response(request, [emission async for emission in emissions])


async def gathered(responses: Sequence[Awaitable[Response]]) -> list[Response]:
    """Return all responses in order; the first failure cancels the others."""
    tasks = [asyncio.ensure_future(response) for response in responses]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
