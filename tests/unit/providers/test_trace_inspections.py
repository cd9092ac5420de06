"""Looking back at a recorded run: where somebody looked while it was recorded, all can be asked, elsewhere nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.serving import FakeModels
from workbench import Workbench
from workbench.errors import ConfigError, InvalidRequestError, ModelFormatError, UnsupportedFieldError
from workbench.protocol import Provider, RegexResponseFormat, SamplingParams, SamplingStrategy, UserMessage
from workbench.providers.trace import folder
from workbench.providers.trace.folder import PLAY_VARIABLE, RECORD_VARIABLE

SAMPLED = SamplingParams(
    strategy=SamplingStrategy.top_p,
    temperature=1.3,
    top_p=0.9,
    max_tokens=9,
    seed=5,
    repetition_penalty=1.3,
    frequency_penalty=0.5,
    logit_bias={7: 1.5},
)
OTHERS = [
    SamplingParams(),
    SamplingParams(strategy=SamplingStrategy.top_k, top_k=4, temperature=0.7, repetition_penalty=2.0),
    SamplingParams(strategy=SamplingStrategy.top_p, top_p=0.5, temperature=2.0),
    SamplingParams(presence_penalty=1.0, logit_bias={5: 9.0}),
]


def playing(path: Path) -> Workbench:
    entry = {
        "provider_id": "tape",
        "provider_type": "inline::trace",
        "config": {"path": str(path), "timing": "skipped"},
    }
    return Workbench({"providers": {"inference": [entry]}})


def finished(bench: Workbench, **asked: Any) -> Any:
    run = bench.completion("once upon a time", sampling_params=asked.pop("sampling_params", SAMPLED), **asked)
    run.result(100)
    return run


def told(run: Any, position: int) -> list[Any]:
    """All that can be asked of a position."""
    traces = [run.sampling_trace(position), run.sampling_trace(position, SAMPLED, 0.25)]
    traces += [run.sampling_trace(position, params) for params in OTHERS]
    seen: list[Any] = [run.distribution(position).to_dict(), run.sampling_frame(position).to_dict()]
    for trace in traces:
        seen += [trace.number, trace.token_id, trace.text(trace.token_id)]
        seen += [(stage.name, stage.kept, stage.removed_mass, stage.probabilities.tolist()) for stage in trace.stages]
    return seen


@pytest.mark.parametrize(
    "asked", [{}, {"response_format": RegexResponseFormat(regex="[a-z ]{20,40}")}], ids=["free", "grammar"]
)
def test_where_somebody_looked_everything_can_be_asked_with_no_model(
    asked: dict[str, Any], fake_models: FakeModels, tmp_path: Path
) -> None:
    fake_models.add("random")
    with Workbench(fake_models.config) as bench, bench.record(tmp_path / "t"):
        original = finished(bench, **asked)
        original.distribution(2)
        original.sampling_trace(4)
        expected = [told(original, 2), told(original, 4)]
    with playing(tmp_path / "t") as bench:
        run = finished(bench, **asked)
        assert [told(run, 2), told(run, 4)] == expected
        with pytest.raises(InvalidRequestError, match="inspected while this run was recorded: 2, 4"):
            run.distribution(3)
        again = finished(bench, **asked)  # the last recording of a request stays
        assert told(again, 4) == expected[1]


def test_a_look_is_written_once_and_a_vocabulary_too(fake_models: FakeModels, tmp_path: Path) -> None:
    fake_models.add("random")
    with Workbench(fake_models.config) as bench, bench.record(tmp_path / "t"):
        for run in (finished(bench), finished(bench)):
            for position in (1, 1, 2):
                run.distribution(position)
    lines = [json.loads(line) for line in (tmp_path / "t").read_text().splitlines()]
    assert [(line["look"]["call"], line["look"]["position"]) for line in lines if "look" in line] == [
        (0, 1),
        (0, 2),
        (1, 1),
        (1, 2),
    ]
    assert sum("vocabulary" in line for line in lines) == 1


def test_a_trace_of_version_1_is_still_played(fake_models: FakeModels, tmp_path: Path) -> None:
    fake_models.add("random")
    path = tmp_path / "t"
    with Workbench(fake_models.config) as bench, bench.record(path):
        text = finished(bench).text
    header, *lines = map(json.loads, path.read_text().splitlines())
    for line in lines:
        line.get("call", {}).pop("number", None)
    path.write_text("\n".join(json.dumps(line) for line in [header | {"version": 1}, *lines]) + "\n")
    with playing(path) as bench:
        run = finished(bench)
        assert run.text == text
        with pytest.raises(UnsupportedFieldError, match="whose model is in this process"):
            run.distribution(0)


def test_an_older_look_lacks_what_the_newer_penalties_count(fake_models: FakeModels, tmp_path: Path) -> None:
    fake_models.add("random")
    path, plain = tmp_path / "t", SAMPLED.model_copy(update={"frequency_penalty": 0.0})
    with Workbench(fake_models.config) as bench, bench.record(path):
        chosen = finished(bench, sampling_params=plain).sampling_trace(3).token_id
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if "look" in line:
            del line["look"]["answer_ids"]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    with playing(path) as bench:
        run = finished(bench, sampling_params=plain)
        assert run.sampling_trace(3).token_id == chosen
        with pytest.raises(InvalidRequestError, match=r"sampling_params\.presence_penalty must be 0: this recording"):
            run.sampling_trace(3, SamplingParams(presence_penalty=0.5))


# ------------------------------------------------------------------------------------------------- by the environment


@pytest.fixture
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is recorded into, and from the second `play` on played from."""
    monkeypatch.setenv(RECORD_VARIABLE, str(tmp_path / "traces"))
    yield tmp_path / "traces"
    folder.close_all()


def play(traces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process that plays."""
    folder.close_all()
    monkeypatch.delenv(RECORD_VARIABLE)
    monkeypatch.setenv(PLAY_VARIABLE, str(traces))


def notebook(config: Any) -> list[Any]:
    """What a notebook may do: several providers, a second workbench, looking back, drawing without a seed."""
    seen: list[Any] = []
    drawn = SAMPLED.model_copy(update={"seed": None})
    with Workbench(config) as bench:
        seen += [bench.list_models(), repr(bench)]
        for model in (None, "fake/random", "other/random"):
            run = finished(bench, model=model)
            seen += [run.text, run.tokens, run.model, run.distribution(3).to_dict()]
        seen += [finished(bench, sampling_params=drawn).seed for _ in range(3)]
        chat = bench.chat_completion([UserMessage(content="hello")], sampling_params=SamplingParams(max_tokens=5))
        seen += [chat.result(100), bench.score("a", ["b", "c"]), bench.render("a b")]
        card = bench.card("other/random")
        seen += [card.provider_type, card.loaded, card.context_length]
    with Workbench(config) as bench:
        seen.append(finished(bench, sampling_params=drawn).seed)
    return seen


def test_what_a_notebook_did_with_models_it_does_without(
    fake_models: FakeModels, traces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_models.add("random")
    entry = fake_models.config["providers"]["inference"][0]
    config = {"providers": {"inference": [entry | {"provider_id": "fake"}, entry | {"provider_id": "other"}]}}
    recorded = notebook(config)
    assert len(list(traces.glob("*.jsonl"))) == 2
    play(traces, monkeypatch)
    fake_models.loads.clear()
    assert repr(notebook(config)) == repr(recorded)
    assert fake_models.loads == []


def test_while_traces_are_played_no_model_is_loaded(
    fake_models: FakeModels, traces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_models.add("random")
    Workbench(fake_models.config).close()
    play(traces, monkeypatch)
    entry = fake_models.config["providers"]["inference"][0]
    with pytest.raises(ConfigError, match=r"'new' was not recorded with this config.*no model is loaded"):
        Workbench({"providers": {"inference": [entry | {"provider_id": "new"}]}})
    with Workbench(
        {"providers": {"inference": [{"provider_id": "e", "provider_type": "inline::echo", "config": {}}]}}
    ) as bench:
        assert bench.completion("still here").result().completion_message.content


def test_to_play_needs_no_torch(fake_models: FakeModels, traces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_models.add("random")
    with Workbench(fake_models.config) as bench:
        run = bench.completion("a b", sampling_params=SamplingParams(max_tokens=3))
        run.result()
    play(traces, monkeypatch)
    program = f"""
import sys
from workbench import SamplingParams, Workbench
with Workbench({fake_models.config!r}) as bench:
    run = bench.completion("a b", sampling_params=SamplingParams(max_tokens=3))
    run.result()
print(repr(run.text))
assert not {{"torch", "transformers"}} & sys.modules.keys()
"""
    played = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert played == f"{run.text!r}\n"


def test_a_recording_for_one_device_is_played_for_another_and_found_by_its_earlier_name(
    fake_models: FakeModels, traces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_models.add("random")
    config = fake_models.config
    (entry,) = config["providers"]["inference"]
    entry["config"]["device"] = "cpu"
    with Workbench(config) as bench:
        text = finished(bench).text
    play(traces, monkeypatch)
    with Workbench(fake_models.config) as bench:
        assert finished(bench).text == text
    (file,) = traces.iterdir()
    file.rename(traces / folder.file_name(Provider.model_validate(entry), with_device=True))
    folder.close_all()
    with Workbench(config) as bench:
        assert finished(bench).text == text


def test_models_that_were_registered_can_be_registered_again_from_wherever_they_lie(
    tiny_folders: dict[str, Path], traces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"provider_id": "local", "provider_type": "inline::transformers", "config": {"models": []}}
    config = {"providers": {"inference": [entry]}}

    def register(source: str) -> list[Any]:
        with Workbench(config) as bench:
            bench.register_model("mine", source)
            text = finished(bench, model="mine").text
            served = [model.identifier for model in bench.list_models()]
            bench.unregister_model("mine")
            with pytest.raises(ModelFormatError) as refused:
                bench.register_model("broken", str(tiny_folders["bert"].parent))
            return [text, served, bench.list_models(), type(refused.value)]

    recorded = register(str(tiny_folders["llama"]))
    play(traces, monkeypatch)
    assert register("elsewhere/mine") == recorded
    with Workbench(config) as bench, pytest.raises(UnsupportedFieldError, match="register"):
        bench.register_model("never-recorded")


def test_the_name_of_a_trace_forgets_where_a_folder_lies() -> None:
    def name(path: str) -> str:
        config = {"models": [path], "quantization": None}
        return folder.file_name(Provider(provider_id="local", provider_type="inline::transformers", config=config))

    assert name("/tmp/a/tiny") == name("/home/b/tiny") != name("/tmp/a/other")
    assert len({name("x"), name("y"), name("local/x")}) == 3


@given(st.text(min_size=1, max_size=20))
def test_a_trace_has_a_name_that_every_system_takes(provider_id: str) -> None:
    name = folder.file_name(Provider(provider_id=provider_id, provider_type="inline::transformers", config={}))
    assert not set(name) & set('<>:"/\\|?*') | {char for char in name if ord(char) < 32}
    assert name.endswith(".jsonl")
    assert name.partition(".")[0].upper() not in {"CON", "PRN", "AUX", "NUL"}
