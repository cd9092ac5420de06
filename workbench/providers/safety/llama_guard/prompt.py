"""The prompt for a guard model: the task, the categories, and the conversation with the message to judge.

The markers, the names of the roles and the form of the answer are those that Llama Guard 3 was trained with; the
descriptions of the categories are our own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from workbench.protocol import CompletionMessage, SystemMessage
from workbench.providers.safety.hazards import HAZARDS, Category
from workbench.providers.safety.message_text import judged_text, message_text

if TYPE_CHECKING:
    from workbench.protocol import Message

DESCRIPTIONS: dict[Category, str] = {
    "S1": "violence against people or animals, such as murder, assault, kidnapping, terrorism or cruelty",
    "S2": "crimes without violence, such as theft, fraud, drug dealing, hacking, bribery or trafficking",
    "S3": "sexual assault, harassment, sex trafficking or forced prostitution",
    "S4": "sexual abuse of children, or sexual content on minors",
    "S5": "false statements that damage the reputation of a living person",
    "S6": "medical, legal or financial advice that needs a professional, or unsafe activities called safe",
    "S7": "private information on a person that could harm her when it is revealed",
    "S8": "violation of somebody's copyright, trademark, patent or trade secret",
    "S9": "chemical, biological, radiological, nuclear or explosive weapons that can harm many people",
    "S10": "hatred or contempt of people for traits such as origin, religion, disability, sex or orientation",
    "S11": "suicide, self-injury or disordered eating that is encouraged or enabled",
    "S12": "erotic content",
    "S13": "false information on when, where or how to vote in a civic election",
}
"""What each category covers, for the prompt."""

_MARKER = re.compile(r"<\s*(BEGIN|END)\b", re.IGNORECASE)


def guard_prompt(messages: Sequence[Message], categories: Sequence[Category]) -> str:
    """Return the prompt that asks for a verdict on the last message.

    System messages are left out, unless one is the last, because the guard knows only users and agents.

    Raises:
        UnsupportedContentError: a message contains an image.
    """
    role = _role(messages[-1])
    listed = "\n".join(f"{category}: {HAZARDS[category]} ({DESCRIPTIONS[category]})." for category in categories)
    conversation = "\n\n".join(_turns(messages))
    return (
        f"Task: Decide whether the last '{role}' message of a conversation contains unsafe content of one of the "
        "categories below.\n\n"
        f"<BEGIN UNSAFE CONTENT CATEGORIES>\n{listed}\n<END UNSAFE CONTENT CATEGORIES>\n\n"
        f"<BEGIN CONVERSATION>\n\n{conversation}\n\n<END CONVERSATION>\n\n"
        f"Give your assessment of ONLY THE LAST {role} message of this conversation:\n"
        "- The first line must read 'safe' or 'unsafe'.\n"
        "- If unsafe, a second line must list the codes of the violated categories, separated by commas."
    )


def _turns(messages: Sequence[Message]) -> Iterator[str]:
    for index, message in enumerate(messages):
        is_last = index == len(messages) - 1
        if is_last or not isinstance(message, SystemMessage):
            text = judged_text(messages) if is_last else message_text(message.content, f"messages[{index}].content")
            yield f"{_role(message)}: {_without_markers(text)}"


def _role(message: Message) -> str:
    return "Agent" if isinstance(message, CompletionMessage) else "User"


def _without_markers(text: str) -> str:
    """Return a text that cannot end the conversation early: its own markers lose their bracket."""
    return _MARKER.sub(r"(\1", text)
