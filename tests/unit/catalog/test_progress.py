from __future__ import annotations

import io
from contextlib import redirect_stderr

import pytest

from workbench.catalog import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.delenv("WORKBENCH_PROGRESS", raising=False)
    return Terminal()


def tell_everything(told: progress.Progress) -> None:
    told("wait", 0, None)
    for done in (0, 5, 10):
        told("download", done, 10)
    told("record", 0, None)


def test_a_terminal_sees_one_bar_per_stage(terminal: Terminal) -> None:
    with redirect_stderr(terminal), progress.shown("tiny", None) as told:
        tell_everything(told)
    assert "tiny: download: 100%" in terminal.getvalue()
    assert "tiny: record" in terminal.getvalue()


@pytest.mark.parametrize("reason", ["switched off", "no terminal", "own callback"])
def test_nothing_is_written_where_nobody_looks(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    if reason == "switched off":
        monkeypatch.setenv("WORKBENCH_PROGRESS", "0")
    if reason == "no terminal":
        monkeypatch.setattr(terminal, "isatty", lambda: False)
    given = progress.silent if reason == "own callback" else None
    with redirect_stderr(terminal), progress.shown("tiny", given) as told:
        tell_everything(told)
    assert not terminal.getvalue()


def test_a_bar_is_closed_when_the_pull_fails(terminal: Terminal) -> None:
    def fail() -> None:
        with progress.shown("tiny", None) as told:
            told("download", 1, 10)
            raise KeyError

    with redirect_stderr(terminal), pytest.raises(KeyError):
        fail()
    assert terminal.getvalue().endswith("\n")
