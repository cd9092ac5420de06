"""Abilities that providers declare, and checks that refuse requests for others by the name of the field.

A field that a provider ignores changes the answer silently. The router therefore checks a request before it forwards
it, and a provider need not check for fields that it did not declare.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from workbench.errors import UnsupportedContentError, UnsupportedFieldError
from workbench.protocol import (
    EffectiveSampling,
    LogProbConfig,
    SamplingStrategy,
    ToolChoice,
    ToolPromptFormat,
    effective_sampling,
)
from workbench.sampling_stages import SAMPLING_STAGES

if TYPE_CHECKING:
    from workbench.providers.requests import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Fields and methods that a provider supports; a request for any other is refused by the name of the field.

    ``sampling_params.max_tokens`` is no ability: every provider must support it.
    """

    completion: bool = True
    """Whether the provider continues texts."""
    chat: bool = True
    """Whether it answers conversations."""
    batch: bool = True
    """Whether one call may have several texts or conversations."""
    embeddings: bool = False
    images: bool = False
    """Whether messages may contain images; a model without vision still refuses them."""

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
    """Maximum of ``logprobs.top_k``; None for no limit."""
    prompt_logprobs: bool = False

    tools: bool = False
    required_tool_choice: bool = False
    """Whether ``tool_choice=required`` guarantees a call instead of only requesting one."""
    tool_prompt_formats: frozenset[ToolPromptFormat] = frozenset({ToolPromptFormat.json})
    response_formats: frozenset[str] = frozenset()
    """Supported types of response format, among ``json_schema``, ``regex`` and ``grammar``."""

    edits: bool = False
    """Whether the numbers inside a model can be read and changed."""

    token_spans: bool = False
    """Whether the provider returns where the tokens of a text are, for its sentence models."""
    score: bool = False
    """Whether the provider returns the logprobs of given continuations."""
    render: bool = False
    """Whether it returns the prompt that the model would receive."""
    register: bool = False
    """Whether models can be registered at run time."""

    branch: bool = False
    """Whether answers may begin with given tokens."""
    pause: bool = False
    """Whether answers can be paused, on request and at breakpoints, without changing them. `pausing.pausable` adds this
    to a provider that computes nothing ahead of its reader."""


class Identified(Protocol):
    """Identity of a provider."""

    provider_id: str
    provider_type: str


class DeclaresCapabilities(Identified, Protocol):
    """Identity and capabilities of a provider."""

    capabilities: Capabilities


def refuse_undeclared(provider: DeclaresCapabilities, request: Request) -> None:
    """Check that a provider has declared every ability that a request uses.

    Raises:
        UnsupportedFieldError: a field needs an undeclared ability; the error names the first one.
        UnsupportedContentError: the request contains an image, and the provider supports none.
    """
    refuse_method(provider, "chat" if request.is_chat else "completion", request.model)
    if request.answer_prefix is not None:
        refuse_method(provider, "branch", request.model)
    if request.breakpoints:
        refuse_method(provider, "pause", request.model)
    name = display_name(provider)
    for field, value, allowed in _undeclared(provider.capabilities, request):
        raise UnsupportedFieldError(field, value, f"{allowed}: {name} does not support it")
    if request.has_images and not provider.capabilities.images:
        raise UnsupportedContentError(request.field, "an image", f"text: {name} cannot read images")


def refuse_method(provider: DeclaresCapabilities, ability: str, model: str) -> None:
    """Raise `UnsupportedFieldError` unless the provider has a method, named as in `Capabilities`."""
    if not getattr(provider.capabilities, ability):
        raise_unsupported(provider, ability, model)


def raise_unsupported(provider: DeclaresCapabilities, ability: str, model: str) -> NoReturn:
    """Raise the `UnsupportedFieldError` for a method that a provider does not have."""
    offered = [name for name in _METHODS if getattr(provider.capabilities, name)]
    allowed = f"one whose provider offers {ability}; {display_name(provider)} offers {', '.join(offered) or 'nothing'}"
    raise UnsupportedFieldError("model", model, allowed)


def display_name(provider: Identified) -> str:
    """Return a provider's id and type, for error messages."""
    return f"provider {provider.provider_id} ({provider.provider_type})"


_METHODS = (
    "completion",
    "chat",
    "batch",
    "embeddings",
    "token_spans",
    "score",
    "render",
    "register",
    "branch",
    "pause",
    "edits",
)


def _undeclared(can: Capabilities, request: Request) -> Iterator[tuple[str, Any, str]]:
    """Yield the field, its value and the allowed values for each ability that a request uses and ``can`` lacks."""
    params, absent = request.sampling_params, "absent"
    effective = effective_sampling(params)
    if effective.strategy not in can.strategies:
        yield "sampling_params.strategy", params.strategy.value, _one_of(sorted(can.strategies))
    yield from _undeclared_stages(can, effective)
    if params.seed is not None and not can.seed:
        yield "sampling_params.seed", params.seed, absent
    if params.stop and not can.stop:
        yield "sampling_params.stop", params.stop, absent
    if request.logprobs is not None:
        yield from _undeclared_logprobs(can, request.logprobs)
    if request.edits and not can.edits:
        yield "edits", f"{len(request.edits)} edits", absent
    if request.tools:
        yield from _undeclared_tools(can, request)
    kind = getattr(request.response_format, "type", None)
    if request.response_format is not None and kind not in can.response_formats:
        allowed = f"{absent}, or of type {_one_of(sorted(can.response_formats))}" if can.response_formats else absent
        yield "response_format", request.response_format, allowed


def _undeclared_stages(can: Capabilities, effective: EffectiveSampling) -> Iterator[tuple[str, Any, str]]:
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
