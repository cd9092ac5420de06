"""Detection of the token that ends the assistant's turn in a model's chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError
from workbench.protocol import CompletionMessage, StopReason, UserMessage

if TYPE_CHECKING:
    from workbench.prompts.encoding import PromptEncoder

_ANSWER = "seven"


def turn_ends(encoder: PromptEncoder) -> frozenset[int]:
    """Return the control token that the template writes directly after an assistant's message; empty without one.

    Some configs name another end than the template writes; answers would continue with turns that the model makes up.
    """
    if encoder.template is None:
        return frozenset()
    answer = CompletionMessage(content=_ANSWER, stop_reason=StopReason.end_of_turn, tool_calls=[])
    try:
        prompt = encoder.chat_prompt([UserMessage(content="Hi"), answer, UserMessage(content="Bye")])
    except WorkbenchError:  # a template that fails; chats raise its error
        return frozenset()
    _, is_found, after = prompt.text.rpartition(_ANSWER)
    named = [text for text in encoder.special_ids if is_found and text and after.lstrip().startswith(text)]
    return frozenset([encoder.special_ids[max(named, key=len)]]) if named else frozenset()
