"""What safety and memory providers use of the models that their stack serves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from workbench.protocol import InterleavedTextMedia, ModelDef
    from workbench.providers.capabilities import Capabilities
    from workbench.providers.requests import PromptInput, Request
    from workbench.records import Embeddings, Emission, Score, TokenSpans


class ModelAccess(Protocol):
    """Every served model, by its plain or full name. Each method raises `ModelNotFoundError` for any other name."""

    def get_model(self, identifier: str) -> ModelDef:
        """Return the definition of a model."""
        ...

    def default_model(self, kind: str) -> str:
        """Return the name of the first served model of a kind, ``causal`` or ``embedding``."""
        ...

    def capabilities_of(self, model: str) -> Capabilities:
        """Return the capabilities of a model, as far as they are known before it is loaded."""
        ...

    def stream(self, request: Request) -> AsyncIterator[Emission]:
        """Return the emissions of a request."""
        ...

    async def embed(self, model: str, contents: list[InterleavedTextMedia]) -> Embeddings:
        """Return one vector for each content, in order, and the number of tokens read."""
        ...

    async def token_spans(self, model: str, text: str) -> TokenSpans:
        """Return where the tokens of a text are, as a sentence model reads it."""
        ...

    async def score(
        self, model: str, prompt: PromptInput, continuations: list[str], alternatives: int = 0
    ) -> list[Score]:
        """Return how probable each continuation is after the prompt, a text or a conversation."""
        ...
