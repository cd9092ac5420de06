"""What each kind of server takes beyond OpenAI's own fields, and what it therefore can honour.

===========  =====================================================================================================
openai       greedy and ``top_p``, frequency and presence penalty, logit bias; a JSON schema in chats; logprobs of up to
             20 tokens in chats, 5 in completions
vllm         every strategy, penalty and format, logit bias, ``min_p`` (which it applies before ``top_p``), logprobs of
             the prompt, ids of sampled tokens
tgi          as openai without penalties and bias, with regular expressions, and with formats in completions; logprobs
             of up to 5 tokens
ollama       as openai without penalties and bias, with formats in completions, and without forced calls
llama_cpp    every strategy, the repetition penalty, ``min_p``, logit bias, a JSON schema, and the id of every token
             that it tells of; forced calls it has not, for any length of prose may come before one
===========  =====================================================================================================

Frequency and presence penalty count the tokens of the answer. llama.cpp counts the prompt's too, Ollama the latest of
both, and TGI has another formula: these refuse them.

A server's defaults (vLLM takes them from the model's folder, llama.cpp cuts by ``min_p``) would change the answer, so
each of these parameters is sent, also where it is switched off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from workbench.protocol import SamplingStrategy, effective_sampling
from workbench.protocol.sampling import EffectiveSampling
from workbench.providers.capabilities import Capabilities
from workbench.providers.openai import native
from workbench.providers.requests import Request

Fields: TypeAlias = dict[str, Any]

_LONGEST_CONTEXT = 2**17
_GREEDY_AND_TOP_P = frozenset({SamplingStrategy.greedy, SamplingStrategy.top_p})


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One kind of server."""

    capabilities: Capabilities
    max_logprobs: int
    """Most probable tokens that may be asked for at a position."""
    completion_max_logprobs: int | None = None
    """The same in completions, where it differs."""
    health_path: str | None = None
    """Below the URL without its ``/v1``; None asks for the models instead."""
    completion_limit: Fields
    """What a completion says where it has no ``max_tokens``."""
    sampling: Callable[[Request, EffectiveSampling], Fields]
    response_format: Callable[[Request], Fields | None]
    """The fields of a format; None where the kind of request cannot have it."""
    extra: Fields
    """Sent with every request."""
    streams_logprobs_beside_tools: bool = True
    completion: native.NativeCompletion | None = None
    """Of the server's own API, where that of OpenAI would not do."""

    def fields(self, request: Request) -> Fields:
        """Sampling in this server's words, with what it is always sent."""
        return self.extra | self.sampling(request, effective_sampling(request.sampling_params))


def _openai_sampling(request: Request, effective: EffectiveSampling) -> Fields:
    fields = {"temperature": effective.temperature, "top_p": effective.top_p}
    changes = {name: getattr(effective, name) for name in ("frequency_penalty", "presence_penalty", "logit_bias")}
    fields |= {name: value for name, value in changes.items() if value}
    return fields if request.sampling_params.seed is None else fields | {"seed": request.sampling_params.seed}


def _vllm_sampling(request: Request, effective: EffectiveSampling) -> Fields:
    # -1 is off in every version, 0 in the newer ones alone.
    return _openai_sampling(request, effective) | {
        "top_k": effective.top_k or -1,
        "min_p": effective.min_p,
        "repetition_penalty": effective.repetition_penalty,
    }


def _tgi_sampling(request: Request, effective: EffectiveSampling) -> Fields:
    fields = _openai_sampling(request, effective)
    if fields["top_p"] >= 1:  # refused, though it means nothing is cut
        del fields["top_p"]
    return fields


def _llama_cpp_sampling(request: Request, effective: EffectiveSampling) -> Fields:
    fields = _openai_sampling(request, effective) | {
        "samplers": ["penalties", "temperature", "top_k", "top_p", "min_p"],
        "top_k": effective.top_k,
        "min_p": effective.min_p,
        "repeat_penalty": effective.repetition_penalty,
        "repeat_last_n": _LONGEST_CONTEXT,  # by itself it would look back on 64 tokens
    }
    if effective.logit_bias:  # as a list, which older versions take too
        fields["logit_bias"] = [[token_id, bias] for token_id, bias in effective.logit_bias.items()]
    if "seed" in fields:
        fields["seed"] %= 2**32 - 1  # it keeps 32 bits, the highest of which stand for a random one
    return fields


def _openai_format(request: Request) -> Fields | None:
    if not request.is_chat:
        return None
    schema: Any = request.response_format
    told = {"name": "answer", "schema": schema.json_schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": told}}


def _vllm_format(request: Request) -> Fields | None:
    wanted: Any = request.response_format
    match wanted.type:
        case "json_schema":
            return {"structured_outputs": {"json": wanted.json_schema}}
        case "regex":
            return {"structured_outputs": {"regex": wanted.regex}}
    return {"structured_outputs": {"grammar": wanted.grammar}}


def _tgi_format(request: Request) -> Fields:
    wanted: Any = request.response_format
    if wanted.type == "regex":
        return {"response_format": {"type": "regex", "value": wanted.regex}}
    return {"response_format": {"type": "json", "value": wanted.json_schema}}


def _llama_cpp_format(request: Request) -> Fields | None:
    schema: Any = request.response_format
    return _openai_format(request) if request.is_chat else {"json_schema": schema.json_schema}


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

OPENAI = Dialect(
    capabilities=_OPENAI_CAPABILITIES,
    max_logprobs=20,
    completion_max_logprobs=5,
    completion_limit={},
    sampling=_openai_sampling,
    response_format=_openai_format,
    extra={},
)
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
    completion_limit={"max_tokens": None},  # left out, it is 16
    sampling=_vllm_sampling,
    response_format=_vllm_format,
    extra={"return_token_ids": True},
)
TGI = Dialect(
    capabilities=replace(_STANDARD, embeddings=False, response_formats=frozenset({"json_schema", "regex"})),
    max_logprobs=5,
    completion=native.TGI,
    health_path="/health",
    completion_limit={},
    sampling=_tgi_sampling,
    response_format=_tgi_format,
    extra={},
)
OLLAMA = Dialect(
    capabilities=replace(_STANDARD, required_tool_choice=False),
    max_logprobs=20,
    completion=native.OLLAMA,
    completion_limit={},
    sampling=_openai_sampling,
    response_format=_openai_format,
    extra={},
)
LLAMA_CPP = Dialect(
    capabilities=replace(
        _STANDARD,
        strategies=frozenset(SamplingStrategy),
        repetition_penalty=True,
        min_p=True,
        logit_bias=True,
        required_tool_choice=False,  # its grammar lets any length of prose come before the call
    ),
    max_logprobs=100,
    health_path="/health",
    completion_limit={"max_tokens": -1},
    sampling=_llama_cpp_sampling,
    response_format=_llama_cpp_format,
    extra={},
    streams_logprobs_beside_tools=False,
)
