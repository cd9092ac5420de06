"""Capabilities and request fields of each kind of server that implements OpenAI's API.

===========  =====================================================================================================
openai       greedy and ``top_p``, frequency and presence penalty, logit bias; a JSON schema in chats; logprobs of up to
             20 tokens in chats, 5 in completions
vllm         every strategy, penalty and format, logit bias, ``min_p`` (applied before ``top_p``), logprobs of the
             prompt, ids of sampled tokens
tgi          as openai without penalties and bias, with regular expressions, and with formats in completions; logprobs
             of up to 5 tokens
ollama       as openai without penalties and bias, with formats in completions, and without forced calls
llama_cpp    every strategy, the repetition penalty, ``min_p``, logit bias, a JSON schema, and the id of every token
             reported; no forced calls, because text of any length may precede a call
===========  =====================================================================================================

Frequency and presence penalty count the tokens of the answer. llama.cpp also counts those of the prompt, Ollama the
latest tokens of both, and TGI has another formula: for these servers, the penalties are refused.

A server's defaults (vLLM reads them from the model's folder, llama.cpp truncates by ``min_p``) would change the answer,
so each of these parameters is sent, even if it is off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from workbench.protocol import SamplingStrategy, effective_sampling
from workbench.protocol.sampling import EffectiveSampling
from workbench.providers.capabilities import Capabilities
from workbench.providers.openai import native
from workbench.providers.requests import Request

Fields: TypeAlias = dict[str, Any]

_LONGEST_CONTEXT = 2**17
_GREEDY_AND_TOP_P = frozenset({SamplingStrategy.greedy, SamplingStrategy.top_p})


def _openai_sampling(request: Request, effective: EffectiveSampling) -> Fields:
    fields = {"temperature": effective.temperature, "top_p": effective.top_p}
    changes = {name: getattr(effective, name) for name in ("frequency_penalty", "presence_penalty", "logit_bias")}
    fields |= {name: value for name, value in changes.items() if value}
    return fields if request.sampling_params.seed is None else fields | {"seed": request.sampling_params.seed}


def _vllm_sampling(request: Request, effective: EffectiveSampling) -> Fields:
    # -1 is off in every version, 0 only in newer ones.
    return _openai_sampling(request, effective) | {
        "top_k": effective.top_k or -1,
        "min_p": effective.min_p,
        "repetition_penalty": effective.repetition_penalty,
    }


def _tgi_sampling(request: Request, effective: EffectiveSampling) -> Fields:
    fields = _openai_sampling(request, effective)
    if fields["top_p"] >= 1:  # TGI refuses 1, although it removes no token
        del fields["top_p"]
    return fields


def _llama_cpp_sampling(request: Request, effective: EffectiveSampling) -> Fields:
    fields = _openai_sampling(request, effective) | {
        "samplers": ["penalties", "temperature", "top_k", "top_p", "min_p"],
        "top_k": effective.top_k,
        "min_p": effective.min_p,
        "repeat_penalty": effective.repetition_penalty,
        "repeat_last_n": _LONGEST_CONTEXT,  # the default is the last 64 tokens
    }
    if effective.logit_bias:  # as a list, which older versions accept too
        fields["logit_bias"] = [[token_id, bias] for token_id, bias in effective.logit_bias.items()]
    if "seed" in fields:
        fields["seed"] %= 2**32 - 1  # llama.cpp keeps 32 bits; the largest value requests a random seed
    return fields


def _openai_format(request: Request) -> Fields | None:
    if not request.is_chat:
        return None
    schema: Any = request.response_format
    json_schema = {"name": "answer", "schema": schema.json_schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": json_schema}}


def _vllm_format(request: Request) -> Fields | None:
    response_format: Any = request.response_format
    match response_format.type:
        case "json_schema":
            return {"structured_outputs": {"json": response_format.json_schema}}
        case "regex":
            return {"structured_outputs": {"regex": response_format.regex}}
    return {"structured_outputs": {"grammar": response_format.grammar}}


def _tgi_format(request: Request) -> Fields:
    response_format: Any = request.response_format
    if response_format.type == "regex":
        return {"response_format": {"type": "regex", "value": response_format.regex}}
    return {"response_format": {"type": "json", "value": response_format.json_schema}}


def _llama_cpp_format(request: Request) -> Fields | None:
    schema: Any = request.response_format
    return _openai_format(request) if request.is_chat else {"json_schema": schema.json_schema}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Request fields and limits of one kind of server."""

    capabilities: Capabilities
    max_logprobs: int
    """Maximum number of most probable tokens per position."""
    completion_max_logprobs: int | None = None
    """The same for completions; None for the same maximum as in chats."""
    health_path: str | None = None
    """Path of the health check, relative to the URL without ``/v1``; None lists the models instead."""
    completion_limit: Fields = field(default_factory=dict)
    """Fields of a completion without ``max_tokens`` that remove the server's own limit."""
    sampling: Callable[[Request, EffectiveSampling], Fields] = _openai_sampling
    response_format: Callable[[Request], Fields | None] = _openai_format
    """Function that returns the fields of a format; None if this kind of request does not support it."""
    extra: Fields = field(default_factory=dict)
    """Fields that are sent with every request."""
    streams_logprobs_beside_tools: bool = True
    completion: native.NativeCompletion | None = None
    """Completion in the server's own API; None to use that of OpenAI."""

    def fields(self, request: Request) -> Fields:
        """Return the sampling fields of a request, with the fields that are always sent."""
        return self.extra | self.sampling(request, effective_sampling(request.sampling_params))


_STANDARD = Capabilities(
    embeddings=True,
    images=True,
    strategies=_GREEDY_AND_TOP_P,
    seed=True,
    stop=True,
    logprobs=True,
    tools=True,
    required_tool_choice=True,
    response_formats=frozenset({"json_schema"}),
    register=True,
)

_OPENAI_CAPABILITIES = replace(_STANDARD, frequency_penalty=True, presence_penalty=True, logit_bias=True)

OPENAI = Dialect(capabilities=_OPENAI_CAPABILITIES, max_logprobs=20, completion_max_logprobs=5)
VLLM = Dialect(
    capabilities=replace(
        _OPENAI_CAPABILITIES,
        strategies=frozenset(SamplingStrategy),
        repetition_penalty=True,
        min_p=True,
        prompt_logprobs=True,
        response_formats=frozenset({"json_schema", "regex", "grammar"}),
    ),
    max_logprobs=20,
    health_path="/health",
    completion_limit={"max_tokens": None},  # the default is 16
    sampling=_vllm_sampling,
    response_format=_vllm_format,
    extra={"return_token_ids": True},
)
TGI = Dialect(
    capabilities=replace(_STANDARD, embeddings=False, response_formats=frozenset({"json_schema", "regex"})),
    max_logprobs=5,
    completion=native.TGI,
    health_path="/health",
    sampling=_tgi_sampling,
    response_format=_tgi_format,
)
OLLAMA = Dialect(capabilities=replace(_STANDARD, required_tool_choice=False), max_logprobs=20, completion=native.OLLAMA)
LLAMA_CPP = Dialect(
    capabilities=replace(
        _STANDARD,
        strategies=frozenset(SamplingStrategy),
        repetition_penalty=True,
        min_p=True,
        logit_bias=True,
        required_tool_choice=False,  # its grammar allows text of any length before the call
    ),
    max_logprobs=100,
    health_path="/health",
    completion_limit={"max_tokens": -1},
    sampling=_llama_cpp_sampling,
    response_format=_llama_cpp_format,
    streams_logprobs_beside_tools=False,
)
