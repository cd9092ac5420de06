"""A lens is read of the tokens that are asked for, whichever they are and in whatever order, and of no others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workbench import Workbench
from workbench.engine.insides import lens
from workbench.records import LensColumn

TEXT = "The observatory opens at nine on Fridays, because the sky is dark by then and the road is empty. " * 2


@pytest.fixture(scope="module")
def bench(smollm2_path: Path) -> Iterator[Workbench]:
    assert smollm2_path.is_dir()
    config: dict[str, Any] = {"models": ["smollm2-135m-instruct"]}
    local = {"provider_id": "local", "provider_type": "inline::transformers", "config": config}
    with Workbench({"image_name": "lens", "providers": {"inference": [local]}}) as opened:
        yield opened


def test_each_window_equals_the_whole_and_only_new_columns_are_read(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, same = bench.reading(TEXT), bench.reading(TEXT)
    assert run.wait(60)
    assert same.wait(60)
    whole = same.lens_columns(words=3)
    read: list[int] = []
    read_lens = lens.read_lens

    def counted(*arguments: Any) -> Any:
        read.append(1)
        return read_lens(*arguments)

    monkeypatch.setattr(lens, "read_lens", counted)
    last = len(run.tokens) - 1
    for window, fresh in [([last], 1), ([3, 4], 2), ([20, 21, 22], 3), ([21, 23], 1), ([3, 22, last], 0), ([1], 1)]:
        read.clear()
        columns = run.lens_columns(window, words=3)
        assert len(read) == fresh, window
        assert_close(columns, [whole[position - 1] for position in window])
    assert_close(run.lens_columns(words=3), whole)


def assert_close(columns: list[LensColumn], expected: list[LensColumn]) -> None:
    """The parts in which a prompt is read may change the last bits of its numbers."""
    for one, other in zip(columns, expected, strict=True):
        assert (one.index, one.token_id, one.text, len(one.cells)) == (other.index, other.token_id, other.text, 30)
        for cell, same in zip(one.cells, other.cells, strict=True):
            assert cell.probability == pytest.approx(same.probability, rel=1e-3, abs=1e-7)
            assert cell.words[0].probability == pytest.approx(same.words[0].probability, rel=1e-3)
