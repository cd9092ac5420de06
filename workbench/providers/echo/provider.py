"""Provider that continues a text with itself and answers a conversation with its last message."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from workbench.errors import ClosedError, ContextLengthError, InvalidRequestError
from workbench.prompts.texts import plain_text
from workbench.prompts.tools.definitions import Toolset
from workbench.prompts.tools.parsing import ToolCallParser, call_ids_after
from workbench.protocol import ModelDef, SamplingStrategy, ToolPromptFormat
from workbench.providers.capabilities import Capabilities
from workbench.providers.echo.calls import called_text, syntax_of
from workbench.providers.echo.planning import planned
from workbench.providers.echo.words import embedding, prompt_token, token_record, words_of
from workbench.providers.interface import InferenceProvider, ModelName, ProviderConfig
from workbench.providers.pausing import pausable
from workbench.providers.requests import PromptInput, Request, Tools, check_list, texts_of
from workbench.providers.streams import Stream
from workbench.providers.tool_calls import with_tool_calls
from workbench.providers.usage import UsageMeter
from workbench.records import Embeddings, Emission, ModelCard, Prompt, PromptToken, Score, Usage

if TYPE_CHECKING:
    from workbench.protocol import InterleavedTextMedia, Message, Provider


class EchoConfig(ProviderConfig):
    """The ``config`` of an ``inline::echo`` provider in a run config."""

    models: list[ModelName] = Field(default_factory=lambda: ["echo"])
    """Models that continue texts and answer chats."""
    embedding_models: list[ModelName] = Field(default_factory=lambda: ["echo-embedding"])
    """Models that only make embeddings."""
    context_length: int = Field(default=8192, ge=1)
    """Maximum number of words in prompt and answer together."""
    delay_s: float = Field(default=0.0, ge=0, le=60)
    """Pause before each word, in seconds."""


class EchoProvider(InferenceProvider):
    """``inline::echo``: repeats its prompt without weights or torch, for tests, tutorials and first steps.

    It declares no response formats, images or ``repetition_penalty``, so that refusals can be shown too.
    """

    Config = EchoConfig
    config: EchoConfig
    capabilities = Capabilities(
        embeddings=True,
        strategies=frozenset(SamplingStrategy),
        seed=True,
        stop=True,
        logprobs=True,
        max_top_k=20,
        prompt_logprobs=True,
        tools=True,
        required_tool_choice=True,
        tool_prompt_formats=frozenset(ToolPromptFormat),
        score=True,
        render=True,
        register=True,
        pause=True,
    )

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider)
        self._closed = False
        for name in self.config.embedding_models:
            self.serve(ModelDef(identifier=name, llama_model=name))

    def generate(self, request: Request) -> AsyncIterator[Emission]:
        if request.model in self.config.embedding_models:
            allowed = "a model that generates text; this one makes embeddings only"
            raise InvalidRequestError("model", request.model, allowed)
        tools = Toolset.of(request.tools)
        prompt = _prompt(request.messages if request.is_chat else request.text, request.field)
        if len(prompt) >= self.config.context_length:
            raise ContextLengthError(len(prompt), self.config.context_length, request.field)
        text = (called_text(tools, request) if tools else None) or request.text
        emissions = self._emissions(request, prompt, words_of(text))
        if not tools:
            return emissions
        ids = call_ids_after([token.token_id for token in prompt])
        return with_tool_calls(emissions, ToolCallParser(tools, syntax_of(request), ids))

    def stream(self, request: Request) -> AsyncIterator[Emission]:
        return Stream(pausable(super().stream(request), request))

    async def _emissions(
        self, request: Request, prompt: list[PromptToken], words: list[str]
    ) -> AsyncIterator[Emission]:
        requested_at, meter = time.perf_counter(), UsageMeter(prompt_tokens=len(prompt))
        logprobs = request.logprobs
        alternatives = (logprobs.top_k or 0) if logprobs else 0
        read = prompt if logprobs and logprobs.prompt else []
        prompt_records = tuple(
            token_record(token.text, position, alternatives=alternatives) for position, token in enumerate(read)
        )[1:]
        plan = planned(request, words, self.config.context_length - len(prompt))
        for position, word in enumerate(plan.words):
            await asyncio.sleep(self.config.delay_s)
            if self._closed:
                raise ClosedError(f"provider {self.provider_id} was closed; open a new workbench")
            elapsed_s = time.perf_counter() - requested_at
            meter.count(elapsed_s)
            record = token_record(word.word, position, rank=word.rank, alternatives=alternatives, elapsed_s=elapsed_s)
            yield Emission(word.delta, (record,), prompt_tokens=prompt_records, usage=meter.usage())
            prompt_records = ()
        yield Emission(stop_reason=plan.stop_reason, prompt_tokens=prompt_records, usage=meter.usage())

    async def embed(self, model: str, contents: list[InterleavedTextMedia]) -> Embeddings:
        self.get_model(model)
        texts = texts_of(contents)
        read = sum(len(words_of(text)) for text in texts)
        return Embeddings([embedding(text) for text in texts], Usage(prompt_tokens=read))

    async def score(
        self, model: str, prompt: PromptInput, continuations: list[str], alternatives: int = 0
    ) -> list[Score]:
        """Return scores in which a word has rank 1 where it would be echoed, and rank 2 elsewhere."""
        self.get_model(model)
        check_list("continuations", continuations)
        text = prompt if isinstance(prompt, str) else plain_text(prompt[-1].content, f"prompt[{len(prompt) - 1}]")
        echoed = words_of(text)
        scores = []
        for index, continuation in enumerate(continuations):
            words = words_of(plain_text(continuation, f"continuations[{index}]"))
            if not words:
                raise InvalidRequestError(f"continuations[{index}]", continuation, "a text of at least one token")
            ranks = [1 if [word] == echoed[at : at + 1] else 2 for at, word in enumerate(words)]
            records = (
                token_record(word, at, rank=rank, alternatives=alternatives)
                for at, (word, rank) in enumerate(zip(words, ranks, strict=True))
            )
            scores.append(Score(continuation, tuple(records)))
        return scores

    async def render(
        self, model: str, prompt: PromptInput, tools: Tools = None, tool_prompt_format: ToolPromptFormat | None = None
    ) -> Prompt:
        self.get_model(model)
        tokens = tuple(_prompt(prompt, "prompt"))
        text = "".join(token.text for token in tokens)
        syntax = (tool_prompt_format or ToolPromptFormat.json).value if Toolset.of(tools) else None
        return Prompt(model, text, tokens, tool_syntax=syntax)

    def card(self, identifier: str) -> ModelCard:
        model = self.get_model(identifier)
        return ModelCard(
            identifier=identifier,
            provider_id=self.provider_id,
            provider_type=self.provider_type,
            source=model.llama_model,
            kind="embedding" if identifier in self.config.embedding_models else "causal",
            context_length=self.config.context_length,
            loaded=True,
        )

    def close(self) -> None:
        self._closed = True


def _prompt(prompt: str | Sequence[Message], field: str) -> list[PromptToken]:
    """Return the words of a text, or of a conversation with a control token before each message."""
    if isinstance(prompt, str):
        return [prompt_token(word) for word in words_of(prompt)]
    tokens = []
    for index, message in enumerate(prompt):
        tokens.append(prompt_token(f"<{message.role}>", is_control=True))
        tokens += [prompt_token(word) for word in words_of(plain_text(message.content, f"{field}[{index}].content"))]
    return tokens
