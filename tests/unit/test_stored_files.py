"""What an earlier version wrote is read: traces play, registrations are back, capsules open."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import workbench as wb

STORED = Path(__file__).parents[1] / "stored"
ECHO = {"provider_id": "echo", "provider_type": "inline::echo"}
ECHO["config"] = {"models": ["echo", "echo-embedding"]}  # type: ignore[assignment]
TOOL = wb.ToolDefinition(
    tool_name="get_weather",
    description="Tell the weather.",
    parameters={"city": wb.ToolParamDefinition(param_type="string", description="Where.", required=True)},
)
HELLO: list[wb.Message] = [wb.SystemMessage(content="Be brief."), wb.UserMessage(content="Say hello to the world.")]
SIX = wb.SamplingParams(max_tokens=6)
COLORS = wb.SamplingParams(
    strategy=wb.SamplingStrategy.top_p,
    temperature=0.8,
    top_p=0.9,
    seed=7,
    max_tokens=8,
    repetition_penalty=1.1,
    stop=["\n\n"],
)

Call = Callable[[wb.Workbench], Any]
CALLS: dict[str, Call] = {
    "completion": lambda bench: bench.completion(
        "one two three four", sampling_params=SIX, logprobs=wb.LogProbConfig(top_k=2, prompt=True)
    ),
    "chat": lambda bench: bench.chat_completion(HELLO, sampling_params=SIX, logprobs=wb.LogProbConfig(top_k=1)),
    "tools": lambda bench: bench.chat_completion(HELLO, tools=[TOOL], sampling_params=wb.SamplingParams(max_tokens=40)),
    "required": lambda bench: bench.chat_completion(HELLO, tools=[TOOL], tool_choice=wb.ToolChoice.required),
    "batch": lambda bench: bench.batch_completion(["a b c", "d e"], sampling_params=SIX),
    "chats": lambda bench: bench.batch_chat_completion([HELLO, HELLO[1:]], sampling_params=SIX),
    "text": lambda bench: bench.render("a b"),
    "prompt": lambda bench: bench.render(HELLO, tools=[TOOL]),
    "score": lambda bench: bench.score("a", [" b", " c"]),
    "embeddings": lambda bench: bench.embeddings(["a", "b"], model="echo-embedding").embeddings,
}


def player(name: str) -> wb.Workbench:
    config = {
        "provider_id": "trace",
        "provider_type": "inline::trace",
        "config": {"path": str(STORED / name), "timing": "skipped"},
    }
    return wb.Workbench({"providers": {"inference": [config]}})


@pytest.fixture(scope="module")
def played() -> Iterator[wb.Workbench]:
    with player("echo.trace.jsonl") as bench:
        yield bench


@pytest.fixture(scope="module")
def live() -> Iterator[wb.Workbench]:
    with wb.Workbench({"providers": {"inference": [ECHO]}}) as bench:
        yield bench


def outcome(call: Call, bench: wb.Workbench) -> Any:
    """The answer with all that was recorded of it but times, or the error's type and text."""
    try:
        answer = call(bench)
    except wb.WorkbenchError as error:
        return type(error), error.__dict__.get("field")
    return (answer.result(), timeless(answer)) if isinstance(answer, wb.Run) else answer


def timeless(run: wb.Run[Any, Any]) -> Any:
    tokens = tuple(replace(token, elapsed_s=0) for token in run.tokens)
    counts = run.usage.prompt_tokens, run.usage.generated_tokens
    return tokens, run.end, run.prompt_tokens, run.seed, run.notes, run.call_opening, counts


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_an_older_trace_plays_what_its_provider_still_answers(
    call: Call, played: wb.Workbench, live: wb.Workbench
) -> None:
    assert outcome(call, played) == outcome(call, live)


def test_an_older_trace_of_a_model_plays_with_every_probability() -> None:
    with player("smollm2.trace.jsonl") as bench:
        chat = bench.chat_completion(
            [wb.UserMessage(content="Name a color.")], sampling_params=COLORS, logprobs=wb.LogProbConfig(top_k=2)
        )
        assert chat.result().completion_message.content == "The most beautiful and unique colors in the"
        assert [token.token_id for token in chat.tokens] == wb.Capsule.load(STORED / "chat.capsule.json").token_ids
        assert all(len(token.alternatives) == 2 and token.logprob < 0 for token in chat.tokens)
        branch = chat.branch(3, sampling_params=COLORS)
        assert branch.result().completion_message.content == chat.text
        text = bench.completion(
            "The capital of France is",
            sampling_params=wb.SamplingParams(max_tokens=4),
            logprobs=wb.LogProbConfig(top_k=2, prompt=True),
        )
        assert str(text.result().completion_message.content).startswith(" Paris")
        assert len(text.prompt_tokens) == 4


def test_an_older_file_of_registrations_is_read(own_state: Path) -> None:
    own_state.mkdir(parents=True)
    shutil.copy(STORED / "registrations.sqlite3", own_state)
    with wb.Workbench({"providers": {"inference": [ECHO]}}) as bench:
        assert [model.identifier for model in bench.list_models()] == ["echo", "echo-embedding", "parrot"]
        bench.unregister_model("parrot")
    with wb.Workbench({"providers": {"inference": [ECHO]}}) as bench:
        assert [model.identifier for model in bench.list_models()] == ["echo", "echo-embedding"]


@pytest.mark.parametrize("name", ["chat", "branch"])
def test_an_older_capsule_opens_and_is_written_as_it_was(name: str) -> None:
    path = STORED / f"{name}.capsule.json"
    assert wb.Capsule.load(path).to_json() + "\n" == path.read_text(encoding="utf-8")


def test_a_capsule_is_found_in_an_older_notebook(tmp_path: Path) -> None:
    data = json.loads((STORED / "chat.capsule.json").read_text(encoding="utf-8"))
    output = {"output_type": "display_data", "data": {"application/vnd.workbench.capsule+json": data}}
    notebook = tmp_path / "older.ipynb"
    notebook.write_text(json.dumps({"cells": [{"cell_type": "code", "outputs": [output]}]}), encoding="utf-8")
    assert wb.Capsule.in_notebook(notebook) == [wb.Capsule.load(STORED / "chat.capsule.json")]
