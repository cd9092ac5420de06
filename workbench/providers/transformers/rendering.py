"""Prompts as records, for inspection before anything is computed."""

from __future__ import annotations

from workbench.errors import InvalidRequestError
from workbench.providers.requests import PromptInput
from workbench.providers.transformers.served import CausalModel
from workbench.providers.transformers.tool_use import ToolUse
from workbench.records import Prompt, PromptToken


def rendered(served: CausalModel, prompt: PromptInput, use: ToolUse) -> Prompt:
    """Render a text or a conversation into the prompt that the model would receive."""
    encoder, model = served.encoder, served.engine.model
    if isinstance(prompt, str):
        if use.tools:
            raise InvalidRequestError("tools", f"{len(use.tools)} tools", "absent when the prompt is a text")
        encoded = encoder.text_prompt(prompt, "prompt")
    else:
        encoded = use.prompt(encoder, prompt, "prompt")
    is_chat = encoder.template is not None and not isinstance(prompt, str)
    return Prompt(
        model=model.name,
        text=encoded.text,
        tokens=tuple(
            PromptToken(token_id, model.vocabulary.text(token_id), model.vocabulary.bytes(token_id), is_control)
            for token_id, is_control in zip(encoded.token_ids, encoded.is_control, strict=True)
        ),
        tool_syntax=encoder.tool_syntax(use.prompt_format).value if use.tools else None,
        template_sha256=encoder.template.sha256 if is_chat and encoder.template else None,
    )
