"""What the attribution of an answer costs for each chunk, against the answer itself."""

from __future__ import annotations

import statistics
import time

import pytest

import workbench as wb
from tests.laws.test_smollm2_attribution import FACTS, FixedMemory

ROUNDS = 5
CHUNKS = 5


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("smollm2_path")
@pytest.mark.parametrize("precision", ["int4", "float32"])
def test_cost_of_each_chunk(precision: str) -> None:
    ratios = []
    with wb.Workbench(precision=precision) as bench:
        for index in range(ROUNDS + 1):  # the first round loads the model, and is left out
            texts = [
                " ".join(FACTS[(index + 4 * at + extra) % len(FACTS)][0] for extra in range(4)) for at in range(CHUNKS)
            ]
            bench.inference.memory = FixedMemory(*texts)
            started = time.perf_counter()
            run = bench.ask(FACTS[index][1], "notes", sampling_params=wb.SamplingParams(max_tokens=48))
            run.result(600)
            answered = time.perf_counter()
            run.attribution()
            each = (time.perf_counter() - answered) / CHUNKS
            ratios.append(each / (answered - started))
    median, spread = statistics.median(ratios[1:]), f"{min(ratios[1:]):.2f} to {max(ratios[1:]):.2f}"
    print(f"attribution in {precision}, {CHUNKS} chunks: {median:.2f} x the answer for each chunk ({spread})")
