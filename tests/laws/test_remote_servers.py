"""The same notebook against another machine: what a llama.cpp server answers is what the local engine computes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from tests.fakes.gguf_files import write_gguf
from tests.fakes.real_servers import llama_cpp_server
from tests.fakes.templates import PLAIN

PROMPTS = ("The capital of France is", "def fibonacci(n):", "Water boils at")
TOKENS = 8
PATIENCE_S = 300.0
"""A real model on a busy machine is slow, and no hang."""


@pytest.fixture(scope="module")
def both(smollm2_path: Path) -> Iterator[wb.Workbench]:
    """The embedded chat model twice, in float32: on this engine, and behind a server."""
    with tempfile.TemporaryDirectory(prefix="gguf-") as folder:
        gguf = write_gguf(smollm2_path, Path(folder) / "smollm2.gguf", PLAIN)
        with llama_cpp_server(gguf) as url:
            here = {"provider_id": "here", "provider_type": "inline::transformers"}
            there = {"provider_id": "there", "provider_type": "remote::llama_cpp", "config": {"url": url}}
            providers = [here | {"config": {"models": ["smollm2-135m-instruct"], "quantization": None}}, there]
            with wb.Workbench(config={"providers": {"inference": providers}}) as bench:
                yield bench


def answers(bench: wb.Workbench, ask: str, *args: Any, **more: Any) -> list[Any]:
    """Of the local model and of the remote one."""
    names = [model.identifier for model in bench.list_models() if model.provider_id in {"here", "there"}]
    runs = [getattr(bench, ask)(*args, model=name, **more) for name in names]
    for run in runs:
        run.result(PATIENCE_S)
    return runs


@pytest.mark.timeout(600)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_ids_logprobs_and_alternatives_are_the_same_there_as_here(both: wb.Workbench, prompt: str) -> None:
    here, there = answers(
        both,
        "completion",
        prompt,
        sampling_params=wb.SamplingParams(max_tokens=TOKENS),
        logprobs=wb.LogProbConfig(top_k=4),
    )
    assert there.text == here.text
    assert [token.token_id for token in there.tokens] == [token.token_id for token in here.tokens]
    assert [token.bytes for token in there.tokens] == [token.bytes for token in here.tokens]
    assert [token.logprob for token in there.tokens] == pytest.approx(
        [token.logprob for token in here.tokens], abs=0.02
    )
    for a, b in zip(there.tokens, here.tokens, strict=True):
        assert a.rank == b.rank == 1
        assert {one.token_id for one in a.alternatives[:2]} <= {one.token_id for one in b.alternatives}
    assert there.usage.prompt_tokens == here.usage.prompt_tokens
    assert list(there.to_frame().columns) == list(here.to_frame().columns)


@pytest.mark.timeout(600)
def test_a_penalty_means_the_same_there_as_here(both: wb.Workbench) -> None:
    params = wb.SamplingParams(max_tokens=TOKENS, repetition_penalty=1.3)
    here, there = answers(both, "completion", "one two one two one two", sampling_params=params)
    assert there.text == here.text
