"""What a response carries beside the wire stays beside the wire."""

from __future__ import annotations

import copy
import pickle

import pytest

from workbench import protocol, records
from workbench.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseEvent,
    ChatCompletionResponseEventType,
    ChatCompletionResponseStreamChunk,
    CompletionMessage,
    CompletionResponse,
    CompletionResponseStreamChunk,
    StopReason,
)
from workbench.protocol.responses import DetailedModel
from workbench.records import RunDetail, TokenRecord, Usage, attach_detail, detail_of

MESSAGE = CompletionMessage(content="a", stop_reason=StopReason.end_of_turn)
EVENT = ChatCompletionResponseEvent(event_type=ChatCompletionResponseEventType.start, delta="")
DETAIL = RunDetail(
    tokens=(TokenRecord(0, 1, "a", b"a", -0.5, 1, 1.0),), usage=Usage(prompt_tokens=3), notes=("greedy ignores top_p",)
)


@pytest.fixture(
    params=[
        CompletionResponse(completion_message=MESSAGE),
        CompletionResponseStreamChunk(delta="a"),
        ChatCompletionResponse(completion_message=MESSAGE),
        ChatCompletionResponseStreamChunk(event=EVENT),
    ],
    ids=lambda item: type(item).__name__,
)
def item(request: pytest.FixtureRequest) -> DetailedModel:
    bare: DetailedModel = request.param
    return bare.model_copy(deep=True)


def test_what_is_attached_is_found_again(item: DetailedModel) -> None:
    assert detail_of(item) is None
    assert attach_detail(item, DETAIL) is item
    assert detail_of(item) is DETAIL


def test_it_is_neither_written_nor_shown_nor_compared(item: DetailedModel) -> None:
    bare = item.model_copy(deep=True)
    attach_detail(item, DETAIL)
    assert item.model_dump() == bare.model_dump()
    assert item.model_dump_json() == bare.model_dump_json()
    assert repr(item) == repr(bare)
    assert item == bare
    assert type(item).model_validate_json(item.model_dump_json()) == bare


def test_items_of_different_content_or_type_differ() -> None:
    assert CompletionResponseStreamChunk(delta="a") != CompletionResponseStreamChunk(delta="b")
    assert CompletionResponse(completion_message=MESSAGE) != ChatCompletionResponse(completion_message=MESSAGE)


def test_it_goes_along_with_copies(item: DetailedModel) -> None:
    attach_detail(item, DETAIL)
    for twin in (copy.copy(item), copy.deepcopy(item), pickle.loads(pickle.dumps(item))):
        assert detail_of(twin) == DETAIL


@pytest.mark.parametrize("name", ["RunDetail", "attach_detail", "detail_of", "token_logprobs"])
def test_the_protocol_still_has_the_names_that_have_moved_and_says_where_they_are(name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"now workbench.records.{name}"):
        assert getattr(protocol, name) is getattr(records, name)
