"""Retrieval inside inference: chunks of a memory bank in the prompt, and what each did to the answer.

The chunks become the context of the last message, numbered from 1 and named by their documents. Leaving one out keeps
the numbers of the others, so that the two prompts differ in nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from workbench.errors import InvalidRequestError
from workbench.prompts.texts import plain_text
from workbench.protocol import RetrievedChunks, SamplingParams, TokenAttribution, UserMessage
from workbench.providers.streams import closed_after
from workbench.records import AnswerPrefix, Attribution

if TYPE_CHECKING:
    from workbench.protocol import Chunk, Memory
    from workbench.providers.requests import Request
    from workbench.records import Emission, TokenRecord

    Answer = Callable[[Request], AsyncIterator[Emission]]
    """Function that returns the emissions of a request."""

HEADING = "Answer with these passages:"


async def with_chunks(request: Request, memory: Memory) -> Request:
    """Return a request whose last message has the chunks that its bank has on it, and that needs no bank any more."""
    config = request.retrieval
    if config is None:
        return request
    field = f"{request.field}[{len(request.messages) - 1}].content"
    query = plain_text(request.messages[-1].content, field)
    try:
        found = await memory.query_documents(config.bank_id, query, config.params or None)
    except InvalidRequestError as error:
        if type(error) is not InvalidRequestError:
            raise
        own_field = field if error.field == "query" else f"retrieval.{error.field}"
        raise InvalidRequestError(own_field, error.given, error.allowed) from None
    retrieved = RetrievedChunks(chunks=found.chunks, scores=found.scores)
    return _placed(replace(request, retrieval=None, retrieved=retrieved))


def without_chunk(request: Request, index: int) -> Request:
    """Return a request with chunks, without one of them."""
    return _placed(request, left_out={index})


def context_of(chunks: Sequence[Chunk], left_out: Collection[int] = ()) -> str | None:
    """Return the context that a message gets for chunks; None for none."""
    passages = [
        f"[{index + 1}] {chunk.document_id}\n{plain_text(chunk.content, f'chunks[{index}].content').strip()}"
        for index, chunk in enumerate(chunks)
        if index not in left_out
    ]
    return "\n\n".join([HEADING, *passages]) if passages else None


def _placed(request: Request, left_out: Collection[int] = ()) -> Request:
    assert request.retrieved is not None
    *before, last = request.messages
    assert isinstance(last, UserMessage)
    context = context_of(request.retrieved.chunks, left_out)
    return replace(request, messages=[*before, last.model_copy(update={"context": context})])


async def attribution(answer: Answer, request: Request, tokens: Sequence[TokenRecord]) -> Attribution:
    """Return what each chunk of a request did to the tokens of its answer.

    The model is given the same tokens after each prompt that lacks one chunk, all at the same time; the parts that
    prompts share are computed once, as far as the provider caches prefixes.

    Raises:
        InvalidRequestError: the request has no chunks, or the answer no tokens with ids.
        UnsupportedFieldError: the model's provider cannot answer with given tokens.
    """
    if request.retrieved is None:
        raise InvalidRequestError(
            "attribution",
            "an answer without chunks",
            "used on an answer of `Workbench.ask`",
            in_form="This answer has no chunks: only answers of bench.ask() do.",
        )
    if any(token.token_id < 0 for token in tokens):
        raise InvalidRequestError("attribution", "tokens without ids", "used with a provider that reports token ids")
    chunks = tuple(request.retrieved.chunks)
    requests = [without_chunk(request, index) for index in range(len(chunks))]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_logprobs(answer, one, tokens)) for one in requests]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None  # the first one ended the others
    without = tuple(task.result() for task in tasks)
    return Attribution(tuple(tokens), chunks, without, tuple(request.retrieved.scores))


async def _logprobs(answer: Answer, request: Request, tokens: Sequence[TokenRecord]) -> tuple[float, ...]:
    """Return the logprobs of given tokens as the answer to a request."""
    if not tokens:
        return ()
    forced = replace(
        request,
        sampling_params=SamplingParams(max_tokens=len(tokens)),
        logprobs=None,
        response_format=None,
        answer_prefix=AnswerPrefix(given_ids=tuple(token.token_id for token in tokens)),
        shields=(),  # they have passed these tokens
        breakpoints=(),
        control=None,
    )
    emissions = answer(forced)
    found: list[TokenRecord] = []
    async with closed_after(emissions):
        async for emission in emissions:
            found += emission.tokens
    return tuple(token.logprob for token in found)


async def answered(answer: Answer, request: Request, memory: Memory) -> AsyncIterator[Emission]:
    """Yield the emissions of a request with retrieval: the first one has the chunks, the last one the attribution."""
    config = request.retrieval
    assert config is not None
    request = await with_chunks(request, memory)
    retrieved: RetrievedChunks | None = request.retrieved
    emissions = answer(request)
    tokens: list[TokenRecord] = []
    async with closed_after(emissions):
        async for emission in emissions:
            tokens += emission.tokens
            if emission.stop_reason is not None and config.attribution:
                found = await attribution(answer, request, tokens)
                retrieved = _wire(request.retrieved, found)
            yield replace(emission, retrieved=retrieved)
            retrieved = None


def _wire(retrieved: RetrievedChunks | None, found: Attribution) -> RetrievedChunks:
    assert retrieved is not None
    entries = [
        TokenAttribution(
            token_id=token.token_id,
            text=token.text,
            logprob=token.logprob,
            without=[row[index] for row in found.without],
        )
        for index, token in enumerate(found.tokens)
    ]
    return retrieved.model_copy(update={"attribution": entries})
