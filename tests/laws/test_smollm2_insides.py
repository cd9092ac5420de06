"""The embedded model from inside, in four precisions: the laws of captures, lenses, attribution and edits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import workbench as wb
from tests import ended_runs
from tests.ended_runs import facts
from workbench import Edit, SamplingParams, SamplingStrategy, Workbench

PATIENCE_S = 300.0
STORY = (
    "Once upon a time, in a small village by the sea, there lived an old woman who told everyone that she was a queen. "
    "Nobody believed her, but the children liked her stories about the castle, the ships and the golden birds, and so "
    "they came every evening. One day"
)
SAMPLED = SamplingParams(strategy=SamplingStrategy.top_p, temperature=0.8, max_tokens=12, seed=11)
GREEDY = SamplingParams(max_tokens=6)


@pytest.fixture(scope="module", params=["float32", "bf16", "int8", "int4"])
def bench(request: pytest.FixtureRequest, smollm2_path: Path) -> Iterator[Workbench]:
    with Workbench(precision=request.param) as bench:
        yield bench


@pytest.fixture(scope="module")
def run(bench: Workbench) -> Any:
    return ended(bench.completion(STORY, sampling_params=SAMPLED))


def ended(run: Any) -> Any:
    return ended_runs.ended(run, PATIENCE_S)


def test_what_was_captured_written_back_gives_the_run_bit_for_bit(run: Any) -> None:
    captured = run.capture(["resid_post.7", "z.12", "mlp_act.20", "attn_probs.3", "value.5", "mlp_pre.28"])
    for name in captured:
        value: Any = captured[name]
        edit = Edit(point=name, operation="set", value=value, stop=len(value))
        assert facts(ended(run.edit(edit))) == facts(run), name


def test_the_last_stream_through_norm_and_head_gives_the_runs_logits(run: Any) -> None:
    for position, token in enumerate(run.tokens):
        last = run.lens_columns([position])[0].cells[-1]
        assert last.rank == token.rank
        assert last.probability == pytest.approx(token.probability, rel=1e-4)


def test_the_parts_of_every_logit_sum_to_it(run: Any) -> None:
    first = run.first_index
    logits = run.capture("lm_head", range(first - 1, first + len(run.tokens) - 1))["lm_head"]
    for position, token in enumerate(run.tokens):
        assert run.attribution(position)["logit"].sum() == pytest.approx(
            float(logits[position, token.token_id]), abs=1e-4
        )


def test_edited_runs_are_the_same_cached_together_branched_and_replayed(bench: Workbench) -> None:
    edits = [
        [],
        [Edit(point="attn_out.4", operation="scale", value=0, start=5)],
        [Edit(point="resid_post.9", operation="add", value=0.5, start=30, stop=60)],
        [Edit(point="attn_scores.11", operation="scale", value=0.5, head=1, start=60)],
    ]
    first = [ended(bench.completion(STORY, sampling_params=SAMPLED, edits=one)) for one in edits]
    assert len({tuple(facts(one)) for one in first}) == len(edits)
    warm = [ended(bench.completion(STORY, sampling_params=SAMPLED, edits=one)) for one in edits]
    together = [bench.completion(STORY, sampling_params=SAMPLED, edits=one) for one in edits]
    for expected, cached, beside in zip(first, warm, together, strict=True):
        assert cached.usage.reused_tokens > 0
        assert facts(cached) == facts(ended(beside)) == facts(expected)
        assert facts(ended(expected.branch(5))) == facts(expected)
        assert facts(wb.replay(expected.capsule, bench).run) == facts(expected)


def test_a_patched_country_changes_its_capital(bench: Workbench) -> None:
    france, italy = (
        ended(bench.completion(f"The capital of {country} is", sampling_params=GREEDY))
        for country in ("France", "Italy")
    )
    assert " Rome" in italy.text
    patched = ended(italy.edit(france.capture("resid_post.15", 3).patch("resid_post.15", 3)))
    assert " Paris" in patched.text
    wb.expect.effect(italy, patched, kl_at_least=1.0)


@torch.inference_mode()
def test_streams_and_attention_are_those_of_transformers(smollm2_path: Path) -> None:
    with Workbench(precision="float32") as bench:
        run = ended(bench.completion(STORY, sampling_params=GREEDY))
        ids = torch.tensor([list(run.insides.token_ids)])
        model = transformers.AutoModelForCausalLM.from_pretrained(smollm2_path, attn_implementation="eager")
        output = model.float()(ids, output_hidden_states=True, output_attentions=True)
        streams = run.capture("resid_pre")
        for layer, hidden in enumerate(output.hidden_states[:-1]):
            expected = hidden[0].numpy()
            scale = np.abs(expected).max(-1, keepdims=True)  # a few features of some tokens are in the thousands
            assert np.abs(streams[f"resid_pre.{layer}"] - expected).max() < 1e-4 * scale.max()
            assert (np.abs(streams[f"resid_pre.{layer}"] - expected) / scale).max() < 1e-4
        weights = run.capture(["attn_probs.0", "attn_probs.15", "attn_probs.29"])
        for name, array in weights.items():
            expected = output.attentions[int(name.split(".")[1])][0].permute(1, 0, 2).numpy()
            assert np.abs(array - expected).max() < 1e-4
