"""Routes of OpenAI's API under ``/v1``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import Response

from workbench import protocol
from workbench.providers.chunks import ChunkMaker
from workbench.providers.folding import folded, response
from workbench.providers.protocol_methods import gathered
from workbench.providers.streams import Stream, closed_after
from workbench.server.answering import answer
from workbench.server.bodies import read_body
from workbench.server.description import PostTypes
from workbench.server.openai.answers import Answer, embeddings_json
from workbench.server.openai.calls import until_first_call
from workbench.server.openai.fields import OpenAIRequest
from workbench.server.openai.messages import protocol_messages
from workbench.server.openai.offsets import TextLogprobs
from workbench.server.openai.requests import ChatRequest, CompletionRequest, EmbeddingsRequest, GenerationRequest

if TYPE_CHECKING:
    from fastapi import FastAPI

    from workbench.records import Emission
    from workbench.server.limits import Limits
    from workbench.stack import Stack

_DONE = b"data: [DONE]\n\n"


def add_openai_routes(app: FastAPI, stack: Stack, limits: Limits) -> dict[str, PostTypes]:
    """Add the routes to the app, and return the types of the POST bodies by path."""
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
    async def read_and_respond(request: Request) -> Any:
        body = await read_body(request, model, limits.max_body_bytes)
        with body.named():
            return respond(body)

    async def endpoint(request: Request) -> Response:
        return await answer(request, read_and_respond, _DONE)

    return endpoint


class _Routes:
    def __init__(self, stack: Stack, limits: Limits) -> None:
        self._stack = stack
        self._limits = limits

    async def list_models(self) -> dict[str, Any]:
        served = self._stack.models.registrations()
        return {"object": "list", "data": [_model(one.name, one.definition) for one in served]}

    async def get_model(self, request: Request, model: str) -> Response:
        async def respond(_: Request) -> Any:
            async def found() -> dict[str, Any]:
                return _model(model, self._stack.models.find(model).definition)

            return found()

        return await answer(request, respond)

    def chat(self, body: ChatRequest) -> Any:
        body.check()
        arguments = self._limits.applied(
            {
                "model": body.model,
                "messages": protocol_messages(body.messages),
                "sampling_params": body.sampling(),
                "tools": body.tool_definitions(),
                "tool_choice": body.protocol_tool_choice(),
                "stream": bool(body.stream),
                "logprobs": body.logprob_config(),
                "response_format": body.response_format.protocol_form() if body.response_format else None,
            }
        )
        answer, top = Answer("chat.completion", body.model, bool(body.stream)), body.top_logprobs or 0
        request, emissions = self._stack.inference.begin(protocol.ChatCompletionRequest.model_construct(**arguments))
        if body.has_one_call:
            emissions = until_first_call(emissions)
        if body.stream:
            maker = ChunkMaker.of(request)

            def events(emission: Emission) -> Iterable[dict[str, Any]]:
                return (answer.chat_chunk(chunk, top) for chunk in maker.chunks(emission))

            return Stream(_events(emissions, events, answer, body))

        async def whole() -> dict[str, Any]:
            with body.named():
                read = [emission async for emission in emissions]
                return answer.chat(response(request, read), folded(read).usage, top)

        return whole()

    def complete(self, body: CompletionRequest) -> Any:
        body.check()
        prompts = body.prompts()
        self._limits.applied({"content_batch": prompts})
        arguments = self._limits.applied(
            {"model": body.model, "sampling_params": body.sampling(), "logprobs": body.logprob_config()}
        )

        def begin(prompt: str) -> AsyncIterator[Emission]:
            request = protocol.CompletionRequest.model_construct(content=prompt, **arguments)
            return self._stack.inference.begin(request)[1]

        answer = Answer("text_completion", body.model, bool(body.stream))
        if body.stream:
            logprobs = None if body.logprobs is None else TextLogprobs(body.logprobs)
            return Stream(_events(begin(prompts[0]), lambda one: [answer.text_chunk(one, logprobs)], answer, body))

        async def whole() -> dict[str, Any]:
            with body.named():
                wholes = await gathered([_folded(begin(prompt)) for prompt in prompts])
            return answer.texts(wholes, body.logprobs)

        return whole()

    def embed(self, body: EmbeddingsRequest) -> Any:
        body.check()
        arguments = self._limits.applied({"model": body.model, "contents": body.texts()})

        async def whole() -> dict[str, Any]:
            with body.named():
                found = await self._stack.inference.embed(**arguments)
            return embeddings_json(body.model, found, body.encoding_format or "float")

        return whole()


def _model(name: str, model: protocol.ModelDefWithProvider) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": model.provider_id}


async def _events(
    emissions: AsyncIterator[Emission],
    events: Callable[[Emission], Iterable[dict[str, Any]]],
    answer: Answer,
    body: GenerationRequest,
) -> AsyncIterator[dict[str, Any]]:
    """Yield the events of a stream, and at its end the usage if the client requests it."""
    usage = None
    with body.named():
        async with closed_after(emissions):
            async for emission in emissions:
                usage = emission.usage or usage
                for event in events(emission):
                    yield event
    if body.wants_usage:
        yield answer.usage_chunk(usage)


async def _folded(emissions: AsyncIterator[Emission]) -> Emission:
    return folded([emission async for emission in emissions])
