"""What the stack asks of a provider of inference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from workbench.protocol import BatchInference, Inference

if TYPE_CHECKING:
    from workbench.protocol import Message, ModelDef, Provider, ToolDefinition, ToolPromptFormat
    from workbench.records import ModelCard, Prompt, Score


class InferenceProvider(Inference, BatchInference, Protocol):
    """One configured instance; it answers requests for the models that it lists, under their plain names."""

    provider_id: str
    provider_type: str

    def __init__(self, provider: Provider) -> None: ...

    async def list_models(self) -> list[ModelDef]:
        """Models served from the start, as the config names them."""

    async def register_model(self, model: ModelDef) -> None:
        """Prepare to serve one more model, or raise what is wrong with it."""

    async def unregister_model(self, identifier: str) -> None:
        """Serve a model no longer and give its memory back; its requests on their way fail with `ClosedError`."""

    async def score(
        self, model: str, prompt: str | list[Message], continuations: list[str], alternatives: int = 0
    ) -> list[Score]:
        """How probable each continuation is after the prompt, a text or a conversation."""

    async def render(
        self,
        model: str,
        prompt: str | list[Message],
        tools: list[ToolDefinition] | None = None,
        tool_prompt_format: ToolPromptFormat | None = None,
    ) -> Prompt:
        """What the model would be given for a text or a conversation, without generating."""

    def card(self, identifier: str) -> ModelCard:
        """The facts of one served model, without loading it."""

    def load(self, identifier: str) -> None:
        """Make the model ready for its first request; blocks."""

    def close(self) -> None:
        """End threads and give memory back. What is in flight fails with `ClosedError`."""
