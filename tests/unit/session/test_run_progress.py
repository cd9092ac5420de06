"""How far a run is before its first token: the model is loaded, the engine compiled, the prompt read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fakes.listening import generate
from tests.fakes.models import FakeDecoder, fake_model
from tests.fakes.serving import FakeModels
from tests.unit.widgets.fake_session import FakeRun, wait_until
from workbench import Workbench
from workbench.engine.requests import GenerationRequest, PromptProgress
from workbench.engine.scheduler import Engine
from workbench.protocol import SamplingParams
from workbench.records import RunProgress
from workbench.session.run import Run
from workbench.widgets.wire.run import RunStream

FEW = SamplingParams(max_tokens=2)


@pytest.fixture
def engine() -> Iterator[Engine]:
    opened = Engine(fake_model(decoder=FakeDecoder()))
    yield opened
    opened.close()


def test_a_prompt_is_reported_when_its_turn_comes_and_a_long_one_part_by_part(engine: Engine) -> None:
    def progress(length: int, *, prompt_logprobs: bool = False) -> list[PromptProgress]:
        prompt = (length % 256, *(index % 256 for index in range(1, length)))  # no two begin alike
        request = GenerationRequest(prompt_ids=prompt, max_tokens=1, prompt_logprobs=prompt_logprobs)
        heard = generate(engine, request)
        return [event for event in heard.events if isinstance(event, PromptProgress)]

    assert progress(500) == [PromptProgress(0, 500)]
    assert progress(1200) == [PromptProgress(0, 1200), PromptProgress(512, 1200), PromptProgress(1024, 1200)]
    assert [one.read_tokens for one in progress(200, prompt_logprobs=True)] == [0, 64, 128, 192]


@pytest.mark.parametrize(
    "ask", [lambda bench, text: bench.completion(text, sampling_params=FEW), lambda bench, text: bench.reading(text)]
)
def test_loading_comes_before_reading_and_nothing_after_the_first_token(
    fake_models: FakeModels, ask: Callable[[Workbench, str], Run[Any, Any]]
) -> None:
    fake_models.add("big")
    fake_models.may_load.clear()
    seen: list[RunProgress | None] = []
    with Workbench(fake_models.config) as bench:
        run = ask(bench, "x" * 1200)
        run.subscribe(lambda run: seen.append(run.progress))
        wait_until(lambda: run.progress is not None)
        loading = run.progress
        assert loading == RunProgress("loading", None, None)  # of a model without a folder no size is known
        assert run.state == "running"
        fake_models.may_load.set()
        run.wait(60)
        assert run.progress is None
        reading = list(dict.fromkeys(one for one in seen if one and one.stage == "reading"))
        assert reading[0] == RunProgress("reading", 0, 1200)
        assert len(reading) > 1
        assert {one.total for one in reading} == {1200}
        again = ask(bench, "x")
        again.wait(60)
        assert again.progress is None


def test_compiling_follows_loading_where_something_is_compiled(fake_models: FakeModels) -> None:
    fake_models.add("big")
    fake_models.may_load.clear()
    fake_models.compilations = 2
    with Workbench(fake_models.config) as bench:
        run = bench.completion("x", sampling_params=FEW)
        wait_until(lambda: run.progress == RunProgress("compiling"))
        fake_models.may_load.set()
        run.wait(60)
        assert run.progress is None


@pytest.mark.parametrize(
    "progress, compilations, shown",
    [("1", 2, "Compiling the engine for this processor (a minute or two, once) ...\n"), ("0", 2, ""), ("1", 0, "")],
)
def test_a_load_that_compiles_writes_one_line(
    fake_models: FakeModels,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    progress: str,
    compilations: int,
    shown: str,
) -> None:
    monkeypatch.setenv("WORKBENCH_PROGRESS", progress)
    fake_models.add("big")
    fake_models.compilations = compilations
    with Workbench(fake_models.config) as bench:
        bench.load("big")
    assert capsys.readouterr() == ("", shown)


def test_a_failed_run_reports_no_progress(fake_models: FakeModels) -> None:
    fake_models.add("short", context_length=5)
    with Workbench(fake_models.config) as bench:
        run = bench.completion("x" * 9, sampling_params=FEW)
        run.wait(60)
        assert (run.state, run.progress) == ("failed", None)


def test_the_page_is_told_the_progress_and_for_how_long_it_goes_on() -> None:
    run = FakeRun()
    stream = RunStream(run)
    assert stream.snapshot()["progress"] is None
    assert "progress" not in stream.delta()
    run.progress = RunProgress("loading", total=600_000_000)
    assert stream.delta()["progress"] == ["loading", None, 600_000_000, 0.0]
    run.progress = RunProgress("reading", 64, 200)
    assert stream.snapshot()["progress"][:3] == ["reading", 64, 200]
