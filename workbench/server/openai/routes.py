"""The routes under ``/v1``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import Response

from workbench.protocol import ModelDefWithProvider
from workbench.providers.folding import chat_response
from workbench.providers.protocol_methods import gathered
from workbench.providers.streams import Stream, closed_after
from workbench.server.answering import answer
from workbench.server.bodies import read_body
from workbench.server.description import PostTypes
from workbench.server.openai.answers import Answer, embeddings
from workbench.server.openai.calls import until_first_call
from workbench.server.openai.fields import OpenAIRequest
from workbench.server.openai.messages import protocol_messages
from workbench.server.openai.offsets import TextLogprobs
from workbench.server.openai.requests import ChatRequest, CompletionRequest, EmbeddingsRequest, GenerationRequest

if TYPE_CHECKING:
    from fastapi import FastAPI

    from workbench.server.limits import Limits
    from workbench.stack import Stack

_DONE = b"data: [DONE]\n\n"


def add_openai_routes(app: FastAPI, stack: Stack, limits: Limits) -> dict[str, PostTypes]:
    """Serve the stack's models; returns what the POST routes read, by path."""
    routes = _Routes(stack, limits)
    posts: dict[str, tuple[type[OpenAIRequest], Callable[[Any], Any], str]] = {
        "/v1/chat/completions": (ChatRequest, routes.chat, "Answer a conversation."),
        "/v1/completions": (CompletionRequest, routes.complete, "Continue texts."),
        "/v1/embeddings": (EmbeddingsRequest, routes.embed, "Return one vector for each text."),
    }
    for path, (model, respond, summary) in posts.items():
        app.add_api_route(
            path,
            _endpoint(model, respond, limits),
            methods=["POST"],
            summary=summary,
            tags=["openai"],
            response_class=Response,
            responses={
                200: {"description": "The response in the format of OpenAI's API; with `stream`, server-sent events."}
            },
        )
    app.add_api_route("/v1/models", routes.list_models, summary="List the models that are served.", tags=["openai"])
    app.add_api_route("/v1/models/{model:path}", routes.get_model, summary="Return one model.", tags=["openai"])
    return {path: PostTypes(body=model) for path, (model, _, _) in posts.items()}


def _endpoint(model: type[OpenAIRequest], respond: Callable[[Any], Any], limits: Limits) -> Callable[[Request], Any]:
    async def ask(request: Request) -> Any:
        asked = await read_body(request, model, limits.max_body_bytes)
        with asked.named():
            return respond(asked)

    async def endpoint(request: Request) -> Response:
        return await answer(request, ask, _DONE)

    return endpoint


class _Routes:
    def __init__(self, stack: Stack, limits: Limits) -> None:
        self._stack = stack
        self._limits = limits

    async def list_models(self) -> dict[str, Any]:
        return {"object": "list", "data": [_model(one.name, one.model) for one in self._stack.models.registrations()]}

    async def get_model(self, request: Request, model: str) -> Response:
        async def ask(_: Request) -> Any:
            async def found() -> dict[str, Any]:
                return _model(model, self._stack.models.find(model).model)

            return found()

        return await answer(request, ask)

    def chat(self, asked: ChatRequest) -> Any:
        asked.check()
        arguments = self._limits.applied(
            {
                "model": asked.model,
                "messages": protocol_messages(asked.messages),
                "sampling_params": asked.sampling(),
                "tools": asked.tool_definitions(),
                "tool_choice": asked.protocol_tool_choice(),
                "stream": bool(asked.stream),
                "logprobs": asked.logprob_config(),
                "response_format": asked.response_format.protocol_form() if asked.response_format else None,
            }
        )
        answer, top = Answer("chat.completion", asked.model, bool(asked.stream)), asked.top_logprobs or 0
        begin: Any = partial(self._stack.inference.chat_completion, **arguments)
        if asked.stream:
            chunks = until_first_call(begin()) if asked.has_one_call else begin()
            return Stream(_told(chunks, lambda chunk: answer.chat_chunk(chunk, top), answer, asked))

        async def whole() -> dict[str, Any]:
            with asked.named():
                if not asked.has_one_call:
                    return answer.chat(await begin(), top)
                chunks = [chunk async for chunk in until_first_call(begin(stream=True))]
                return answer.chat(chat_response(chunks, wants_logprobs=asked.logprobs is True), top)

        return whole()

    def complete(self, asked: CompletionRequest) -> Any:
        asked.check()
        prompts = asked.prompts()
        self._limits.applied({"content_batch": prompts})
        arguments = self._limits.applied(
            {"model": asked.model, "sampling_params": asked.sampling(), "logprobs": asked.logprob_config()}
        )
        begin: Any = partial(self._stack.inference.completion, stream=bool(asked.stream), **arguments)
        answer = Answer("text_completion", asked.model, bool(asked.stream))
        if asked.stream:
            logprobs = None if asked.logprobs is None else TextLogprobs(asked.logprobs)
            chunks = begin(content=prompts[0])
            return Stream(_told(chunks, lambda chunk: answer.text_chunk(chunk, logprobs), answer, asked))

        async def whole() -> dict[str, Any]:
            with asked.named():
                responses = await gathered([begin(content=prompt) for prompt in prompts])
            return answer.texts(responses, asked.logprobs)

        return whole()

    def embed(self, asked: EmbeddingsRequest) -> Any:
        asked.check()
        arguments = self._limits.applied({"model": asked.model, "contents": asked.texts()})

        async def whole() -> dict[str, Any]:
            with asked.named():
                response = await self._stack.inference.embeddings(**arguments)
            return embeddings(asked.model, response, asked.encoding_format or "float")

        return whole()


def _model(name: str, model: ModelDefWithProvider) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": model.provider_id}


async def _told(
    chunks: AsyncIterator[Any], tell: Callable[[Any], dict[str, Any]], answer: Answer, asked: GenerationRequest
) -> AsyncIterator[dict[str, Any]]:
    last = None
    with asked.named():
        async with closed_after(chunks):
            async for chunk in chunks:
                last = chunk
                yield tell(chunk)
    if asked.wants_usage:
        yield answer.usage_chunk(last)
