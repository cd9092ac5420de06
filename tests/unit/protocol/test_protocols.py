"""The protocols as an implementer meets them: routes, signatures, run-time checks, and a light import."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import AsyncIterator
from enum import Enum
from typing import Any, assert_type

from workbench import protocol
from workbench.protocol import (
    BatchInference,
    CompletionMessage,
    CompletionResponse,
    CompletionResponseStreamChunk,
    Edit,
    EmbeddingsResponse,
    Inference,
    InterleavedTextMedia,
    LogProbConfig,
    ModelDef,
    Models,
    ModelStore,
    ResponseFormat,
    RunConfig,
    SamplingParams,
    StackRunConfig,
    StopReason,
    routes_of,
    webmethod,
)


class OneModelStore:
    def get_model(self, identifier: str) -> ModelDef:
        return ModelDef(identifier=identifier, llama_model="nowhere")


class Parrot:
    """The smallest implementation: it says what it was told."""

    def __init__(self) -> None:
        self.model_store: ModelStore = OneModelStore()

    def completion(
        self,
        model: str,
        content: InterleavedTextMedia,
        sampling_params: SamplingParams | None = None,
        stream: bool | None = False,
        logprobs: LogProbConfig | None = None,
        response_format: ResponseFormat | None = None,
        edits: list[Edit] | None = None,
    ) -> Any:
        return self._stream(str(content)) if stream else self._whole(str(content))

    async def _whole(self, text: str) -> CompletionResponse:
        message = CompletionMessage(content=text, stop_reason=StopReason.end_of_turn)
        return CompletionResponse(completion_message=message)

    async def _stream(self, text: str) -> AsyncIterator[CompletionResponseStreamChunk]:
        for character in text:
            yield CompletionResponseStreamChunk(delta=character)
        yield CompletionResponseStreamChunk(delta="", stop_reason=StopReason.end_of_turn)

    def chat_completion(self, *arguments: Any, **keywords: Any) -> Any:
        raise NotImplementedError

    async def embeddings(self, model: str, contents: list[InterleavedTextMedia]) -> EmbeddingsResponse:
        return EmbeddingsResponse(embeddings=[[1.0] for _ in contents])


async def test_an_implementation_is_checked_at_run_time_and_typed_by_the_flag() -> None:
    parrot: Inference = Parrot()
    assert isinstance(parrot, Inference)
    response = await parrot.completion("m", "hello")
    assert_type(response, CompletionResponse)
    assert_type(parrot.completion("m", "", stream=True), AsyncIterator[CompletionResponseStreamChunk])
    chunks = [chunk async for chunk in parrot.completion("m", "hello", stream=True)]
    assert response.completion_message.content == "".join(chunk.delta for chunk in chunks) == "hello"


def test_without_a_model_store_it_is_no_inference() -> None:
    parrot = Parrot()
    del parrot.model_store
    assert not isinstance(parrot, Inference)


def test_completion_is_plain_and_the_signature_at_run_time_is_the_whole_one() -> None:
    assert not inspect.iscoroutinefunction(Inference.completion)
    assert list(inspect.signature(Inference.chat_completion).parameters) == [
        *("self", "model", "messages", "sampling_params", "tools", "tool_choice", "tool_prompt_format"),
        *("stream", "logprobs", "response_format", "retrieval", "shields", "edits"),
    ]
    assert inspect.get_annotations(Inference)["model_store"] == "ModelStore"


def test_routes_come_from_the_marks_in_order() -> None:
    assert [(route.name, route.method, route.route) for route in routes_of(Models)] == [
        ("list_models", "GET", "/models/list"),
        ("get_model", "GET", "/models/get"),
        ("register_model", "POST", "/models/register"),
    ]
    assert routes_of(BatchInference)[0].function is vars(BatchInference)["batch_completion"]


def test_a_class_that_inherits_a_route_may_move_it() -> None:
    class Moved(BatchInference):
        @webmethod(route="/elsewhere")
        async def batch_completion(self, *arguments: Any, **keywords: Any) -> Any: ...

    assert [route.route for route in routes_of(Moved)] == ["/elsewhere", "/batch_inference/chat_completion"]


def test_no_two_methods_share_a_route() -> None:
    protocols = [item for item in vars(protocol).values() if getattr(item, "_is_protocol", False)]
    routes = [route.route for owner in protocols for route in routes_of(owner)]
    assert len(routes) == len(set(routes)) == 28


def test_the_public_names_are_exactly_those_of_all() -> None:
    assert len(set(protocol.__all__)) == len(protocol.__all__)
    assert all(hasattr(protocol, name) for name in protocol.__all__)
    assert RunConfig is StackRunConfig


def test_an_enum_member_is_named_as_its_value() -> None:
    enums = [item for item in vars(protocol).values() if isinstance(item, type) and issubclass(item, Enum)]
    assert len(enums) == 12
    for enum in enums:
        assert [member.name for member in enum] == [member.value for member in enum]


def test_importing_the_protocol_loads_nothing_heavy() -> None:
    code = "import workbench.protocol, sys; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True).stdout
    heavy = {"torch", "transformers", "pandas", "numpy", "IPython", "ipywidgets", "yaml"}
    assert "workbench.protocol" in found.split()
    assert not heavy & set(found.split())
