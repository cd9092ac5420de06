"""All text of the last message is judged, and an image is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from workbench.errors import InvalidRequestError, UnsupportedContentError
from workbench.protocol import (
    URL,
    CompletionMessage,
    ImageMedia,
    StopReason,
    SystemMessage,
    ToolCall,
    ToolResponseMessage,
    UserMessage,
)
from workbench.providers.safety.message_text import judged_text

IMAGE = ImageMedia(image=URL(uri="data:,"))


@pytest.mark.parametrize(
    "message,expected",
    [
        (UserMessage(content=["one", " two"]), "one two"),
        (UserMessage(content="ask", context="passage"), "ask\npassage"),
        (SystemMessage(content="rules"), "rules"),
        (ToolResponseMessage(call_id="1", tool_name="search", content="found"), "found"),
        (
            CompletionMessage(
                content="calling",
                stop_reason=StopReason.end_of_turn,
                tool_calls=[ToolCall(call_id="1", tool_name="run", arguments={"code": "é"})],
            ),
            'calling\n{"code": "é"}',
        ),
    ],
)
def test_the_text_is_that_of_the_last_message_alone(message: Any, expected: str) -> None:
    assert judged_text([UserMessage(content="earlier"), message]) == expected


@pytest.mark.parametrize(
    "message,field",
    [
        (UserMessage(content=["look", IMAGE]), "messages[1].content"),
        (UserMessage(content="look", context=IMAGE), "messages[1].context"),
    ],
)
def test_an_image_in_it_is_refused_by_name_and_one_before_it_is_not(message: UserMessage, field: str) -> None:
    with pytest.raises(UnsupportedContentError) as refusal:
        judged_text([UserMessage(content="earlier"), message])
    assert refusal.value.field == field
    assert judged_text([message, UserMessage(content="later")]) == "later"


def test_half_a_surrogate_pair_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequestError, match=r"messages\[0\].content"):
        judged_text([UserMessage.model_construct(content="\ud800")])
