"""A safety provider that refuses words, so that a test decides what is harmful."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from pydantic import Field

from workbench import providers
from workbench.errors import ShieldError
from workbench.prompts.texts import plain_text
from workbench.protocol import Message, SafetyViolation, UserMessage, ViolationLevel
from workbench.providers.safety.interface import SafetyProvider, ShieldParams

FORBIDDEN = "forbidden"


class WordParams(ShieldParams):
    refused: list[str] = Field(default_factory=lambda: [FORBIDDEN])
    warned: list[str] = Field(default_factory=lambda: ["doubtful"])
    undecided: list[str] = Field(default_factory=lambda: ["unclear"])


async def at_once() -> None:
    pass


class WordShields(SafetyProvider):
    """Judges the last message by the words in it."""

    Params = WordParams
    shield_types = ("words",)
    before_verdict: Callable[[], Awaitable[None]]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.before_verdict = at_once
        self.judged: list[str] = []
        """Texts of the messages that were judged, in order."""

    async def judge(self, messages: Sequence[Message], params: WordParams) -> SafetyViolation | None:
        text = plain_text(messages[-1].content, "content")
        if isinstance(messages[-1], UserMessage) and messages[-1].context is not None:
            text += plain_text(messages[-1].context, "context")
        self.judged.append(text)
        await self.before_verdict()
        if any(word in text for word in params.undecided):
            raise ShieldError("the shield has no verdict")
        for word in params.refused:
            if word in text:
                return violation(ViolationLevel.error, 0.93, sentence=text)
        return violation(ViolationLevel.warn, 0.4) if any(word in text for word in params.warned) else None


def violation(level: ViolationLevel, probability: float, **more: Any) -> SafetyViolation:
    facts = {"category": "S9", "name": "Indiscriminate Weapons", "probability": probability, "threshold": 0.5}
    return SafetyViolation(violation_level=level, user_message="I cannot say that.", metadata=facts | more)


def word_shields(monkeypatch: pytest.MonkeyPatch, *shields: dict[str, Any] | str) -> dict[str, Any]:
    """Return a run config's safety provider that runs these shields, named or with parameters."""
    monkeypatch.setitem(providers.SAFETY_PROVIDER_TYPES, "inline::words", f"{__name__}:WordShields")
    named = [{"identifier": one} if isinstance(one, str) else one for one in shields]
    return {"provider_id": "words", "provider_type": "inline::words", "config": {"shields": named}}
