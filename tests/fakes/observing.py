"""A provider, or a router, whose emissions can be looked at once it has answered by the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from workbench.protocol import CompletionMessage, InterleavedTextMedia, ModelDef
from workbench.providers.folding import folded
from workbench.providers.protocol_methods import ProtocolMethods
from workbench.providers.requests import Request
from workbench.providers.streams import closed_after
from workbench.records import Embeddings, Emission


class Observed(ProtocolMethods):
    """Answers as another one does."""

    def __init__(self, source: ProtocolMethods) -> None:
        self._source = source
        self.emissions: list[Emission] = []
        """Those of the last answer."""

    @property
    def folded(self) -> Emission:
        """The last answer, whole or streamed, as one emission."""
        return folded(self.emissions)

    def get_model(self, identifier: str) -> ModelDef:
        return self._source.get_model(identifier)

    def stream(self, request: Request) -> AsyncIterator[Emission]:
        self.emissions = []
        return self._noted(self._source.stream(request), self.emissions)

    async def answer_batch(self, model: str, requests: Sequence[Request]) -> list[CompletionMessage]:
        return await self._source.answer_batch(model, requests)

    async def embed(self, model: str, contents: list[InterleavedTextMedia]) -> Embeddings:
        return await self._source.embed(model, contents)

    async def _noted(self, emissions: AsyncIterator[Emission], noted: list[Emission]) -> AsyncIterator[Emission]:
        async with closed_after(emissions):
            async for emission in emissions:
                noted.append(emission)
                yield emission
