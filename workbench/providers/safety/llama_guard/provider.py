"""Provider of shields that ask a served chat model for its verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from workbench.errors import (
    ContextLengthError,
    InvalidRequestError,
    ModelNotFoundError,
    ShieldError,
    UnsupportedFieldError,
)
from workbench.protocol import HealthInfo, SafetyViolation, UserMessage
from workbench.providers.safety.hazards import HAZARDS
from workbench.providers.safety.interface import SafetyConfig, SafetyProvider, ShieldConfig
from workbench.providers.safety.judgments import HazardParams, hazard_violation, warns_from
from workbench.providers.safety.llama_guard.prompt import guard_prompt
from workbench.providers.safety.llama_guard.verdicts import Verdict, generated_verdict, scored_verdict
from workbench.providers.safety.message_text import judged_text

if TYPE_CHECKING:
    from workbench.protocol import Message
    from workbench.providers.capabilities import Capabilities


class LlamaGuardConfig(SafetyConfig):
    """Settings of a guard model."""

    shields: list[ShieldConfig] = Field(default_factory=lambda: [ShieldConfig(identifier="llama_guard")])
    """Shields that run from the start; one named ``llama_guard`` unless others are given."""
    model: str = Field(min_length=1)
    """Served chat model that judges, by its plain or full name."""
    prompt: Literal["instructions", "chat_template"] = "instructions"
    """``instructions`` sends the task, the categories and the conversation as one message. ``chat_template`` sends the
    conversation alone, for models whose chat template adds the task, such as Llama Guard 3 in Hugging Face layout."""


class LlamaGuardProvider(SafetyProvider):
    """Shields that judge the last message in its conversation, with a guard model."""

    Config = LlamaGuardConfig
    Params = HazardParams
    shield_types = ("llama_guard",)

    async def judge(self, messages: Sequence[Message], params: Any) -> SafetyViolation | None:
        """Return the violation that the guard model finds in the last message.

        Raises:
            ShieldError: the model is not served, or its answer is not a verdict.
            ContextLengthError: the conversation is too long for the model.
            UnsupportedFieldError: a parameter has a value that the model or the prompt cannot honor.
        """
        asked = await asyncio.to_thread(self._asked, messages, params)
        if not asked:
            return None
        verdict = await self._verdict(asked, params)
        if verdict.probability < warns_from(params.threshold, params.warn_band):
            return None
        return hazard_violation(
            next(iter(verdict.categories), None),
            verdict.probability,
            params.threshold,
            categories=list(verdict.categories),
            model=self.config.model,
            source=verdict.source,
        )

    async def health(self) -> HealthInfo:
        """Return the status ``OK``, or that the guard model is not served."""
        try:
            self.models.get_model(self.config.model)
        except ModelNotFoundError as error:
            return HealthInfo(status=str(error))
        return HealthInfo(status="OK")

    def _asked(self, messages: Sequence[Message], params: HazardParams) -> list[Message]:
        """Return the conversation for the guard model; empty if there is no text to judge."""
        if not judged_text(messages).strip():
            return []
        categories = params.ordered_categories()
        if self.config.prompt == "instructions":
            return [UserMessage(content=guard_prompt(messages, categories))]
        if len(categories) < len(HAZARDS):
            allowed = "left out: the model's chat template lists the categories itself"
            raise UnsupportedFieldError("params.categories", categories, allowed)
        return list(messages)

    async def _verdict(self, asked: list[Message], params: HazardParams) -> Verdict:
        model, categories = self.config.model, params.ordered_categories()
        capabilities = self._capabilities()
        if not (capabilities.score or capabilities.logprobs) and params.model_fields_set & {"threshold", "warn_band"}:
            allowed = f"left out: {model} returns text without probabilities"
            raise UnsupportedFieldError("params.threshold", params.threshold, allowed)
        try:
            if capabilities.score:
                least = warns_from(params.threshold, params.warn_band)
                return await scored_verdict(self.models, model, asked, categories, least)
            return await generated_verdict(self.models, model, asked, categories, with_logprobs=capabilities.logprobs)
        except ContextLengthError as error:
            raise ContextLengthError(error.prompt_tokens, error.context_length, "messages") from None
        except (InvalidRequestError, ModelNotFoundError) as error:  # about a request that the caller did not write
            raise ShieldError(f"{model} cannot judge: {error}") from error

    def _capabilities(self) -> Capabilities:
        try:
            return self.models.capabilities_of(self.config.model)
        except ModelNotFoundError as error:
            raise ShieldError(f"{self.config.model} cannot judge: {error}") from error
