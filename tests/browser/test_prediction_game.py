"""The prediction game in a blank page and in a real JupyterLab: played by the keyboard alone, readable everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.module_host import ModuleHost
from tests.browser.notebook_page import NotebookPage
from tests.unit.widgets.fake_scores import PROMPT, scored
from workbench.widgets import PredictionGame

CELL = """\
from tests.unit.widgets.fake_scores import PROMPT, scored
from workbench.widgets import PredictionGame
game = PredictionGame(scored(), PROMPT)
game"""


def state_is(state: str) -> str:
    return f"[...document.querySelectorAll('.wb-game')].every((el) => el.dataset.wbState === '{state}')"


def test_a_whole_game_is_played_by_the_keyboard_alone(modules: ModuleHost) -> None:
    game = PredictionGame(scored(), PROMPT, rounds=2)
    modules.show(game)
    page = modules.browser
    expect(page.get_by_role("button", name="Bet")).to_be_disabled()  # nothing is chosen yet
    page.get_by_role("radio").first.focus()
    page.keyboard.press("3")
    expect(page.get_by_role("radio").nth(2)).to_be_checked()
    page.keyboard.press("Tab")
    slider = page.get_by_role("slider", name="How sure are you?")
    expect(slider).to_be_focused()
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "61 %: 0.7 bits if you are right, 2.9 if not"
    page.keyboard.press("Enter")
    modules.wait(state_is("told"))
    assert game.rounds[0].bet == pytest.approx([0.13, 0.13, 0.61, 0.13])
    expect(page.get_by_role("status")).to_have_text(
        "“man” came next. You gave it 61.0 % (0.7 bits), the model 53.3 % (0.9 bits)."
    )
    expect(page.get_by_role("button", name="Next")).to_be_focused()
    page.keyboard.press("Enter")
    modules.wait(state_is("open"))
    expect(page.get_by_role("radio").first).to_be_focused()
    page.keyboard.press("4")
    page.keyboard.press("Enter")
    modules.wait(state_is("over"))
    expect(page.get_by_role("status")).to_contain_text("The game is over.")
    assert game.bits == pytest.approx(sum(one.bits or 0 for one in game.rounds))
    page.keyboard.press("Enter")
    modules.wait(state_is("open"))
    assert game.bits == 0


@pytest.mark.parametrize("clicked", [".wb-game-choice >> nth=2", ".wb-game-text", ".wb-game-scores"])
def test_after_a_click_the_keys_do_what_the_hint_says(modules: ModuleHost, clicked: str) -> None:
    game = PredictionGame(scored(), PROMPT, rounds=2)
    modules.show(game)
    page = modules.browser
    page.locator(clicked).click()
    page.keyboard.press("3")
    expect(page.get_by_role("radio").nth(2)).to_be_checked()
    page.locator(clicked).click()
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    slider = page.get_by_role("slider", name="How sure are you?")
    expect(slider).to_have_attribute("aria-valuetext", "61 %: 0.7 bits if you are right, 2.9 if not")
    expect(page.get_by_role("radio").nth(2)).to_be_checked()
    page.keyboard.press("Enter")
    modules.wait(state_is("told"))
    assert game.rounds[0].bet == pytest.approx([0.13, 0.13, 0.61, 0.13])


def test_two_views_agree_and_what_python_bets_is_shown(modules: ModuleHost) -> None:
    game = PredictionGame(scored(), PROMPT)
    modules.show(game)
    modules.show(game)
    game.bet(" man", 0.9)
    modules.wait(state_is("told"))
    first, second = (modules.browser.locator(".wb-game").nth(i).inner_text() for i in range(2))
    assert first == second
    assert "man" in first
    assert "you 90.0 %" in first


def test_a_view_that_is_taken_away_leaves_nothing(modules: ModuleHost) -> None:
    modules.show(PredictionGame(scored(), PROMPT))
    modules.browser.evaluate("wb.views[0].controller.abort()")
    assert modules.browser.evaluate("wb.views[0].el.childElementCount") == 0


@pytest.mark.parametrize("width", [320, 700])
def test_nothing_is_cut(modules: ModuleHost, width: int) -> None:
    modules.browser.set_viewport_size({"width": width, "height": 900})
    game = PredictionGame(scored(), PROMPT)
    modules.show(game)
    for _ in range(2):
        assert modules.browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        for box in [one.bounding_box() for one in modules.browser.locator(".wb-game *:visible").all()]:
            assert box is None or box["x"] + box["width"] <= width
        game.bet(0, 0.5)
        modules.wait(state_is("told"))


def test_in_jupyterlab_it_reads_well_in_every_theme(
    open_notebook: Callable[..., NotebookPage], screenshots: Path
) -> None:
    notebook = open_notebook(CELL)
    page = notebook.page
    notebook.run_all()
    box = page.locator(".wb-game").last
    page.wait_for_selector(".wb-game[data-wb-state='open']", timeout=60_000)
    box.locator(".wb-game-text").click()
    for key in ("3", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    expect(box.get_by_role("radio").nth(2)).to_be_checked()
    box.screenshot(path=screenshots / "game-open.png")
    box.get_by_role("button", name="Bet").click()
    page.wait_for_selector(".wb-game[data-wb-state='told']")
    notebook.expect_python("game.rounds[0].bet[2]", "0.6")
    notebook.check_in_every_theme(".wb-game", screenshots / "game")
    page.set_viewport_size({"width": 480, "height": 1400})
    box.screenshot(path=screenshots / "game-narrow.png")
    assert notebook.problems == []
