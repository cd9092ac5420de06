"""Completions in the native API of servers whose OpenAI-compatible one cannot continue a text unchanged.

TGI's OpenAI-compatible API returns no logprobs for completions and accepts no format; Ollama's inserts the text into
the model's chat template. Native events are converted to the form of OpenAI's API, so that one reader handles both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workbench.protocol import effective_sampling
from workbench.providers.openai.wire import (
    Answer,
    Candidate,
    Choice,
    Logprobs,
    Part,
    PromptDetails,
    TokenLogprob,
    UsageCounts,
)
from workbench.providers.requests import Request


@dataclass(frozen=True, slots=True)
class NativeCompletion:
    """Path, request body and events of one server's native completion."""

    path: str
    """Path relative to the URL without ``/v1``."""
    body: Callable[[Request, str, str, int | None], dict[str, Any]]
    """Function of the request, model name, text and number of top tokens (or None) that returns the request body."""
    event: type[Event]
    is_lines: bool = False
    """Whether the stream has one JSON object per line instead of server-sent events."""


class Event(Answer):
    """One event of a native stream."""

    def part(self) -> Part:
        """Return the event in the form of OpenAI's API."""
        raise NotImplementedError


def _tgi_body(request: Request, _: str, text: str, count: int | None) -> dict[str, Any]:
    params, effective = request.sampling_params, effective_sampling(request.sampling_params)
    parameters: dict[str, Any] = {"details": True, "do_sample": effective.temperature > 0}
    if effective.temperature > 0:
        parameters["temperature"] = effective.temperature
    if effective.top_p < 1:  # TGI refuses 1, although it removes no token
        parameters["top_p"] = effective.top_p
    if params.max_tokens:
        parameters["max_new_tokens"] = params.max_tokens
    if params.seed is not None:
        parameters["seed"] = params.seed
    if params.stop:
        parameters["stop"] = list(params.stop)
    if count is not None:
        parameters["top_n_tokens"] = count
    response_format: Any = request.response_format
    if response_format is not None:
        is_regex = response_format.type == "regex"
        value = response_format.regex if is_regex else response_format.json_schema
        parameters["grammar"] = {"type": "regex" if is_regex else "json", "value": value}
    return {"inputs": text, "parameters": parameters, "stream": True}


class _TgiToken(Answer):
    id: int
    text: str
    logprob: float | None = None
    special: bool = False


class _TgiDetails(Answer):
    finish_reason: str
    generated_tokens: int | None = None
    input_length: int | None = None


class TgiEvent(Event):
    token: _TgiToken
    top_tokens: list[_TgiToken] | None = None
    details: _TgiDetails | None = None

    def part(self) -> Part:
        details, counts = self.details, None
        if details is not None:
            counts = UsageCounts(prompt_tokens=details.input_length, completion_tokens=details.generated_tokens)
        choice = Choice(finish_reason=details.finish_reason if details else None)
        if not self.token.special:  # an end token is part of neither text nor logprobs
            top = [Candidate(token=one.text, logprob=one.logprob, id=one.id) for one in self.top_tokens or ()]
            record = TokenLogprob(token=self.token.text, logprob=self.token.logprob, id=self.token.id, top_logprobs=top)
            choice = choice.model_copy(update={"text": self.token.text, "logprobs": Logprobs(content=[record])})
        return Part(choices=[choice], usage=counts)


def _ollama_body(request: Request, model: str, text: str, count: int | None) -> dict[str, Any]:
    params, effective = request.sampling_params, effective_sampling(request.sampling_params)
    options: dict[str, Any] = {
        "temperature": effective.temperature,
        "top_p": effective.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "repeat_penalty": 1.0,
        "num_predict": params.max_tokens or -1,
    }
    if params.seed is not None:
        options["seed"] = params.seed
    if params.stop:
        options["stop"] = list(params.stop)
    body: dict[str, Any] = {"model": model, "prompt": text, "raw": True, "stream": True, "options": options}
    if count is not None:
        body |= {"logprobs": True, "top_logprobs": count}
    response_format: Any = request.response_format
    return body if response_format is None else body | {"format": response_format.json_schema}


class OllamaEvent(Event):
    response: str = ""
    done: bool = False
    done_reason: str | None = None
    logprobs: list[TokenLogprob] | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None

    def part(self) -> Part:
        counts = UsageCounts(
            prompt_tokens=self.prompt_eval_count,
            completion_tokens=self.eval_count,
            prompt_tokens_details=PromptDetails(),
        )
        choice = Choice(
            text=self.response,
            finish_reason=(self.done_reason or "stop") if self.done else None,
            logprobs=Logprobs(content=self.logprobs) if self.logprobs is not None else None,
        )
        return Part(choices=[choice], usage=counts if self.done else None)


TGI = NativeCompletion("/generate_stream", _tgi_body, TgiEvent)
OLLAMA = NativeCompletion("/api/generate", _ollama_body, OllamaEvent, is_lines=True)
