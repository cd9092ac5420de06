"""A text as a model reads it: a run whose tokens are those of the text instead of an answer's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from math import nan
from typing import Any, NoReturn

from workbench.errors import InvalidRequestError, UnsupportedFieldError
from workbench.protocol import (
    CompletionRequest,
    CompletionResponse,
    CompletionResponseStreamChunk,
    LogProbConfig,
    SamplingParams,
)
from workbench.protocol.sampling import is_count
from workbench.providers.folding import folded
from workbench.providers.requests import Request
from workbench.providers.streams import closed_after
from workbench.records import Emission, Prompt, PromptToken, TokenRecord, Usage
from workbench.session.capsule import Capsule
from workbench.session.run import Run


class Reading(Run[CompletionResponseStreamChunk, CompletionResponse]):
    """A run that measures a given text: ``tokens`` are the tokens of the text, each with its probability.

    Returned by `Workbench.reading`. The first token has no probability (NaN), unless the model starts every text with
    a BOS token. Nothing is generated, so a reading cannot be branched, extended or replayed from a capsule. Whole
    distributions are not kept; use ``alternatives`` or `Workbench.score` to see what else was probable.
    """

    reads = True

    @property
    def capsule(self) -> Capsule:
        """Raise `UnsupportedFieldError`: a capsule replays a generation."""
        self._refuse("capsule")

    def branch(self, *_: Any, **__: Any) -> NoReturn:
        """Raise `UnsupportedFieldError`: there is no answer to branch from."""
        self._refuse("branch")

    def extend(self, *_: Any) -> NoReturn:
        """Raise `UnsupportedFieldError`: there is no answer to extend."""
        self._refuse("extend")

    def edit(self, *_: Any, **__: Any) -> NoReturn:
        """Raise `UnsupportedFieldError`: use an edited run that generates."""
        self._refuse("edit")

    def _refuse(self, field: str) -> NoReturn:
        raise UnsupportedFieldError(field, self.id, "used on a run that generates: a reading only measures its text")


def reading_request(model: str, text: Any, alternatives: int) -> Request:
    """Return the request that measures every token of a text.

    It generates one token, because no request generates none; that token is dropped.

    Raises:
        InvalidRequestError: the text is none, or empty, or ``alternatives`` is no count.
    """
    if not isinstance(text, str) or not text:
        raise InvalidRequestError("text", text, "a text of at least one character")
    if not is_count(alternatives):
        raise InvalidRequestError("alternatives", alternatives, "a whole number, 0 or above")
    logprobs = LogProbConfig(top_k=int(alternatives), prompt=True)
    body = CompletionRequest.model_construct(
        model=model, content=text, sampling_params=SamplingParams(max_tokens=1), logprobs=logprobs
    )
    return Request.from_body(body, field="text")


async def reading_emissions(
    request: Request, emissions: AsyncIterator[Emission], render: Callable[[], Awaitable[Prompt]]
) -> AsyncIterator[Emission]:
    """Yield the text of a `reading_request` as one emission, with its tokens.

    Args:
        emissions: the answer to the request.
        render: gives the text's tokens, of which the measured ones lack the first.
    """
    async with closed_after(emissions):
        measured = folded([emission async for emission in emissions])
    first, *_ = (await render()).tokens
    usage = replace(measured.usage or Usage(), generated_tokens=0)
    yield Emission(
        request.text,
        (_unmeasured(first), *measured.prompt_tokens),
        usage=usage,
        notes=measured.notes,
        inspector=measured.inspector,
    )


def _unmeasured(token: PromptToken) -> TokenRecord:
    return TokenRecord(0, token.token_id, token.text, token.bytes, nan, 0, nan, is_special=token.is_control)
