"""The embedded chat model has to call tools of every shape, drawn at temperature 1: each call parses and fits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

import workbench as wb
from tests.fakes.tool_sets import tool_sets

FULL = bool(os.environ.get("WORKBENCH_FULL_LAWS"))
"""Set it to take 200 sets of tools instead of 4."""
SETS = tool_sets(200 if FULL else 4)
AT_ONCE = 8

PATIENCE_S = 300.0


@pytest.fixture(scope="module")
def bench(smollm2_path: Path) -> Iterator[wb.Workbench]:
    assert smollm2_path.is_dir()
    with wb.Workbench() as bench:
        yield bench


@pytest.mark.timeout(3600 if FULL else 600)
@pytest.mark.parametrize("form", wb.ToolPromptFormat)
def test_a_required_call_parses_and_fits_its_tool(bench: wb.Workbench, form: wb.ToolPromptFormat) -> None:
    for start in range(0, len(SETS), AT_ONCE):
        sets = list(enumerate(SETS))[start : start + AT_ONCE]
        runs = [
            bench.chat_completion(
                [wb.UserMessage(content="Please use a tool.")],
                tools=list(tools.definitions),
                tool_choice=wb.ToolChoice.required,
                tool_prompt_format=form,
                sampling_params=wb.SamplingParams(
                    strategy=wb.SamplingStrategy.top_p, top_p=1.0, temperature=1.0, seed=seed, max_tokens=256
                ),
            )
            for seed, tools in sets
        ]
        for (seed, tools), run in zip(sets, runs, strict=True):
            calls = run.result(PATIENCE_S).completion_message.tool_calls
            assert calls, f"set {seed}"
            for call in calls:
                jsonschema.validate(call.arguments, tools.schemas[str(call.tool_name)])
