"""What a provider can do, and the refusal by name of what it cannot.

A field that a provider would drop changes the answer without a word, so the router asks here before it hands a request
on, and a provider need not look for fields that it did not declare.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from workbench.errors import UnsupportedContentError, UnsupportedFieldError
from workbench.protocol import (
    LogProbConfig,
    SamplingParams,
    SamplingStrategy,
    ToolChoice,
    ToolPromptFormat,
    effective_sampling,
    effective_strategy,
)
from workbench.sampling_stages import SAMPLING_STAGES

if TYPE_CHECKING:
    from workbench.providers.requests import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What requests may ask of a provider; all else is refused by the name of the field.

    ``sampling_params.max_tokens`` is for every provider to honour, and no ability of its own.
    """

    completion: bool = True
    """Texts are continued."""
    chat: bool = True
    """Conversations are answered."""
    batch: bool = True
    """Several texts or conversations in one call."""
    embeddings: bool = False
    images: bool = False
    """Messages may hold images; a model that reads none refuses them itself."""

    strategies: frozenset[SamplingStrategy] = frozenset({SamplingStrategy.greedy})
    repetition_penalty: bool = False
    min_p: bool = False
    frequency_penalty: bool = False
    presence_penalty: bool = False
    logit_bias: bool = False
    seed: bool = False
    stop: bool = False

    logprobs: bool = False
    max_top_k: int | None = None
    """Most alternatives that ``logprobs.top_k`` may ask for; None sets no bound."""
    prompt_logprobs: bool = False

    tools: bool = False
    required_tool_choice: bool = False
    """``tool_choice=required`` is guaranteed, not only asked for."""
    tool_prompt_formats: frozenset[ToolPromptFormat] = frozenset({ToolPromptFormat.json})
    response_formats: frozenset[str] = frozenset()
    """Of ``json_schema``, ``regex`` and ``grammar``."""

    score: bool = False
    """Given continuations are scored."""
    render: bool = False
    """A prompt is shown as the model would get it."""
    register: bool = False
    """Models are taken at run time."""

    branch: bool = False
    """Answers may begin with given tokens."""
    pause: bool = False
    """Answers pause where they are asked to and at breakpoints, and go on as if they had not. For a provider that
    computes nothing ahead of its reader, `pausing.pausable` does it."""


class Declaring(Protocol):
    """What a provider says of itself: who it is, and what it can do."""

    provider_id: str
    provider_type: str
    capabilities: Capabilities


def refuse_undeclared(provider: Declaring, request: Request) -> None:
    """Compare a request with what the provider declares.

    Raises:
        UnsupportedFieldError: for the first field that the provider cannot honour.
        UnsupportedContentError: the request holds an image, and the provider reads none.
    """
    refuse_method(provider, "chat" if request.is_chat else "completion", request.model)
    if request.answer_prefix is not None:
        refuse_method(provider, "branch", request.model)
    if request.breakpoints:
        refuse_method(provider, "pause", request.model)
    who = name_of(provider)
    for field, given, allowed in _undeclared(provider.capabilities, request):
        raise UnsupportedFieldError(field, given, f"{allowed}: {who} does not support it")
    if request.has_images and not provider.capabilities.images:
        raise UnsupportedContentError(request.field, "an image", f"text: {who} cannot read images")


def refuse_method(provider: Declaring, ability: str, model: str) -> None:
    """Raise `UnsupportedFieldError` where a whole method, named as in `Capabilities`, is not there."""
    if not getattr(provider.capabilities, ability):
        lacking(provider, ability, model)


def lacking(provider: Declaring, ability: str, model: str) -> NoReturn:
    """What to say of a method that a provider does not have."""
    offered = [name for name in _METHODS if getattr(provider.capabilities, name)]
    allowed = f"one whose provider offers {ability}; {name_of(provider)} offers {', '.join(offered) or 'nothing'}"
    raise UnsupportedFieldError("model", model, allowed)


def name_of(provider: Declaring) -> str:
    """An instance and its type, for messages."""
    return f"provider {provider.provider_id} ({provider.provider_type})"


_METHODS = ("completion", "chat", "batch", "embeddings", "score", "render", "register", "branch", "pause")


def _undeclared(can: Capabilities, request: Request) -> Iterator[tuple[str, Any, str]]:
    """Field, value, and what would be allowed there, of all that goes beyond ``can``."""
    params, absent = request.sampling_params, "absent"
    if effective_strategy(params) not in can.strategies:
        yield "sampling_params.strategy", params.strategy.value, _one_of(sorted(can.strategies))
    yield from _undeclared_stages(can, params)
    if params.seed is not None and not can.seed:
        yield "sampling_params.seed", params.seed, absent
    if params.stop and not can.stop:
        yield "sampling_params.stop", params.stop, absent
    if request.logprobs is not None:
        yield from _undeclared_logprobs(can, request.logprobs)
    if request.tools:
        yield from _undeclared_tools(can, request)
    kind = getattr(request.response_format, "type", None)
    if request.response_format is not None and kind not in can.response_formats:
        allowed = f"{absent}, or of type {_one_of(sorted(can.response_formats))}" if can.response_formats else absent
        yield "response_format", request.response_format, allowed


def _undeclared_stages(can: Capabilities, params: SamplingParams) -> Iterator[tuple[str, Any, str]]:
    effective = effective_sampling(params)
    for stage in SAMPLING_STAGES:
        value = getattr(effective, stage.field)
        if stage.is_ability and value != stage.neutral and not getattr(can, stage.field):
            off = "" if stage.neutral is None else f"{stage.words(stage.neutral)} or "
            yield f"sampling_params.{stage.field}", value, f"{off}absent"


def _undeclared_logprobs(can: Capabilities, logprobs: LogProbConfig) -> Iterator[tuple[str, Any, str]]:
    if not can.logprobs:
        yield "logprobs", logprobs, "absent"
    if can.max_top_k is not None and (logprobs.top_k or 0) > can.max_top_k:
        yield "logprobs.top_k", logprobs.top_k, f"at most {can.max_top_k}"
    if logprobs.prompt and not can.prompt_logprobs:
        yield "logprobs.prompt", logprobs.prompt, "false or absent"


def _undeclared_tools(can: Capabilities, request: Request) -> Iterator[tuple[str, Any, str]]:
    if not can.tools:
        yield "tools", f"{len(request.tools)} tools", "absent"
    if request.tool_choice == ToolChoice.required and not can.required_tool_choice:
        yield "tool_choice", request.tool_choice, f"{ToolChoice.auto} or absent"
    if request.tool_prompt_format not in (None, *can.tool_prompt_formats):
        yield "tool_prompt_format", request.tool_prompt_format, _one_of(sorted(can.tool_prompt_formats))


def _one_of(values: list[Any]) -> str:
    return " or ".join(map(str, values))
