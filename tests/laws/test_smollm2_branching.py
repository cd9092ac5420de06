"""The embedded chat model: what goes on from a run's tokens, or after a pause, is what the run itself gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from tests.fakes.listening import generate
from workbench import Breakpoint, SamplingParams, SamplingStrategy, Workbench
from workbench.engine.requests import GenerationRequest
from workbench.engine.sampling import Sampling
from workbench.engine.scheduler import Engine

PATIENCE_S = 300.0
PROMPT = "Once upon a time, in a small village by the sea, there lived an old woman who told everyone that she was a"
SAMPLED = SamplingParams(strategy=SamplingStrategy.top_p, temperature=0.9, max_tokens=16)
KEPT, FORGOTTEN = "kept", "forgotten"
TOOL = wb.ToolDefinition(
    tool_name="get_weather",
    description="Tell the weather.",
    parameters={"location": wb.ToolParamDefinition(param_type="str", description="The city.", required=True)},
)


@pytest.fixture(scope="module")
def bench(smollm2_path: Path) -> Iterator[Workbench]:
    """The model in int4 twice: once it keeps the keys and values of past runs, and once it reads all anew."""
    served = [
        {
            "provider_id": name,
            "provider_type": "inline::transformers",
            "config": {
                "models": ["smollm2-135m-instruct"],
                "quantization": {"type": "int4"},
                "prefix_cache_mb": 64 if name == KEPT else 0,
            },
        }
        for name in (KEPT, FORGOTTEN)
    ]
    with Workbench({"image_name": "branching", "providers": {"inference": served}}) as bench:
        yield bench


def ended(run: Any) -> Any:
    run.result(PATIENCE_S)
    return run


def resumed(run: Any) -> Any:
    """To its end, past all breakpoints."""
    while run.wait_for_pause(PATIENCE_S):
        run.resume()
    return ended(run)


def ids(run: Any) -> list[int]:
    return [token.token_id for token in run.tokens]


@pytest.mark.parametrize("name", [KEPT, FORGOTTEN])
def test_a_branch_that_changes_nothing_gives_the_same_tokens(bench: Workbench, name: str) -> None:
    run = ended(bench.completion(PROMPT, model=f"{name}/smollm2-135m-instruct", sampling_params=SAMPLED))
    for position in (0, 1, 7, 16):
        branch = ended(run.branch(position))
        assert ids(branch) == ids(run)
        assert (branch.text, branch.tokens[:position]) == (run.text, run.tokens[:position])
        if name == KEPT:
            assert branch.usage.reused_tokens == run.usage.prompt_tokens + position - 1


def test_another_token_gives_the_same_warm_as_a_run_that_is_led_through_the_same_ids_cold(bench: Workbench) -> None:
    models = [f"{name}/smollm2-135m-instruct" for name in (KEPT, FORGOTTEN)]
    run = ended(bench.completion(PROMPT, model=models[0], sampling_params=SAMPLED, logprobs=wb.LogProbConfig(top_k=3)))
    branch = ended(run.branch(6, run.tokens[6].alternatives[1].token_id))
    replay = wb.replay(branch.capsule, bench, model=models[1], timeout=PATIENCE_S)
    assert replay.same, replay
    assert replay.drift is not None
    assert replay.drift < 1e-3


def test_a_required_call_branches_and_pauses_within_its_grammar(bench: Workbench) -> None:
    run = bench.chat_completion(
        [wb.UserMessage(content="How is the weather in Rome?")],
        tools=[TOOL],
        tool_choice=wb.ToolChoice.required,
        sampling_params=SamplingParams(max_tokens=48),
        breakpoints=[Breakpoint(tool_call=True)],
    )
    assert run.wait_for_pause(PATIENCE_S)
    assert run.tool_calls == []
    resumed(run)
    assert run.tool_calls
    again = resumed(run.branch(len(run.tokens) // 2))
    assert (ids(again), again.tool_calls) == (ids(run), run.tool_calls)


def test_in_float32_a_cold_branch_is_the_run_token_by_token(smollm2_engine: Engine) -> None:
    request = GenerationRequest(
        prompt_ids=tuple(smollm2_engine.model.tokenizer.backend_tokenizer.encode(PROMPT).ids),
        sampling=Sampling(temperature=0.9, top_p=0.95, repetition_penalty=1.1, seed=11),
        max_tokens=48,
        alternatives=2,
    )
    whole = generate(smollm2_engine, request, PATIENCE_S)
    for position in (5, 40):
        kept = tuple(step.stats for step in whole.steps[:position])
        branch = generate(smollm2_engine, replace(request, kept=kept), PATIENCE_S)
        assert (branch.ids, branch.text) == (whole.ids, whole.text)
        assert branch.logprobs == pytest.approx(whole.logprobs, abs=1e-4)
