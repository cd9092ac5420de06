"""Capsules of the embedded chat model: in another process, in another order, every one gives the same ids."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from workbench import Capsule, Run, Workbench

PRECISIONS = ("float32", "bf16", "int4")
CAPSULES = 50
TOKENS = 6
PATIENCE_S = 600

TEXTS = ("The capital of France is", "Once upon a time", "def area(radius):", "Die Katze", "2, 3, 5, 7,")
PARAMS: tuple[dict[str, Any], ...] = (
    {},
    {"strategy": "top_p", "temperature": 0.8, "top_p": 0.9},
    {"strategy": "top_k", "temperature": 1.3, "top_k": 40},
    {"strategy": "top_p", "temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.2},
)
TOOL = wb.ToolDefinition(
    tool_name="get_weather",
    description="Tell the weather.",
    parameters={"location": wb.ToolParamDefinition(param_type="str", description="The city.", required=True)},
)

REPLAYING = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import workbench as wb

folder, config = sys.argv[1:]
paths = sorted(Path(folder).glob("*.json"), reverse=True)
with wb.Workbench(json.loads(config)) as bench, ThreadPoolExecutor(8) as pool:
    replays = list(pool.map(lambda path: wb.replay(path, bench), paths))
    print(json.dumps([[replay.same, repr(replay), replay.drift] for replay in replays]))
"""
"""Other requests decode beside them this time, and other prefixes are there to be reused."""


def config() -> dict[str, Any]:
    """The embedded model in every precision."""
    served = [
        {
            "provider_id": precision,
            "provider_type": "inline::transformers",
            "config": {
                "models": ["smollm2-135m-instruct"],
                "quantization": None if precision == "float32" else {"type": precision},
            },
        }
        for precision in PRECISIONS
    ]
    return {"image_name": "capsules", "providers": {"inference": served}}


def asked(bench: Workbench, index: int) -> Run[Any, Any]:
    """The run of that number: precisions, texts, ways of sampling, chats, tools and formats in turn."""
    model = f"{PRECISIONS[index % len(PRECISIONS)]}/smollm2-135m-instruct"
    params = wb.SamplingParams(max_tokens=TOKENS, seed=index if index % 4 else None, **PARAMS[index % len(PARAMS)])
    text = TEXTS[index % len(TEXTS)]
    if index % 5 < 3:
        return bench.completion(text, model=model, sampling_params=params)
    format_ = wb.RegexResponseFormat(regex="[A-Z][a-z ]+[.]") if index % 10 == 3 else None
    return bench.chat_completion(
        [wb.SystemMessage(content="Answer briefly."), wb.UserMessage(content=f"Go on: {text}")],
        model=model,
        sampling_params=params,
        tools=[TOOL] if index % 10 == 9 else None,
        response_format=format_,
    )


@pytest.fixture(scope="module")
def bench(smollm2_path: Path) -> Iterator[Workbench]:
    with Workbench(config()) as bench:
        yield bench


@pytest.fixture(scope="module")
def capsules(bench: Workbench) -> list[Capsule]:
    runs = [asked(bench, index) for index in range(CAPSULES)]  # many of them decode together
    return [run.capsule for run in runs if run.result(PATIENCE_S)]


def test_the_capsules_cover_every_precision_greedy_and_sampled(capsules: list[Capsule]) -> None:
    ways = {(capsule.model.precision, str(capsule.sampling_params.strategy)) for capsule in capsules}
    assert len(capsules) == CAPSULES
    assert {(precision, way) for precision in PRECISIONS for way in ("greedy", "top_p", "top_k")} == ways
    assert all(capsule.model.files for capsule in capsules)


@pytest.mark.timeout(PATIENCE_S)
def test_every_capsule_replays_to_the_same_ids_in_a_new_process(capsules: list[Capsule], tmp_path: Path) -> None:
    for index, capsule in enumerate(capsules):
        capsule.save(tmp_path / f"{index:02}.json")
    process = subprocess.run(
        [sys.executable, "-c", REPLAYING, str(tmp_path), json.dumps(config())],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert process.returncode == 0, process.stderr
    replays = json.loads(process.stdout)
    assert len(replays) == CAPSULES
    assert [said for same, said, _ in replays if not same] == []
    assert max(drift for _, _, drift in replays) < 1e-3


def test_a_tampered_capsule_names_its_first_differing_token(bench: Workbench, capsules: list[Capsule]) -> None:
    capsule = capsules[1]
    written = json.loads(capsule.to_json())
    written["tokens"][2]["token_id"] += 1
    with pytest.raises(wb.InvalidRequestError, match="tokens must be unchanged since the capsule was made"):
        Capsule.from_json(written)
    replay = wb.replay(Capsule.from_json(written, allow_changed=True), bench)
    assert (replay.where, replay.position) == ("answer", 2)
    assert repr(capsule.tokens[2].text) in repr(replay)


def test_another_precision_is_told_as_the_reason(bench: Workbench, capsules: list[Capsule]) -> None:
    capsule = next(one for one in capsules if one.model.precision == "float32")
    replay = wb.replay(capsule, bench, model="int4/smollm2-135m-instruct")
    assert "model.precision was float32 and is int4" in repr(replay)
    assert replay.drift is None or replay.drift > 0
