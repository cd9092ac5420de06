"""Which token ends the assistant's turn in a model's own chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError
from workbench.protocol import CompletionMessage, StopReason, UserMessage

if TYPE_CHECKING:
    from workbench.prompts.encoding import PromptEncoder

_SAID = "seven"


def turn_ends(encoder: PromptEncoder) -> frozenset[int]:
    """The control token that the template writes right after what the assistant has said; empty where there is none.

    Configs at times name another end than the template writes, and an answer would run on into turns that the model
    makes up.
    """
    if encoder.template is None:
        return frozenset()
    said = CompletionMessage(content=_SAID, stop_reason=StopReason.end_of_turn, tool_calls=[])
    try:
        prompt = encoder.chat_prompt([UserMessage(content="Hi"), said, UserMessage(content="Bye")])
    except WorkbenchError:  # a template of its own mind, which chats will be told about
        return frozenset()
    _, said_before, after = prompt.text.rpartition(_SAID)
    named = [text for text in encoder.special_ids if said_before and text and after.lstrip().startswith(text)]
    return frozenset([encoder.special_ids[max(named, key=len)]]) if named else frozenset()
