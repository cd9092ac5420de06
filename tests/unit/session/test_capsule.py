"""A capsule holds all that its run depended on, comes back from JSON as it was, and refuses by name what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.models import FakeDecoder, Gate, endless_speech
from tests.fakes.serving import FakeModels
from tests.tiny_models import save_model
from workbench import Capsule, Workbench, catalog
from workbench.errors import InvalidRequestError
from workbench.machine import thread_count
from workbench.protocol import (
    ChatCompletionRequest,
    CompletionRequest,
    LogProbConfig,
    RegexResponseFormat,
    SamplingParams,
    SamplingStrategy,
    SystemMessage,
    ToolChoice,
    ToolDefinition,
    ToolParamDefinition,
    UserMessage,
)
from workbench.session.capsule import FORMAT, MIME_TYPE

# Typed as Any, for nbformat has no types.
make: Any = nbformat.v4
write: Any = nbformat.write

ECHO = {
    "image_name": "echo",
    "providers": {"inference": [{"provider_id": "echo", "provider_type": "inline::echo", "config": {}}]},
}
PARAMS = SamplingParams(strategy=SamplingStrategy.top_p, temperature=0.7, seed=3, max_tokens=5)
TOOL = ToolDefinition(
    tool_name="look", description="Look up.", parameters={"what": ToolParamDefinition(param_type="str", required=True)}
)


@pytest.fixture(scope="module")
def echo() -> Iterator[Workbench]:
    with Workbench(ECHO) as bench:
        yield bench


@pytest.fixture(scope="module")
def capsule(echo: Workbench) -> Capsule:
    run = echo.chat_completion(
        [SystemMessage(content="Be brief."), UserMessage(content="Say one two three four.")],
        sampling_params=PARAMS,
        tools=[TOOL],
        logprobs=LogProbConfig(top_k=2),
    )
    run.result(30)
    return run.capsule


def as_json(capsule: Capsule) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(capsule.to_json())
    return data


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every leaf of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [place for key, item in items for place in places(item, (*path, key))]
    yield from found or [path]


def changed(value: object) -> object:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case str():
            return "b" + value[1:] if value.startswith("a") else "a" + value[1:]
        case int() | float():
            return value + 1 if value >= 0 else value / 2
        case None:
            return 0
        case dict():
            return {"more": "x"}
        case _:
            return [0]


def test_a_capsule_covers_messages_tools_sampling_and_logprobs_of_a_chat(capsule: Capsule) -> None:
    request = capsule.request
    assert isinstance(request, ChatCompletionRequest)
    assert [message.role for message in request.messages] == ["system", "user"]
    assert request.tools == [TOOL]
    assert request.tool_choice == ToolChoice.auto
    assert capsule.sampling_params == PARAMS
    assert request.logprobs == LogProbConfig(top_k=2)


def test_a_capsule_names_the_model_the_machine_and_every_token(echo: Workbench) -> None:
    run = echo.completion("one two three", sampling_params=SamplingParams(max_tokens=2))
    run.result(30)
    capsule = run.capsule
    assert capsule.model.provider_type == "inline::echo"
    assert capsule.machine.threads == thread_count()
    assert {"python", "torch", "transformers", "inference-workbench"} <= set(capsule.machine.versions)
    assert capsule.token_ids == [token.token_id for token in run.tokens]
    assert [token.logprob for token in capsule.tokens] == [token.logprob for token in run.tokens]
    assert capsule.prompt_ids == [token.token_id for token in echo.render("one two three").tokens]
    assert (capsule.ended, capsule.stop_reason) == ("finished", run.stop_reason)
    assert run.capsule is capsule


def test_a_capsule_of_a_local_model_has_the_digest_of_every_file_and_of_the_template(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "tiny", "llama")
    (folder / "README.md").write_text("no part of the model")
    provider = {"provider_id": "local", "provider_type": "inline::transformers", "config": {"models": [str(folder)]}}
    params = SamplingParams(max_tokens=3)
    with Workbench({"image_name": "tiny", "providers": {"inference": [provider]}}) as bench:
        chat = bench.chat_completion(
            [UserMessage(content="hello")], sampling_params=params, response_format=RegexResponseFormat(regex="[ab]+")
        )
        text = bench.completion("hello", sampling_params=params)
        chat.result(60), text.result(60)
        capsules = chat.capsule, text.capsule
        card = bench.card()
    model = capsules[0].model
    assert model.files == catalog.file_digests(folder)
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(model.files)
    assert "README.md" not in model.files
    assert (model.source, model.precision, model.template_sha256) == ("tiny", "float32", card.template_sha256)
    assert capsules[1].model.template_sha256 is None
    assert capsules[0].request.response_format == RegexResponseFormat(regex="[ab]+")
    assert str(tmp_path) not in capsules[0].to_json()


def test_a_file_that_changes_has_another_digest(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    before = catalog.file_digests(tmp_path)
    (tmp_path / "config.json").write_text("{ }")
    after = catalog.file_digests(tmp_path)
    assert before["config.json"] != after["config.json"]


def test_the_digests_of_an_installed_model_are_those_of_its_record(smollm2_path: Path) -> None:
    record = json.loads((smollm2_path / "record.json").read_text())
    assert catalog.file_digests(smollm2_path) == {name: fact["sha256"] for name, fact in record["files"].items()}


def test_what_a_caller_assigns_later_is_not_in_the_capsule(echo: Workbench) -> None:
    messages: list[Any] = [UserMessage(content="before")]
    run = echo.chat_completion(messages)
    messages[0].content = "after"
    messages.append(UserMessage(content="more"))
    run.result(30)
    request = run.capsule.request
    assert isinstance(request, ChatCompletionRequest)
    assert [message.content for message in request.messages] == ["before"]


def test_a_run_that_goes_on_has_no_capsule_yet_and_a_cancelled_one_has(fake_models: FakeModels) -> None:
    gate = Gate()
    fake_models.add("endless", FakeDecoder(endless_speech)).before_decode = lambda _: gate()
    with Workbench(fake_models.config) as bench:
        run = bench.completion("\0")
        gate.wait()
        with pytest.raises(InvalidRequestError, match="capsule must be used after the run has ended"):
            _ = run.capsule
        run.cancel()
        gate.open()
        run.wait(30)
        assert run.capsule.ended == "cancelled"
        assert "cancelled" in repr(run.capsule)


def test_a_capsule_comes_back_from_json_as_it_was(capsule: Capsule) -> None:
    assert Capsule.from_json(capsule.to_json()) == capsule
    assert Capsule.from_json(capsule.to_json().encode()) == capsule
    assert Capsule.from_json(as_json(capsule)) == capsule
    shuffled = dict(reversed(as_json(capsule).items()))
    assert Capsule.from_json(json.dumps(shuffled, indent=8)) == capsule


def test_a_capsule_comes_back_from_a_file_which_is_not_written_over_by_a_slip(capsule: Capsule, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    capsule.save(path)
    assert Capsule.load(path) == Capsule.load(str(path)) == capsule
    with pytest.raises(InvalidRequestError, match="overwrite=True"):
        capsule.save(path)
    capsule.save(path, overwrite=True)
    with pytest.raises(InvalidRequestError, match="path must be a writable file"):
        capsule.save(tmp_path / "nowhere" / "run.json")
    with pytest.raises(InvalidRequestError, match="path must be a readable file"):
        Capsule.load(tmp_path / "none.json")


def test_a_capsule_comes_back_from_the_output_of_a_stored_notebook(capsule: Capsule, tmp_path: Path) -> None:
    output = make.new_output("execute_result", data=capsule._repr_mimebundle_(), execution_count=1)
    cells = [make.new_markdown_cell("A run."), make.new_code_cell("run.capsule", outputs=[output])]
    notebook = make.new_notebook(cells=cells)
    nbformat.validate(notebook)
    path = tmp_path / "kept.ipynb"
    write(notebook, path)
    assert Capsule.in_notebook(path) == [capsule]

    notebook.cells[1].outputs[0].data[MIME_TYPE]["tokens"][0]["token_id"] += 1
    write(notebook, path)
    with pytest.raises(InvalidRequestError, match=r"cells\[1\]\.outputs\[0\]\.tokens"):
        Capsule.in_notebook(path)
    (tmp_path / "none.ipynb").write_text("{}")
    with pytest.raises(InvalidRequestError, match="a Jupyter notebook"):
        Capsule.in_notebook(tmp_path / "none.ipynb")


def test_what_a_notebook_shows_is_the_same_on_every_machine(capsule: Capsule) -> None:
    text = capsule._repr_mimebundle_()["text/plain"]
    assert text == repr(capsule)
    assert "seed 3" in text
    assert capsule.machine.processor not in text


@given(st.data())
def test_whatever_is_changed_is_refused_by_the_name_of_its_field(capsule: Capsule, data: st.DataObject) -> None:
    written = as_json(capsule)
    place = data.draw(st.sampled_from([path for path in places(written) if path[0] != "seals"]))
    holder: Any = written
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = changed(holder[place[-1]])
    with pytest.raises(InvalidRequestError) as refused:
        Capsule.from_json(written)
    assert refused.value.field.startswith(place[0])


@pytest.mark.parametrize(
    "place, value, message",
    [
        (("format",), "trace", f"format must be '{FORMAT}'"),
        (("version",), 2, "version must be 1, the version that this workbench reads; got 2"),
        (("tokens", 1, "token_id"), "7", r"tokens\[1\]\.token_id"),
        (("tokens", 1, "token_id"), -2, r"tokens\[1\]\.token_id"),
        (("tokens", 0, "logprob"), float("nan"), r"tokens\[0\]\.logprob"),
        (("prompt_ids",), [1, None], r"prompt_ids\[1\]"),
        (("request", "messages", 0, "role"), "robot", r"request\.messages\[0\]\.role"),
        (("request", "sampling_params", "top_p"), 2.0, r"request\.sampling_params\.top_p"),
        (("machine", "threads"), "two", r"machine\.threads"),
        (("model", "files"), [], r"model\.files"),
        (("more",), 1, "more must be left out"),
        (("ended",), "running", "ended"),
        (("seals",), None, "seals must be the digests"),
    ],
)
def test_what_is_malformed_is_refused_by_its_path(
    capsule: Capsule, place: tuple[Any, ...], value: object, message: str
) -> None:
    written = as_json(capsule)
    holder: Any = written
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    with pytest.raises(InvalidRequestError, match=message):
        Capsule.from_json(written)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1" * 5000, "[" * 100_000, b"\xff"])
def test_what_is_no_json_object_is_no_capsule(text: str | bytes) -> None:
    with pytest.raises(InvalidRequestError, match="capsule must be a JSON object"):
        Capsule.from_json(text)


@pytest.mark.parametrize("name", sorted(name for name, one in Capsule.model_fields.items() if one.is_required()))
def test_a_field_that_is_missing_is_named(capsule: Capsule, name: str) -> None:
    written = as_json(capsule)
    del written[name]
    with pytest.raises(InvalidRequestError, match=rf"^{name}"):
        Capsule.from_json(written)


def test_a_changed_capsule_is_taken_where_that_is_meant(capsule: Capsule) -> None:
    written = as_json(capsule)
    written["request"]["sampling_params"]["seed"] = 99
    with pytest.raises(InvalidRequestError, match=r"request must be unchanged.*allow_changed=True"):
        Capsule.from_json(written)
    assert Capsule.from_json(written, allow_changed=True).sampling_params.seed == 99


def test_a_text_to_continue_is_kept_as_one(echo: Workbench) -> None:
    run = echo.completion(["one ", "two"], sampling_params=SamplingParams(max_tokens=1))
    run.result(30)
    assert isinstance(run.capsule.request, CompletionRequest)
    assert Capsule.from_json(run.capsule.to_json()).request == run.capsule.request
