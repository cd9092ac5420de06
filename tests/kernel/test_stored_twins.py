"""What a notebook stores beside a live widget: its twin, as an output of its own that is updated in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kernel.conftest import Kernel

pytestmark = pytest.mark.kernel

OPENING = """
from tests.unit.widgets.fake_session import FakeSession
from workbench.widgets import PredictionGame, chat, playground
session = FakeSession(tokens_per_s=100)
pg = playground(session)
pg
"""
VIEW = "application/vnd.jupyter.widget-view+json"


def test_the_twin_is_updated_when_a_run_ends_though_no_cell_runs(kernel: Kernel) -> None:
    opened = kernel.run(OPENING)
    assert opened.error is None, opened
    live, twin = opened.results
    assert set(live) == {VIEW, "text/html", "text/plain"}
    assert live["text/html"] == ""
    assert set(twin) == {"text/html", "text/plain"}
    assert "No run yet." in twin["text/html"]
    again = kernel.run("pg")
    assert opened.display_ids == again.display_ids == [None, opened.display_ids[1]]
    kernel.run("run = pg.start('Hello')")
    update = kernel.next_update()
    assert update["transient"]["display_id"] == opened.display_ids[1]
    assert "44 generated" in update["data"]["text/html"]
    assert VIEW not in update["data"]


def test_each_turn_of_a_chat_updates_its_twin_once_it_has_ended(kernel: Kernel) -> None:
    opened = kernel.run("talk = chat(session); talk")
    assert "No messages yet." in opened.results[1]["text/html"]
    for turn in range(2):
        kernel.run(f"run = talk.say('Question {turn}')")
        update = kernel.next_update()
        assert update["transient"]["display_id"] == opened.display_ids[1]
        assert f"Question {turn}" in update["data"]["text/html"]
        assert "stopped: end of turn" in update["data"]["text/html"]


def test_a_closed_widget_is_displayed_as_its_twin_alone(kernel: Kernel) -> None:
    closed = kernel.run("pg.close(); pg")
    (twin,) = closed.results
    assert set(twin) == {"text/html", "text/plain"}
    assert "44 generated" in twin["text/html"]


def test_a_cell_can_display_a_playground_and_wait_for_its_run(kernel: Kernel) -> None:
    opened = kernel.run(f"{OPENING.rstrip().removesuffix('pg')}display(pg)\npg.start('Hello')\nprint(pg.wait(60))")
    assert opened.stdout == "True\n", opened
    assert "No run yet." in opened.results[1]["text/html"]
    assert "44 generated" in kernel.next_update()["data"]["text/html"]
