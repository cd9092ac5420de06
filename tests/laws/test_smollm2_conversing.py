"""The embedded chat model has to call a function first, and then answers with what it returned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import workbench as wb

PATIENCE_S = 300.0


@pytest.fixture(scope="module")
def bench(smollm2_path: Path) -> Iterator[wb.Workbench]:
    assert smollm2_path.is_dir()
    with wb.Workbench(precision="float32") as bench:  # the same tokens on every processor
        yield bench


def get_weather(location: str) -> str:
    """Tell the weather.

    Args:
        location: the city.
    """
    return f"Sunny in {location}."


@pytest.mark.timeout(600)
def test_a_required_call_is_followed_by_an_answer(bench: wb.Workbench) -> None:
    chat = bench.chat(tools=[get_weather], tool_choice="required", sampling_params=wb.SamplingParams(max_tokens=80))
    chat.say("What is the weather in Rome?")
    assert chat.wait(PATIENCE_S)
    assert chat.state == "deciding"
    for place in range(len(chat.turns[-1]["calls"])):
        chat.decide(place, approved=True)
    assert chat.wait(PATIENCE_S)
    assert chat.state == "idle", "the model calls again instead of answering"
    assert "sunny" in str(chat.messages[-1].content).lower()
