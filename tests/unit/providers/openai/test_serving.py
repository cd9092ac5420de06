"""Models, health, embeddings and config: what the provider asks its server for, and what it sends of ours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from PIL import Image

from tests.fakes.requests import chat_request, completion_request
from tests.fakes.scripted_server import Reply, ScriptedServer, Stream, chat_events, completion_events
from tests.unit.providers.openai.conftest import TOKEN, MakeProvider
from workbench import providers
from workbench.errors import (
    ConfigError,
    InvalidRequestError,
    RemoteError,
    UnsupportedContentError,
    UnsupportedFieldError,
)
from workbench.protocol import (
    URL,
    CompletionMessage,
    GrammarResponseFormat,
    ImageMedia,
    JsonSchemaResponseFormat,
    LogProbConfig,
    Message,
    ModelDef,
    Provider,
    RegexResponseFormat,
    SamplingParams,
    SamplingStrategy,
    StopReason,
    SystemMessage,
    ToolCall,
    ToolResponseMessage,
    UserMessage,
)
from workbench.providers.capabilities import refuse_undeclared
from workbench.providers.openai.config import Ability, OpenAIConfig
from workbench.providers.openai.dialects import LLAMA_CPP, OLLAMA, OPENAI, TGI, VLLM
from workbench.records import Usage

DIALECTS = {"openai": OPENAI, "vllm": VLLM, "tgi": TGI, "ollama": OLLAMA, "llama_cpp": LLAMA_CPP}
HELLO: list[Message] = [UserMessage(content="Hello")]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


async def body_of(server: ScriptedServer, provider: Any, *, chat: bool = True, **asked: Any) -> dict[str, Any]:
    """What is sent for a request."""
    path = "/v1/chat/completions" if chat else "/v1/completions"
    server.script(path, Stream(chat_events("Hi") if chat else completion_events("Hi")))
    if chat:
        await provider.chat_completion("small", asked.pop("messages", HELLO), **asked)
    else:
        await provider.completion("small", "x", **asked)
    body: dict[str, Any] = server.bodies(path)[-1]
    return body


# ------------------------------------------------------------------------------------------------- what is asked there


async def test_without_models_in_the_config_those_of_the_server_are_served(
    server: ScriptedServer, make: MakeProvider
) -> None:
    listed = [{"id": "a", "max_model_len": 4096}, {"id": "b", "meta": {"n_ctx": 512, "n_params": 7}}]
    server.script("/v1/models", Reply({"data": listed}), Reply({"data": listed[:1]}))
    provider = make("vllm", models=[])
    assert [model.identifier for model in await provider.list_models()] == ["a", "b"]
    assert provider.card("a").context_length == 4096
    assert (provider.card("b").context_length, provider.card("b").parameters) == (512, 7)
    assert [model.identifier for model in await provider.list_models()] == ["a"], "the second was taken away there"


async def test_a_model_is_registered_where_the_server_has_it(server: ScriptedServer, make: MakeProvider) -> None:
    provider = make()
    await provider.register_model(ModelDef(identifier="nick", llama_model="small"))
    with pytest.raises(InvalidRequestError, match="small"):
        await provider.register_model(ModelDef(identifier="other", llama_model="large"))
    server.script("/v1/completions", Stream(completion_events("Hi")))
    await provider.completion("nick", "x")
    assert server.bodies("/v1/completions")[0]["model"] == "small"
    await provider.unregister_model("nick")
    assert [model.identifier for model in await provider.list_models()] == ["small"]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_health_is_asked_where_the_server_tells_it(
    server: ScriptedServer, make: MakeProvider, dialect: str
) -> None:
    server.script("/health", Reply(b"", headers={"Content-Type": "text/plain"}))
    assert (await make(dialect).health()).status == "OK"
    asked = "/health" if DIALECTS[dialect].health_path else "/v1/models"
    server.script(asked, Reply({"error": {"message": "Loading model"}}, 500))
    assert "Loading model" in (await make(dialect, max_retries=0).health()).status


async def test_embeddings_come_in_the_order_of_their_texts(server: ScriptedServer, make: MakeProvider) -> None:
    vectors = [{"index": 1, "embedding": [0.0, 1.0]}, {"index": 0, "embedding": [1.0, 0.0]}]
    server.script("/v1/embeddings", Reply({"data": vectors, "usage": {"prompt_tokens": 5, "total_tokens": 5}}))
    provider = make(embedding_models=["vectors"])
    found = await provider.embed("vectors", ["a", ["b", "c"]])
    assert found.vectors == [[1.0, 0.0], [0.0, 1.0]]
    assert found.usage == Usage(prompt_tokens=5)
    assert server.bodies("/v1/embeddings") == [{"model": "vectors", "input": ["a", "bc"], "encoding_format": "float"}]
    assert provider.card("vectors").kind == "embedding"
    with pytest.raises(InvalidRequestError):
        await provider.embeddings("vectors", [])
    with pytest.raises(RemoteError):
        await provider.embeddings("vectors", ["one"])


# ----------------------------------------------------------------------------------------------------- what is sent


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_every_sampling_parameter_is_sent_or_refused(
    server: ScriptedServer, make: MakeProvider, dialect: str
) -> None:
    provider = make(dialect)
    params = SamplingParams(
        strategy=SamplingStrategy.top_k,
        temperature=0.7,
        top_k=5,
        repetition_penalty=1.3,
        min_p=0.2,
        seed=2**40,
        max_tokens=9,
        stop=["X"],
    )
    if dialect not in ("vllm", "llama_cpp"):
        with pytest.raises(UnsupportedFieldError):
            refuse_undeclared(provider, chat_request("small", HELLO, sampling_params=params))
        params = SamplingParams(
            strategy=SamplingStrategy.top_p, temperature=0.7, top_p=0.5, seed=2**40, max_tokens=9, stop=["X"]
        )
    refuse_undeclared(provider, chat_request("small", HELLO, sampling_params=params))
    body = await body_of(server, provider, sampling_params=params)
    assert (body["temperature"], body["max_tokens"], body["stop"]) == (0.7, 9, ["X"])
    assert body["seed"] == (2**40 % (2**32 - 1) if dialect == "llama_cpp" else 2**40)
    if params.strategy is SamplingStrategy.top_k:
        assert (body["top_k"], body["top_p"]) == (5, 1.0)
        assert body.get("repetition_penalty", body.get("repeat_penalty")) == 1.3
        assert body["min_p"] == 0.2
    else:
        assert body["top_p"] == 0.5


@pytest.mark.parametrize("field", ["frequency_penalty", "presence_penalty"])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_penalty_on_the_answer_is_sent_where_it_counts_the_answer_alone(
    server: ScriptedServer, make: MakeProvider, dialect: str, field: str
) -> None:
    provider, params = make(dialect), SamplingParams.model_validate({field: -0.5})
    if dialect not in ("openai", "vllm"):
        with pytest.raises(UnsupportedFieldError, match=f"sampling_params.{field} must be 0 or absent"):
            refuse_undeclared(provider, chat_request("small", HELLO, sampling_params=params))
        return
    refuse_undeclared(provider, chat_request("small", HELLO, sampling_params=params))
    assert (await body_of(server, provider, sampling_params=params))[field] == -0.5
    assert field not in await body_of(server, provider, sampling_params=SamplingParams())


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_bias_is_sent_in_the_servers_words_or_refused(
    server: ScriptedServer, make: MakeProvider, dialect: str
) -> None:
    provider, params = make(dialect), SamplingParams(logit_bias={50: -100, 7: 2.5})
    if dialect in ("tgi", "ollama"):
        with pytest.raises(UnsupportedFieldError, match=r"sampling_params\.logit_bias must be absent"):
            refuse_undeclared(provider, chat_request("small", HELLO, sampling_params=params))
        return
    refuse_undeclared(provider, chat_request("small", HELLO, sampling_params=params))
    expected: Any = [[50, -100.0], [7, 2.5]] if dialect == "llama_cpp" else {"50": -100.0, "7": 2.5}
    assert (await body_of(server, provider, sampling_params=params))["logit_bias"] == expected
    assert "logit_bias" not in await body_of(server, provider, sampling_params=SamplingParams())


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_greedy_is_greedy_whatever_else_is_given(
    server: ScriptedServer, make: MakeProvider, dialect: str
) -> None:
    with_leftovers = SamplingParams(temperature=0.9, top_p=0.1, top_k=3, min_p=0.5)
    body = await body_of(server, make(dialect), sampling_params=with_leftovers)
    assert body["temperature"] == 0
    assert body.get("top_p", 1) == 1
    assert body.get("top_k", 0) in (0, -1)
    assert body.get("min_p", 0) == 0


@pytest.mark.parametrize(
    "dialect, sent", [("vllm", {"max_tokens": None}), ("llama_cpp", {"max_tokens": -1}), ("openai", {})]
)
async def test_no_limit_is_the_servers_longest(
    server: ScriptedServer, make: MakeProvider, dialect: str, sent: dict[str, Any]
) -> None:
    body = await body_of(server, make(dialect), chat=False)
    assert {name: body[name] for name in body if "max" in name} == sent
    assert not any("max" in name for name in await body_of(server, make(dialect)))


async def test_openais_newest_models_want_another_name_for_the_limit(
    server: ScriptedServer, make: MakeProvider
) -> None:
    provider = make(max_tokens_field="max_completion_tokens")
    body = await body_of(server, provider, sampling_params=SamplingParams(max_tokens=10**12))
    assert (body["max_completion_tokens"], "max_tokens" in body) == (2**31 - 1, False)


@pytest.mark.parametrize(
    "dialect, chat, wanted, sent",
    [
        ("openai", True, JsonSchemaResponseFormat(json_schema=SCHEMA), "response_format"),
        ("vllm", False, RegexResponseFormat(regex="a+"), "structured_outputs"),
        ("vllm", True, GrammarResponseFormat(grammar='start: "a"'), "structured_outputs"),
        ("vllm", True, JsonSchemaResponseFormat(json_schema=SCHEMA), "structured_outputs"),
        ("tgi", True, RegexResponseFormat(regex="a+"), "response_format"),
        ("llama_cpp", False, JsonSchemaResponseFormat(json_schema=SCHEMA), "json_schema"),
        ("llama_cpp", True, JsonSchemaResponseFormat(json_schema=SCHEMA), "response_format"),
        ("openai", False, JsonSchemaResponseFormat(json_schema=SCHEMA), None),
    ],
)
async def test_a_format_is_sent_in_the_servers_words_or_refused(
    server: ScriptedServer, make: MakeProvider, dialect: str, chat: bool, wanted: Any, sent: str | None
) -> None:
    provider = make(dialect)
    make_request = chat_request if chat else completion_request
    prompt: Any = HELLO if chat else "x"
    refuse_undeclared(provider, make_request("small", prompt, response_format=wanted))
    if sent is None:
        with pytest.raises(UnsupportedFieldError, match="response_format"):
            await body_of(server, provider, chat=chat, response_format=wanted)
    else:
        assert sent in await body_of(server, provider, chat=chat, response_format=wanted)


async def test_more_logprobs_than_the_server_tells_are_refused_by_name(
    server: ScriptedServer, make: MakeProvider
) -> None:
    for dialect, most in (("openai", 4), ("vllm", 19), ("llama_cpp", 99)):
        with pytest.raises(UnsupportedFieldError, match="top_k"):
            await body_of(server, make(dialect), chat=False, logprobs=LogProbConfig(top_k=most + 1))
    with pytest.raises(UnsupportedFieldError, match="top_k"):
        await body_of(server, make("tgi"), chat=False, logprobs=LogProbConfig(top_k=5))
    assert make("openai", max_logprobs=40).capabilities.max_top_k == 39


async def test_a_conversation_is_sent_with_its_calls_and_pictures(server: ScriptedServer, make: MakeProvider) -> None:
    picture = ImageMedia(image=Image.new("RGB", (2, 2), "red"))
    call = ToolCall(call_id="call_1", tool_name="f", arguments={"x": [1, {"y": None}]})
    messages: list[Message] = [
        SystemMessage(content=["Be ", "brief."]),
        UserMessage(content=["What is ", picture, "this?"], context="A note."),
        CompletionMessage(content="", stop_reason=StopReason.end_of_message, tool_calls=[call]),
        ToolResponseMessage(call_id="call_1", tool_name="f", content="red"),
        UserMessage(content="Thanks", context="Another note."),
    ]
    sent = (await body_of(server, make(), messages=messages))["messages"]
    assert sent[0] == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in sent[1]["content"]] == ["text", "image_url", "text"]
    assert sent[1]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert sent[2]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x": [1, {"y": null}]}'}
    assert sent[3] == {"role": "tool", "content": "red", "tool_call_id": "call_1"}
    assert sent[4] == {"role": "user", "content": "Thanks\nAnother note."}


@pytest.mark.parametrize("uri", ["http://127.0.0.1/x.png", "file:///etc/passwd", "ftp://host/x.png"])
async def test_no_server_is_made_to_fetch_what_a_message_names(
    server: ScriptedServer, make: MakeProvider, uri: str
) -> None:
    messages: list[Message] = [UserMessage(content=[ImageMedia(image=URL(uri=uri))])]
    with pytest.raises(UnsupportedContentError, match="messages"):
        await make().chat_completion("small", messages)
    assert server.asked == []


async def test_what_the_environment_says_for_openais_servers_is_not_sent_to_others(
    server: ScriptedServer, make: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
    for name in names:
        monkeypatch.setenv(name, f"secret-{name}")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    await body_of(server, make(api_token=None))
    sent = str(server.asked[-1].headers)
    assert not any(f"secret-{name}" in sent for name in names)
    assert "authorization" not in server.asked[-1].headers


# ------------------------------------------------------------------------------------------------------------- config


@pytest.mark.parametrize(
    "key, value",
    [
        ("url", "host:8000"),
        ("url", "ftp://host/v1"),
        ("url", f"http://user:{TOKEN}@host/v1"),
        ("url", f"http://host/v1?token={TOKEN}"),
        ("url", "http://host:99999/v1"),
        ("url", "http://ho st/v1"),
        ("url", 7),
        ("api_token", f"{TOKEN}\r\nX-Other: 1"),
        ("api_token", ""),
        ("timeout_s", 0),
        ("timeout_s", "soon"),
        ("max_retries", -1),
        ("lacks", ["everything"]),
        ("models", ["small", "small"]),
        ("modles", []),
    ],
)
def test_a_wrong_key_is_named_and_its_value_is_not_told(make: MakeProvider, key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**{key: value})
    assert key in str(caught.value)
    assert "there" in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_what_a_server_lacks_is_refused_by_name(make: MakeProvider) -> None:
    provider = make("llama_cpp", lacks=["logprobs", "sampling", "tools", "response_formats", "images", "seed"])
    sampled = SamplingParams(strategy=SamplingStrategy.top_p, temperature=1.0)
    for asked in (
        {"logprobs": LogProbConfig()},
        {"sampling_params": sampled},
        {"sampling_params": SamplingParams(seed=1)},
        {"response_format": JsonSchemaResponseFormat(json_schema=SCHEMA)},
    ):
        with pytest.raises(UnsupportedFieldError, match="provider there"):
            refuse_undeclared(provider, chat_request("small", HELLO, **asked))


def test_without_the_package_the_error_says_what_to_install(
    make: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    for name in ("client", "failures"):
        monkeypatch.delitem(sys.modules, f"workbench.providers.openai.{name}")
    with pytest.raises(ConfigError, match=r"inference-workbench\[remote\]"):
        make()


def test_the_package_is_imported_for_a_provider_of_this_kind_alone() -> None:
    code = "import sys, workbench.providers.openai; print('openai' in sys.modules, 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "False"]


def test_every_dialect_is_found_by_its_type() -> None:
    for name, dialect in DIALECTS.items():
        kind = providers.provider_class(f"remote::{name}")
        assert kind.dialect is dialect  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="remote::vllm"):
        providers.create(Provider(provider_id="x", provider_type="remote::nobody", config={}))


def test_the_page_about_servers_names_every_key_and_its_configs_are_valid() -> None:
    page = (Path(__file__).parents[4] / "docs" / "remote-servers.md").read_text(encoding="utf-8")
    whole, narrowed_down = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    entries = [yaml.safe_load(whole)["providers"]["inference"][0], yaml.safe_load(narrowed_down)]
    for entry in entries:
        kind: Any = providers.provider_class(entry["provider_type"])
        kind.Config.model_validate(entry["config"])
    rows = {
        name for row in re.findall(r"^\| (`[a-z_`, ]+`) \|", page, re.MULTILINE) for name in re.findall(r"\w+", row)
    }
    assert rows - {"provider_type"} == set(OpenAIConfig.model_fields)
    assert set(re.findall(r"`(remote::\w+)`", page)) >= {f"remote::{name}" for name in DIALECTS}
    assert all(f"`{ability}`" in page for ability in get_args(Ability))
