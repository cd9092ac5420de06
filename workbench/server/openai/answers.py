"""Conversion of the protocol's answers to OpenAI's JSON."""

from __future__ import annotations

import base64
import struct
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseStreamChunk,
    StopReason,
    TokenLogProb,
    TokenLogProbs,
    ToolCall,
    ToolCallDelta,
    ToolCallParseStatus,
)
from workbench.providers.chunks import logprobs_of
from workbench.records import Embeddings, Emission, Usage
from workbench.server.openai.offsets import TextLogprobs, sampled_of
from workbench.server.openai.tools import openai_call

Json = dict[str, Any]


@dataclass(slots=True)
class Answer:
    """Envelope of every JSON object in the answer to one request."""

    kind: str
    """``chat.completion`` or ``text_completion``."""
    model: str
    is_stream: bool = False
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))
    calls: int = 0
    """Number of tool calls so far."""

    def __post_init__(self) -> None:
        self.id = f"{'chatcmpl' if self.kind == 'chat.completion' else 'cmpl'}-{uuid.uuid4().hex}"

    def _framed(self, choices: Sequence[Json], **more: Any) -> Json:
        suffix = ".chunk" if self.is_stream and self.kind == "chat.completion" else ""
        head = {"id": self.id, "object": f"{self.kind}{suffix}", "created": self.created, "model": self.model}
        return {**head, "choices": list(choices), **more}

    def chat(self, response: ChatCompletionResponse, usage: Usage | None, top: int) -> Json:
        message = response.completion_message
        answer: Json = {"role": "assistant", "content": message.content}
        if message.tool_calls:
            calls = [openai_call(one) for one in message.tool_calls]
            answer |= {"content": message.content or None, "tool_calls": calls}
        choice = {
            "index": 0,
            "message": answer,
            "logprobs": _chat_logprobs(response.logprobs, top),
            "finish_reason": _finish_reason(message.stop_reason, calls=len(message.tool_calls)),
        }
        return self._framed([choice], usage=usage_json(usage))

    def chat_chunk(self, chunk: ChatCompletionResponseStreamChunk, top: int) -> Json:
        event = chunk.event
        reason = event.stop_reason
        choice = {
            "index": 0,
            "delta": self._delta(event.delta, is_first=event.event_type == "start"),
            "logprobs": _chat_logprobs(event.logprobs, top),
            "finish_reason": _finish_reason(reason, calls=self.calls) if reason else None,
        }
        return self._framed([choice])

    def _delta(self, delta: str | ToolCallDelta, *, is_first: bool) -> Json:
        if is_first:
            return {"role": "assistant", "content": ""}
        if isinstance(delta, str):
            return {"content": delta} if delta else {}
        if isinstance(delta.content, ToolCall):
            self.calls += 1
            return {"tool_calls": [{"index": self.calls - 1, **openai_call(delta.content)}]}
        # OpenAI streams complete calls only; the text of a failed one is content.
        return {"content": delta.content} if delta.parse_status is ToolCallParseStatus.failure else {}

    def texts(self, wholes: Sequence[Emission], alternatives: int | None) -> Json:
        """Return the body of folded answers, with ``alternatives`` per token; None leaves logprobs out."""
        choices = [
            {
                "index": index,
                "text": whole.delta,
                "logprobs": None
                if alternatives is None
                else _text_logprobs(TextLogprobs(alternatives), whole, ended=True),
                "finish_reason": _finish_reason(whole.stop_reason or StopReason.out_of_tokens),
            }
            for index, whole in enumerate(wholes)
        ]
        return self._framed(choices, usage=usage_json(*(whole.usage for whole in wholes)))

    def text_chunk(self, emission: Emission, logprobs: TextLogprobs | None) -> Json:
        """Return the chunk of an emission; ``logprobs`` is the stream's state, or None without logprobs."""
        ended = emission.stop_reason is not None
        certain = _text_logprobs(logprobs, emission, ended=ended) if logprobs else None
        choice = {
            "index": 0,
            "text": emission.delta,
            "logprobs": certain if certain and certain["tokens"] else None,
            "finish_reason": _finish_reason(emission.stop_reason) if emission.stop_reason else None,
        }
        return self._framed([choice])

    def usage_chunk(self, usage: Usage | None) -> Json:
        """Return the last chunk of a stream whose client requests its usage."""
        return self._framed([], usage=usage_json(usage))


def usage_json(*usages: Usage | None) -> Json:
    """Return the sum of the counts of finished answers; unknown counts are 0."""
    known = [usage for usage in usages if usage is not None]
    prompt, generated = sum(one.prompt_tokens for one in known), sum(one.generated_tokens for one in known)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": sum(one.reused_tokens for one in known)},
    }


def embeddings_json(model: str, embeddings: Embeddings, encoding: str) -> Json:
    """Return vectors in order, as numbers or as the base64 of little-endian float32."""
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(vector) if encoding == "base64" else vector}
        for index, vector in enumerate(embeddings.vectors)
    ]
    counts = usage_json(embeddings.usage)
    read = {name: counts[name] for name in ("prompt_tokens", "total_tokens")}
    return {"object": "list", "data": data, "model": model, "usage": read}


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def _finish_reason(reason: StopReason, calls: int = 0) -> str:
    if reason is StopReason.out_of_tokens:
        return "length"
    return "tool_calls" if calls else "stop"


def _chat_logprobs(entries: Sequence[TokenLogProbs] | None, top: int) -> Json | None:
    if entries is None:
        return None
    content = [_token(entry, sampled, top) for entry in entries if (sampled := sampled_of(entry))]
    return {"content": content, "refusal": None}


def _token(entry: TokenLogProbs, sampled: TokenLogProb, top: int) -> Json:
    return {**_candidate(sampled), "top_logprobs": [_candidate(one) for one in entry.tokens[:top]]}


def _candidate(one: TokenLogProb) -> Json:
    return {"token": one.text, "logprob": one.logprob, "bytes": one.bytes}


def _text_logprobs(logprobs: TextLogprobs, emission: Emission, *, ended: bool) -> Json:
    return logprobs.feed(str(emission.delta), logprobs_of(emission), emission.tokens, ended=ended)
