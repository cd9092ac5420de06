"""Pauses in Python's search for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from workbench.cli import main
from workbench.commands import opening
from workbench.garbage import paused_collections


@pytest.fixture
def searches() -> Iterator[list[str]]:
    """The phases of searches since the test began."""
    found: list[str] = []

    def record(phase: str, _: dict[str, int]) -> None:
        found.append(phase)

    gc.callbacks.append(record)
    yield found
    gc.callbacks.remove(record)


def create_objects() -> list[list[int]]:
    return [[number] for number in range(10 * gc.get_threshold()[0])]


def test_nothing_is_searched_in_a_pause_but_after_it(searches: list[str]) -> None:
    with paused_collections():
        kept = create_objects()
        assert searches == []
    kept += create_objects()
    assert "stop" in searches


def test_a_pause_ends_with_an_error_and_leaves_searches_off_that_were_off() -> None:
    with pytest.raises(KeyError), paused_collections():
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with paused_collections():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_command_does_not_search_what_opening_has_imported_and_returns_it_at_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    open_workbench, frozen = opening.open_workbench, []

    def opened(*args: Any) -> Any:
        bench = open_workbench(*args)
        frozen.append((gc.isenabled(), gc.get_freeze_count()))
        return bench

    monkeypatch.setattr(opening, "open_workbench", opened)
    main(["memory", "query", "no-such-bank", "a question"])
    capsys.readouterr()
    ((is_enabled, count),) = frozen
    assert is_enabled
    assert count > 1000
    assert gc.get_freeze_count() == 0
