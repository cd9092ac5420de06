"""The insides of a recorded run: what was read inside the model can be read again without it, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from tests.tiny_models import save_model
from tests.unit.providers.test_trace_inspections import playing
from workbench import Edit, SamplingParams, SamplingStrategy, Workbench
from workbench.errors import ConfigError, NotRecordedError

PROMPT = "the quick brown fox jumps over the lazy dog and runs away into the dark forest"
SAMPLED = SamplingParams(strategy=SamplingStrategy.top_p, temperature=0.9, max_tokens=6, seed=3, logit_bias={0: -100.0})
POINTS = ["resid_post", "z.1", "attn_scores.0", "attn_probs.1", "mlp_act.0", "lm_head"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    folder = save_model(tmp_path_factory.mktemp("insides") / "tiny", "llama")
    provider = {"provider_id": "here", "provider_type": "inline::transformers", "config": {"models": [str(folder)]}}
    with Workbench({"version": "2", "image_name": "tiny", "providers": {"inference": [provider]}}) as bench:
        yield bench


def ended(run: Any) -> Any:
    run.result(100)
    return run


def seen(bench: Workbench) -> list[Any]:
    """What a notebook sees of the insides of a run and of its edits."""
    run = ended(bench.completion(PROMPT, sampling_params=SAMPLED))
    captured = run.capture(POINTS)
    edited = ended(run.edit(captured.patch("resid_post.0", 3, to=4)))
    ablated = ended(run.edit(Edit(point="z.0", operation="scale", value=0, head=2), keep_tokens=True))
    texts = (["ships and seas", "a long sea voyage"], ["the dark forest"])
    vector = bench.steering_vector(*texts, point="resid_post.0")
    tables = [
        *(run.lens(position, words=3) for position in range(6)), run.attribution(2), run.attribution(2, 7),
        run.attention(0, 3), run.attention_heads(), bench.points(), captured.frame("z.1", head=1),
    ]  # fmt: skip
    return [
        *((name, array.tolist()) for name, array in captured.items()),
        *(table.to_dict() for table in tables),
        (captured.texts, captured.axes("z.1"), captured.is_derived("attn_probs.1")),
        [(one.text, [token.logprob for token in one.tokens]) for one in (run, edited, ablated)],
        [wb.expect.effect(run, ablated, position=position, kl_at_least=0) for position in range(6)],
        vector.tolist(),
        ended(bench.steer(PROMPT, vector, point="resid_post.0", factor=2.0, sampling_params=SAMPLED)).text,
    ]


def test_whatever_was_read_inside_a_model_can_be_read_again_without_it(bench: Workbench, tmp_path: Path) -> None:
    with bench.record(tmp_path / "t"):
        expected = seen(bench)
    with playing(tmp_path / "t") as played:
        assert seen(played) == expected


def test_numbers_can_be_read_in_other_parts_than_they_were_recorded(bench: Workbench, tmp_path: Path) -> None:
    with bench.record(tmp_path / "t"):
        run = ended(bench.completion(PROMPT, sampling_params=SAMPLED))
        run.capture(POINTS, range(3, 9))
        run.capture(POINTS, [12, 0])
    parts = (["attn_scores.0"], [3, 12, 5]), (["attn_probs.1", "z.1"], [4]), (["resid_post.1"], [12, 0, 8])
    expected = [run.capture(points, positions) for points, positions in parts]
    with playing(tmp_path / "t") as played:
        run = ended(played.completion(PROMPT, sampling_params=SAMPLED))
        for (points, positions), there in zip(parts, expected, strict=True):
            here = run.capture(points, positions)
            assert all(np.array_equal(here[name], array) for name, array in there.items())
            assert here.positions == there.positions


def test_what_was_not_read_is_refused_by_name(bench: Workbench, tmp_path: Path) -> None:
    with bench.record(tmp_path / "t"):
        ended(bench.completion(PROMPT, sampling_params=SAMPLED)).capture("z.1", 3)
    with playing(tmp_path / "t") as played:
        run = ended(played.completion(PROMPT, sampling_params=SAMPLED))
        reads: list[tuple[Callable[[], Any], str]] = [
            (lambda: run.capture("z.1", 4), "z.1 at position 4"),
            (lambda: run.capture("z.0", 3), "z.0 at position 3"),
            (lambda: run.lens(0), "read inside the model"),
            (lambda: run.attribution(0), "read inside the model"),
        ]
        for read, value in reads:
            with pytest.raises(NotRecordedError, match=value):
                read()


def test_points_of_a_model_that_was_not_looked_into_are_refused(bench: Workbench, tmp_path: Path) -> None:
    with bench.record(tmp_path / "t"):
        ended(bench.completion(PROMPT, sampling_params=SAMPLED))
    with playing(tmp_path / "t") as played, pytest.raises(NotRecordedError, match="looked into"):
        played.points()


def test_a_damaged_line_is_named(bench: Workbench, tmp_path: Path) -> None:
    with bench.record(tmp_path / "t"):
        ended(bench.completion(PROMPT, sampling_params=SAMPLED)).capture("z.1", 3)
    text = (tmp_path / "t").read_text(encoding="utf-8")
    (tmp_path / "t").write_text(text.replace('"inside":{"call"', '"inside":{"cell"'), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"line \d+: not a record"):
        playing(tmp_path / "t")
