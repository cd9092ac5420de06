"""Logprobs of given continuations of a prompt, as records."""

from __future__ import annotations

from workbench.providers.requests import PromptInput
from workbench.providers.transformers.served import CausalModel
from workbench.providers.transformers.tokens import token_record
from workbench.records import Score


def scored(served: CausalModel, prompt: PromptInput, continuations: list[str], alternatives: int) -> list[Score]:
    """Return one score per continuation of a text or a conversation, in order. Blocks."""
    encoder, vocabulary = served.encoder, served.engine.model.vocabulary
    if isinstance(prompt, str):
        before, read = prompt, encoder.text_prompt(prompt, "prompt")
    else:
        before, read = None, encoder.chat_prompt(prompt, field="prompt")
    token_ids = [
        encoder.encode_continuation(before, read.token_ids, continuation, f"continuations[{index}]")
        for index, continuation in enumerate(continuations)
    ]
    return [
        Score(text, tuple(token_record(vocabulary, stat, index, 0.0) for index, stat in enumerate(stats)))
        for text, stats in zip(
            continuations, served.engine.score(read.token_ids, token_ids, alternatives, read.images), strict=True
        )
    ]
