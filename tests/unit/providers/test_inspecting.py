"""A run is looked back at through its own methods: what was likely, why this token, what else might have been."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.budget import budget
from tests.fakes.models import VOCAB, FakeDecoder, scripted_speech
from tests.fakes.serving import FakeModels
from workbench import Workbench
from workbench.engine import scheduler
from workbench.errors import ClosedError, InvalidRequestError
from workbench.protocol import LogProbConfig, SamplingParams, SamplingStrategy, StopReason, UserMessage

PATIENCE_S = 30


@pytest.fixture
def bench(fake_models: FakeModels) -> Iterator[Workbench]:
    fake_models.add("random")
    with Workbench(fake_models.config) as bench:
        yield bench


def finished(bench: Workbench, text: str = "a prompt", **params: Any) -> Any:
    params.setdefault("max_tokens", 8)
    run = bench.completion(text, sampling_params=SamplingParams(**params), logprobs=LogProbConfig(top_k=5))
    run.result(PATIENCE_S)
    assert run.tokens or run.stop_reason == StopReason.end_of_turn  # the end may be drawn at once
    return run


SAMPLED: dict[str, Any] = {"strategy": SamplingStrategy.top_p, "temperature": 1.2, "top_p": 0.9}

parameters = st.one_of(
    st.fixed_dictionaries({"strategy": st.just("greedy")}),
    st.fixed_dictionaries(
        {
            "strategy": st.just("top_p"),
            "temperature": st.sampled_from([0.0, 0.2, 1.0, 3.0]),
            "top_p": st.sampled_from([0.1, 0.5, 0.95, 1.0]),
        }
    ),
    st.fixed_dictionaries(
        {
            "strategy": st.just("top_k"),
            "temperature": st.sampled_from([0.0, 0.2, 1.0, 3.0]),
            "top_k": st.sampled_from([0, 1, 3, 40, 10_000]),
        }
    ),
)


# --------------------------------------------------------------------------------------------------- distributions


def test_a_distribution_is_the_whole_vocabulary_best_first_and_adds_up_to_one(bench: Workbench) -> None:
    run = finished(bench, **SAMPLED, seed=1)
    for token in run.tokens:
        frame = run.distribution(token.position)
        assert list(frame.columns) == ["token_id", "text", "logprob", "probability", "rank"]
        assert sorted(frame.token_id) == list(range(VOCAB))
        assert frame.probability.sum() == pytest.approx(1, abs=1e-5)
        assert frame.logprob.is_monotonic_decreasing
        assert frame["rank"].is_monotonic_increasing
        assert np.exp(frame.logprob).to_numpy() == pytest.approx(frame.probability.to_numpy())


def test_it_says_what_the_run_recorded(bench: Workbench) -> None:
    run = finished(bench, **SAMPLED, seed=2)
    for token in run.tokens:
        frame = run.distribution(token.position).set_index("token_id")
        for one in (token, *token.alternatives):
            assert frame.logprob[one.token_id] == pytest.approx(one.logprob, abs=1e-5)
            assert (frame["rank"][one.token_id], frame.text[one.token_id]) == (one.rank, one.text)
        entropy = -(frame.probability * frame.logprob).sum()
        assert entropy == pytest.approx(token.entropy, abs=1e-4)


def test_equals_share_the_better_rank_in_both(fake_models: FakeModels) -> None:
    """A scripted model finds all tokens but one equally unlikely."""
    fake_models.add("script", FakeDecoder(scripted_speech("abc")))
    with Workbench(fake_models.config) as bench:
        run = finished(bench, "\0", max_tokens=3)
        frame = run.distribution(0)
        assert frame["rank"].tolist() == [1] + [2] * (VOCAB - 1)
        assert {other.rank for other in run.tokens[0].alternatives} == {2}


# ----------------------------------------------------------------------------------------------------------- traces


@settings(max_examples=budget(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(params=parameters, penalty=st.sampled_from([1.0, 1.5]), seed=st.integers(0, 1000))
def test_the_trace_ends_in_the_runs_own_token(
    bench: Workbench, params: dict[str, Any], penalty: float, seed: int
) -> None:
    run = finished(bench, **params, repetition_penalty=penalty, seed=seed, max_tokens=5)
    for token in run.tokens:
        trace = run.sampling_trace(token.position)
        assert trace.token_id == token.token_id
        assert trace.text(trace.token_id) == token.text
        names = [stage.name for stage in trace.stages]
        assert names[0] == "raw"
        assert ("penalty" in names) is (penalty != 1)
        for stage in trace.stages:
            assert stage.probabilities.shape == (VOCAB,)
            assert stage.probabilities.sum() == pytest.approx(1, abs=1e-9)
            assert 0 <= stage.removed_mass < 1
        assert trace.stages[-1].probabilities[token.token_id] > 0
        assert run.sampling_trace(token.position, run.sampling_params, trace.number).token_id == token.token_id


def test_the_raw_stage_is_the_distribution(bench: Workbench) -> None:
    run = finished(bench, **SAMPLED, seed=3)
    frame = run.distribution(1).sort_values("token_id")
    assert run.sampling_trace(1).stages[0].probabilities == pytest.approx(frame.probability.to_numpy(), abs=1e-6)


def test_other_parameters_keep_the_number_unless_another_is_given(bench: Workbench) -> None:
    run = finished(bench, **SAMPLED, seed=4)
    number = run.sampling_trace(0).number
    assert number is not None
    other = SamplingParams(strategy=SamplingStrategy.top_k, temperature=0.7, top_k=2)
    assert run.sampling_trace(0, other).number == number
    assert run.sampling_trace(0, other).stages[-1].kept == 2
    best = int(run.distribution(0).token_id[0])
    assert run.sampling_trace(0, other, 0.0).token_id == best
    assert run.sampling_trace(0, SamplingParams(strategy=SamplingStrategy.greedy)).token_id == best
    assert run.sampling_trace(0, SamplingParams(strategy=SamplingStrategy.greedy)).number is None


def test_a_trace_under_a_bias_for_a_token_that_the_model_lacks_is_refused(bench: Workbench) -> None:
    run = finished(bench, **SAMPLED, seed=4)
    with pytest.raises(InvalidRequestError, match=r"sampling_params\.logit_bias"):
        run.sampling_trace(0, SamplingParams(logit_bias={VOCAB: 1.0}))
    assert run.sampling_trace(0, SamplingParams(logit_bias={7: 100.0})).token_id == 7


def test_the_frame_shows_the_best_and_the_chosen_with_every_stage(bench: Workbench) -> None:
    hot = SamplingParams(strategy=SamplingStrategy.top_p, temperature=50.0, top_p=1.0)
    run = finished(bench, **SAMPLED, seed=5)
    for top in (1, 5, VOCAB, 10**6):
        frame = run.sampling_frame(0, hot, 0.999, top=top)
        chosen = run.sampling_trace(0, hot, 0.999).token_id
        assert list(frame.columns) == ["token_id", "text", "raw", "temperature"]
        assert chosen in set(frame.token_id)
        assert len(frame) in {min(top, VOCAB), min(top, VOCAB) + 1}
        assert frame.token_id.is_unique
        assert frame.raw[: min(top, VOCAB)].is_monotonic_decreasing


def test_looking_leaves_the_run_and_the_next_one_as_they_are(fake_models: FakeModels) -> None:
    fake_models.add("random")
    answers = []
    for looks in (False, True):
        with Workbench(fake_models.config) as bench:
            run = finished(bench, **SAMPLED, seed=6)
            if looks:
                for position in range(len(run.tokens)):
                    first = run.distribution(position)
                    run.sampling_trace(position, SamplingParams(temperature=2.0, strategy=SamplingStrategy.top_p), 0.3)
                    run.sampling_frame(position)
                    assert run.distribution(position).equals(first)
            usage = (run.usage.prompt_tokens, run.usage.generated_tokens, run.usage.reused_tokens)
            after = finished(bench, **SAMPLED, seed=7)
            answers.append((run.text, usage, after.text, after.usage.reused_tokens, [t.logprob for t in after.tokens]))
    assert answers[0] == answers[1]


# ---------------------------------------------------------------------------------------------- how long, how much


def test_it_works_after_other_runs_and_for_chats(bench: Workbench) -> None:
    run = bench.chat_completion([UserMessage(content="Hi")], sampling_params=SamplingParams(max_tokens=5))
    run.result(PATIENCE_S)
    before = run.distribution(2)
    for seed in range(5):
        finished(bench, **SAMPLED, seed=seed)
    assert run.distribution(2).equals(before)
    assert [run.sampling_trace(at).token_id for at in range(5)] == [token.token_id for token in run.tokens]


def test_a_cancelled_run_can_be_looked_at(bench: Workbench) -> None:
    run = bench.completion("a prompt", sampling_params=SamplingParams(max_tokens=4000))
    for _ in run:
        if len(run.tokens) >= 3:
            run.cancel()
            break
    assert run.wait(PATIENCE_S)
    assert run.sampling_trace(1).token_id == run.tokens[1].token_id


def test_old_positions_go_and_the_error_says_which_are_left(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = scheduler.KEPT_LOGITS_BYTES
    run = finished(bench, **SAMPLED, seed=1, max_tokens=1)
    count = budget // (VOCAB * 4)
    engine = next(iter(_engines(bench)))
    handle = run.inspector._handle
    logits = engine.kept(handle, 0).logits
    for position in range(1, count + 5):
        engine._kept.add(handle.number, position, logits, None)
    for look in (run.distribution, run.sampling_trace, run.sampling_frame):
        with pytest.raises(InvalidRequestError, match=rf"position.*from 5 to {count + 4}"):
            look(0)
    assert engine._kept.nbytes <= budget


def _engines(bench: Workbench) -> list[Any]:
    provider: Any = bench.models.find("random").provider
    return [model.engine for model in provider._models._loaded.values()]


def test_after_the_close_there_is_nothing_to_look_at(fake_models: FakeModels) -> None:
    fake_models.add("random")
    bench = Workbench(fake_models.config)
    run = finished(bench, max_tokens=3)
    bench.close()
    fake_models.engines.clear()
    del bench
    gc.collect()
    for look in (run.distribution, run.sampling_trace, run.sampling_frame):
        with pytest.raises(ClosedError, match="closed"):
            look(0)
    assert len(run.to_frame()) == 3, "what was recorded stays"


# --------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("position", [-1, 8, 10**9, "0", None, 0.5, math.nan, True, [0]])
def test_a_bad_position_is_named(bench: Workbench, position: Any) -> None:
    run = finished(bench)
    for look in (run.distribution, run.sampling_trace, run.sampling_frame):
        with pytest.raises(InvalidRequestError) as caught:
            look(position)
        assert caught.value.field == "position"


@pytest.mark.parametrize("number", [-0.1, 1.0, 1, 7, math.nan, math.inf, "0.5", [0.5]])
def test_a_bad_number_is_named(bench: Workbench, number: Any) -> None:
    run = finished(bench)
    for look in (run.sampling_trace, run.sampling_frame):
        with pytest.raises(InvalidRequestError) as caught:
            look(0, None, number)
        assert caught.value.field == "number"


@pytest.mark.parametrize("number", [0, 0.0, 0.999999, np.float32(0.5), np.float64(0.25)])
def test_every_number_from_0_to_below_1_is_taken(bench: Workbench, number: Any) -> None:
    run = finished(bench, **SAMPLED, seed=1)
    assert run.sampling_trace(0, None, number).number == number


@pytest.mark.parametrize("params", [{"temperature": 1.0}, "greedy", 5, SamplingStrategy.greedy])
def test_parameters_of_another_type_are_named(bench: Workbench, params: Any) -> None:
    run = finished(bench)
    with pytest.raises(InvalidRequestError) as caught:
        run.sampling_trace(0, params)
    assert caught.value.field == "sampling_params"


def test_parameters_out_of_range_are_named(bench: Workbench) -> None:
    run, params = finished(bench), SamplingParams()
    params.top_p = 7.0
    with pytest.raises(InvalidRequestError, match=r"sampling_params\.top_p"):
        run.sampling_trace(0, params)


@pytest.mark.parametrize("top", [0, -1, 2.5, "3", True, None])
def test_a_bad_number_of_rows_is_named(bench: Workbench, top: Any) -> None:
    run = finished(bench)
    with pytest.raises(InvalidRequestError) as caught:
        run.sampling_frame(0, top=top)
    assert caught.value.field == "top"


def test_a_run_that_never_began_has_nothing_to_look_at(bench: Workbench) -> None:
    run = bench.completion("x" * 5000)
    assert run.wait(PATIENCE_S)
    with pytest.raises(InvalidRequestError, match="this run has no tokens"):
        run.distribution(0)


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-gpt2"])
def test_it_is_the_same_with_a_model_that_computes(
    tiny_folders: dict[str, Path], provider_of: Callable[..., Any], name: str
) -> None:
    spec = {"models": [str(folder) for folder in tiny_folders.values()], "quantization": {"type": "bf16"}}
    providers = {"inference": [{"provider_id": "a", "provider_type": "inline::transformers", "config": spec}]}
    with Workbench({"providers": providers}) as bench:
        run = bench.completion(
            "The quick",
            model=name,
            sampling_params=SamplingParams(**SAMPLED, seed=3, max_tokens=20, repetition_penalty=1.1),
            logprobs=LogProbConfig(top_k=3),
        )
        run.result(PATIENCE_S)
        for token in run.tokens:
            assert run.sampling_trace(token.position).token_id == token.token_id
            frame = run.distribution(token.position).set_index("token_id")
            assert frame["rank"][token.token_id] == token.rank
            assert frame.logprob[token.token_id] == pytest.approx(token.logprob, abs=1e-5)
