"""Servers that speak as vLLM, TGI and Ollama do, with the local engine behind them: for laws that need real answers.

What they take is what those servers document; a field that they do not know is refused here, though most of the real
ones would drop it without a word. Their logprobs, ids, calls and formats are written in each one's own way.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fakes.observing import Observed
from tests.fakes.scripted_server import Asked, Reply, Stream, scripted_server
from workbench import providers
from workbench.errors import WorkbenchError
from workbench.protocol import (
    CompletionMessage,
    GrammarResponseFormat,
    JsonSchemaResponseFormat,
    LogProbConfig,
    Provider,
    RegexResponseFormat,
    SamplingParams,
    StopReason,
    SystemMessage,
    ToolChoice,
    ToolDefinition,
    UserMessage,
)
from workbench.records import Alternative, Emission, TokenRecord

_SHARED = frozenset(
    {
        "model",
        "messages",
        "prompt",
        "max_tokens",
        "temperature",
        "top_p",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "tools",
    }
)
_VLLM = frozenset({"top_k", "min_p", "repetition_penalty", "structured_outputs", "return_token_ids", "prompt_logprobs"})
_PENALTIES = frozenset({"frequency_penalty", "presence_penalty", "logit_bias"})
_FIELDS = {
    "vllm": _SHARED | _VLLM | _PENALTIES | {"logprobs", "top_logprobs", "tool_choice"},
    "tgi": (_SHARED - {"prompt"}) | {"logprobs", "top_logprobs", "response_format", "tool_choice"},
    "ollama": (_SHARED - {"prompt"}) | {"logprobs", "top_logprobs", "response_format"},
}


class DialectServer:
    """Answers as one kind of server would.

    Args:
        kind: ``vllm``, ``tgi`` or ``ollama``.
        folder: the model behind it.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self._kind = kind
        config = {"models": [str(folder)]}
        self.brain: Any = providers.create(
            Provider(provider_id="brain", provider_type="inline::transformers", config=config)
        )
        self.model = folder.name

    def listing(self, _: Asked) -> Reply:
        return Reply({"object": "list", "data": [{"id": self.model, "object": "model", "max_model_len": 4096}]})

    def embeddings(self, asked: Asked) -> Reply:
        vectors = asyncio.run(self.brain.embeddings(self.model, asked.body["input"])).embeddings
        return Reply({"data": [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]})

    def generate(self, asked: Asked) -> Reply | Stream:
        body = asked.body
        if unknown := set(body) - _FIELDS[self._kind]:
            return Reply({"error": {"message": f"unknown fields {sorted(unknown)}"}}, 400)
        if self._kind == "tgi" and body.get("top_p", 0.5) >= 1:
            return Reply(
                {"error": "Input validation error: `top_p` must be > 0.0 and < 1.0", "error_type": "validation"}, 422
            )
        is_chat = asked.path.endswith("/chat/completions")
        try:
            answer, folded = asyncio.run(self._answer(body, is_chat=is_chat))
        except WorkbenchError as error:
            return Reply({"error": {"message": str(error), "type": "BadRequestError", "code": 400}}, 400)
        if body.get("stream"):
            return self._streamed(answer, folded, body, is_chat=is_chat)
        return self._whole(answer, folded, body)

    async def _answer(self, body: dict[str, Any], *, is_chat: bool) -> tuple[Any, Emission]:
        """The response, and all that is known of it."""
        brain = Observed(self.brain)
        params, logprobs = _params(body), _logprobs(body)
        wanted = _response_format(body)
        if not is_chat:
            return await brain.completion(self.model, body["prompt"], params, False, logprobs, wanted), brain.folded
        choice = ToolChoice(body.get("tool_choice", "auto"))
        tools = [_tool(tool["function"]) for tool in body.get("tools", ())]
        answer = await brain.chat_completion(
            self.model, _messages(body["messages"]), params, tools, choice, logprobs=logprobs, response_format=wanted
        )
        return answer, brain.folded

    def tgi_stream(self, asked: Asked) -> Stream:
        """``/generate_stream``."""
        given, count = asked.body["parameters"], asked.body["parameters"].get("top_n_tokens")
        assert given.pop("do_sample") == ("temperature" in given)
        assert given.get("top_p", 0.5) < 1
        body = {"temperature": 0} | given | {"prompt": asked.body["inputs"], "max_tokens": given.get("max_new_tokens")}
        body |= {"response_format": given["grammar"]} if "grammar" in given else {}
        body |= {} if count is None else {"logprobs": count}
        answer, folded = asyncio.run(self._answer(body, is_chat=False))
        events: list[dict[str, Any]] = []
        for record in folded.tokens:
            listed: list[TokenRecord | Alternative] = [record, *record.alternatives]
            listed = sorted(listed, key=lambda one: -one.logprob)[:count]
            top = [{"id": one.token_id, "text": one.text, "logprob": one.logprob, "special": False} for one in listed]
            token = {"id": record.token_id, "text": record.text, "logprob": record.logprob, "special": False}
            events.append({"index": len(events), "token": token, "top_tokens": top, "details": None})
        reason = {"length": "length", "stop": "stop_sequence"}[_reason(answer.completion_message)]
        usage = folded.usage
        assert usage is not None
        events[-1]["details"] = {
            "finish_reason": reason, "generated_tokens": usage.generated_tokens, "input_length": usage.prompt_tokens
        }  # fmt: skip
        return Stream(events, "closed")

    def ollama_lines(self, asked: Asked) -> Stream:
        """``/api/generate``."""
        assert asked.body["raw"]
        given = asked.body["options"]
        body = given | {"prompt": asked.body["prompt"], "max_tokens": max(0, given["num_predict"])}
        if "format" in asked.body:
            body["response_format"] = {"type": "json", "value": asked.body["format"]}
        if asked.body.get("logprobs"):
            body["logprobs"] = asked.body["top_logprobs"]
        answer, folded = asyncio.run(self._answer(body, is_chat=False))
        lines: list[dict[str, Any]] = []
        for record, text in zip(folded.tokens, _shown(folded.tokens, answer.completion_message.content), strict=True):
            lines.append({"response": text, "done": False})
            if "logprobs" in body:
                lines[-1]["logprobs"] = self._told(record, body, is_chat=True)["content"]
        usage = _usage(folded)
        counts = {"prompt_eval_count": usage["prompt_tokens"], "eval_count": usage["completion_tokens"]}
        lines.append({"response": "", "done": True, "done_reason": _reason(answer.completion_message)} | counts)
        return Stream([f"{json.dumps(line)}\n" for line in lines], "closed")

    def _streamed(self, answer: Any, folded: Emission, body: dict[str, Any], *, is_chat: bool) -> Stream:
        message = answer.completion_message
        told = "logprobs" in body
        choices: list[dict[str, Any]] = [{"delta": {"role": "assistant", "content": ""}}] if is_chat else []
        records = () if message.tool_calls else folded.tokens
        for record, text in zip(records, _shown(records, message.content), strict=True):
            choice: dict[str, Any] = {"delta": {"content": text}} if is_chat else {"text": text}
            if told:
                choice["logprobs"] = self._told(record, body, is_chat=is_chat)
            if body.get("return_token_ids"):
                choice["token_ids"] = [record.token_id]
            choices.append(choice)
        choices += [{"delta": {"tool_calls": [part]}} for part in _call_parts(message)]
        choices.append({("delta" if is_chat else "text"): {} if is_chat else "", "finish_reason": _reason(message)})
        events = [{"choices": [{"index": 0, **choice}]} for choice in choices]
        return Stream([*events, {"choices": [], "usage": _usage(folded)}])

    def _whole(self, answer: Any, folded: Emission, body: dict[str, Any]) -> Reply:
        """Of a completion alone, which is asked for whole where it is about the prompt."""
        message = answer.completion_message
        parts = [self._told(record, body, is_chat=False) for record in folded.tokens]
        logprobs = {name: [one for part in parts for one in part[name]] for name in (parts[0] if parts else ())}
        choice = {
            "index": 0,
            "text": message.content,
            "finish_reason": _reason(message),
            "token_ids": [record.token_id for record in folded.tokens],
            "logprobs": logprobs,
            "prompt_logprobs": [None, *map(_prompt_position, folded.prompt_tokens)],
        }
        ids = [-7, *(record.token_id for record in folded.prompt_tokens)]
        return Reply({"choices": [choice], "prompt_token_ids": ids, "usage": _usage(folded)})

    def _told(self, record: TokenRecord, body: dict[str, Any], *, is_chat: bool) -> dict[str, Any]:
        count = body.get("top_logprobs", body["logprobs"])
        alternatives = [(one.text, one.logprob, list(one.bytes)) for one in record.alternatives]
        sampled = (record.text, record.logprob, list(record.bytes))
        # vLLM puts the sampled token first and so leaves one of the others out; the older form has room for all.
        listed = (
            [sampled, *alternatives] if self._kind == "vllm" else sorted([sampled, *alternatives], key=lambda o: -o[1])
        )
        if not is_chat:
            top = {text: logprob for text, logprob, _ in [sampled, *alternatives][: count + 1]}
            return {"tokens": [record.text], "token_logprobs": [record.logprob], "top_logprobs": [top]}
        written = [
            {"token": text, "logprob": logprob} | ({} if self._kind == "tgi" else {"bytes": raw})
            for text, logprob, raw in listed[:count]
        ]
        return {"content": [{"token": record.text, "logprob": record.logprob, "top_logprobs": written}]}


@contextmanager
def dialect_server(kind: str, folder: Path) -> Iterator[tuple[str, str]]:
    """A server of that kind; the address of its API, and the name of its model."""
    speaking = DialectServer(kind, folder)
    with scripted_server() as server:
        server.script("/v1/models", speaking.listing)
        server.script("/health", Reply(b"", headers={"Content-Type": "text/plain"}))
        server.script("/v1/embeddings", speaking.embeddings)
        server.script("/v1/chat/completions", speaking.generate)
        server.script("/v1/completions", speaking.generate)
        server.script("/generate_stream", speaking.tgi_stream)
        server.script("/api/generate", speaking.ollama_lines)
        yield server.url, speaking.model
    speaking.brain.close()


def _params(body: dict[str, Any]) -> SamplingParams:
    top_k = max(0, body.get("top_k", 0))
    strategy = "greedy" if body["temperature"] == 0 else "top_k" if top_k else "top_p"
    return SamplingParams.model_validate(
        {
            "strategy": strategy,
            "temperature": body["temperature"],
            "top_p": body.get("top_p", 1.0),
            "top_k": top_k,
            "max_tokens": body.get("max_tokens") or 0,
            "repetition_penalty": body.get("repetition_penalty", 1.0),
            "min_p": body.get("min_p", 0.0),
            "frequency_penalty": body.get("frequency_penalty"),
            "presence_penalty": body.get("presence_penalty"),
            "logit_bias": body.get("logit_bias"),
            "seed": body.get("seed"),
            "stop": body.get("stop"),
        }
    )


def _logprobs(body: dict[str, Any]) -> LogProbConfig | None:
    if "logprobs" not in body:
        return None
    return LogProbConfig(top_k=body.get("top_logprobs", body["logprobs"]), prompt="prompt_logprobs" in body)


def _response_format(body: dict[str, Any]) -> Any:
    if outputs := body.get("structured_outputs"):
        ((kind, value),) = outputs.items()
    elif wanted := body.get("response_format"):
        kind, value = wanted["type"], wanted.get("value")
        if kind == "json_schema":
            kind, value = "json", wanted["json_schema"]["schema"]
    else:
        return None
    match kind:
        case "json":
            return JsonSchemaResponseFormat(json_schema=value)
        case "regex":
            return RegexResponseFormat(regex=value)
    return GrammarResponseFormat(grammar=value)


def _tool(function: dict[str, Any]) -> ToolDefinition:
    return ToolDefinition(
        tool_name=function["name"], description=function["description"], json_schema=function["parameters"]
    )


def _messages(messages: list[dict[str, Any]]) -> list[Any]:
    kinds = {"user": UserMessage, "system": SystemMessage}
    return [kinds[message["role"]](content=message["content"]) for message in messages]


def _shown(records: tuple[TokenRecord, ...], content: Any) -> list[str]:
    """What of the answer each token brings: nothing once a stop string has begun."""
    shown, at = [], 0
    for record in records:
        shown.append(content[at : at + len(record.text)])
        at += len(record.text)
    return shown


def _call_parts(message: CompletionMessage) -> Iterator[dict[str, Any]]:
    for index, call in enumerate(message.tool_calls):
        text = json.dumps(call.arguments)
        yield {
            "index": index,
            "id": call.call_id,
            "type": "function",
            "function": {"name": call.tool_name, "arguments": ""},
        }
        yield {"index": index, "function": {"arguments": text[:5]}}
        yield {"index": index, "function": {"arguments": text[5:]}}


def _reason(message: CompletionMessage) -> str:
    if message.tool_calls:
        return "tool_calls"
    return "length" if message.stop_reason is StopReason.out_of_tokens else "stop"


def _usage(folded: Any) -> dict[str, Any]:
    return {"prompt_tokens": folded.usage.prompt_tokens, "completion_tokens": folded.usage.generated_tokens}


def _prompt_position(record: TokenRecord) -> dict[str, Any]:
    everyone: list[TokenRecord | Alternative] = [record, *record.alternatives]
    return {
        str(one.token_id): {"logprob": one.logprob, "rank": one.rank, "decoded_token": one.text} for one in everyone
    }
