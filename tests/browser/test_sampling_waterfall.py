"""The waterfall in a blank page and in a real JupyterLab: one draw, seen through changing distributions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.module_host import ModuleHost
from tests.browser.notebook_page import FAKE_PLAYGROUND, NotebookPage
from tests.unit.widgets.fake_session import FakeRun, FakeSession, token
from tests.unit.widgets.hostile import PAYLOADS
from workbench.protocol import SamplingParams, SamplingStrategy
from workbench.records import Alternative, SamplingTrace, TokenRecord
from workbench.widgets import SamplingControls, SamplingWaterfall, playground
from workbench.widgets import format as python_format

TOP_P = SamplingParams(strategy=SamplingStrategy.top_p, temperature=0.7, top_p=0.9)
AT = 25
PATIENCE_S = 60


def finished(**options: Any) -> FakeRun:
    run = FakeRun(sampling_params=TOP_P, **options)
    run.step(100_000)
    return run


def shown(modules: ModuleHost, waterfall: SamplingWaterfall) -> None:
    assert waterfall.wait(PATIENCE_S)
    modules.carry()


# ----------------------------------------------------------------------------------------------------- a blank page


def test_every_candidate_has_a_bar_at_every_stage_and_what_was_cut_stays_visible(modules: ModuleHost) -> None:
    waterfall = SamplingWaterfall(finished(), position=AT)
    modules.show(waterfall)
    shown(modules, waterfall)
    page = modules.browser
    expect(page.get_by_role("heading")).to_have_text("How token 26 was chosen")
    assert page.locator(".wb-fall-stage").all_text_contents() == ["Raw", "Temperature 0.7", "Top-p 0.9"]
    assert page.locator(".wb-fall-table tbody tr").count() == 9
    assert page.locator(".wb-fall-chosen th").all_text_contents() == ["␣light:picked"]
    cut = page.locator(".wb-fall-cut")
    assert cut.count() > 3
    expect(cut.first).to_have_text("cut")
    expect(page.locator(".wb-fall-foot")).to_contain_text("Move the number to sample again.")
    mass = page.locator(".wb-fall-removed").all_text_contents()
    assert mass[:2] == ["", ""]
    assert mass[2] == f"{python_format.percent(waterfall.picture['stages'][2]['removed'])} cut"


def test_a_bar_is_as_long_as_its_share_is_of_the_largest(modules: ModuleHost) -> None:
    waterfall = SamplingWaterfall(finished(), position=AT)
    modules.show(waterfall)
    shown(modules, waterfall)
    measure = "(bars) => bars.map((bar) => [bar.offsetWidth / bar.parentElement.offsetWidth, bar.offsetHeight])"
    bars = modules.browser.locator(".wb-fall-table td:not(.wb-fall-cut) .wb-fill").evaluate_all(measure)
    picture = waterfall.picture
    shares = [share for _, _, row in picture["rows"] for share in row if share] + picture["others"]["shares"][:2]
    assert [length for length, _ in bars] == pytest.approx([share / max(shares) for share in shares], abs=0.02)
    assert {height for _, height in bars} == {12}


def test_the_line_stands_in_the_stretch_of_the_token_that_it_hits(modules: ModuleHost) -> None:
    waterfall = SamplingWaterfall(finished(), position=AT)
    modules.show(waterfall)
    for number in (None, 0.0, 0.3, 0.999):
        waterfall.number = number
        shown(modules, waterfall)
        line = modules.browser.locator(".wb-fall-line").bounding_box()
        hit = modules.browser.locator(".wb-fall-hit").bounding_box()
        assert line is not None
        assert hit is not None
        assert hit["x"] - 2 <= line["x"] + line["width"] / 2 <= hit["x"] + hit["width"] + 2


def test_sliders_move_the_candidates_and_not_the_line(modules: ModuleHost) -> None:
    controls = SamplingControls(TOP_P)
    waterfall = SamplingWaterfall(finished(), controls=controls, position=AT)
    modules.show(controls)
    modules.show(waterfall)
    shown(modules, waterfall)
    where = "document.querySelector('.wb-fall-line').style.left"
    before = modules.browser.evaluate(where)
    modules.browser.get_by_role("textbox", name="Temperature").fill("1.6")
    modules.carry()
    shown(modules, waterfall)
    assert modules.browser.locator(".wb-fall-stage").all_text_contents()[1] == "Temperature 1.6"
    assert modules.browser.evaluate(where) == before
    expect(modules.browser.locator(".wb-fall-said")).to_contain_text("With these settings, the same random number")
    modules.browser.get_by_role("radio", name="Greedy").check()
    modules.carry()
    shown(modules, waterfall)
    expect(modules.browser.locator(".wb-fall-line")).to_be_hidden()
    expect(modules.browser.get_by_role("slider", name="Random number")).to_be_disabled()


def test_the_number_is_moved_by_keyboard_and_given_back(modules: ModuleHost) -> None:
    waterfall = SamplingWaterfall(finished(), position=AT)
    modules.show(waterfall)
    shown(modules, waterfall)
    drawn = waterfall.picture["number"]
    slider = modules.browser.get_by_role("slider", name="Random number")
    back = modules.browser.get_by_role("button", name="Use the run's number")
    expect(back).to_be_disabled()
    slider.press("Home")
    modules.carry()
    shown(modules, waterfall)
    assert waterfall.number == 0
    slider.press("ArrowRight")
    modules.carry()
    shown(modules, waterfall)
    assert waterfall.number == 0.001
    picked = python_format.visible(waterfall.picture["chosen"][1])
    assert slider.get_attribute("aria-valuetext") == f"0.0010, picks {picked}"
    expect(modules.browser.get_by_role("status")).to_contain_text(
        f"The random number 0.0010 picks “{picked}”; the run has"
    )
    back.click()
    modules.carry()
    shown(modules, waterfall)
    assert waterfall.picture["number"] == drawn
    expect(slider).to_be_focused()


def test_two_views_agree_and_a_view_that_comes_late_has_everything(modules: ModuleHost) -> None:
    waterfall = SamplingWaterfall(finished(), position=AT)
    modules.show(waterfall)
    waterfall.number = 0.2
    shown(modules, waterfall)
    modules.show(waterfall)
    first, second = (modules.browser.locator(".wb-waterfall").nth(i).inner_text() for i in range(2))
    assert first == second


def test_without_a_token_and_without_logits_there_are_only_words(modules: ModuleHost) -> None:
    class Gone(FakeRun):
        def sampling_trace(self, *_: Any, **__: Any) -> SamplingTrace:
            raise ValueError("no longer kept")

    run = Gone()
    run.step(1000)
    waterfall = SamplingWaterfall(run)
    modules.show(waterfall)
    said = modules.browser.get_by_role("status")
    expect(said).to_have_text("Select a token to see what each sampling step left to choose from.")
    waterfall.feed.selected = 2
    shown(modules, waterfall)
    expect(said).to_have_text("How this token was chosen cannot be shown: no longer kept.")
    expect(modules.browser.locator(".wb-fall-table")).to_be_hidden()
    expect(modules.browser.locator(".wb-fall-axis")).to_be_hidden()


def test_whatever_a_candidate_is_called_it_is_text(modules: ModuleHost) -> None:
    others = tuple(Alternative(1000 + i, text, text.encode(), -4.0, 2) for i, text in enumerate(PAYLOADS[1:]))
    records = [TokenRecord(0, 5, PAYLOADS[0], PAYLOADS[0].encode(), -1.0, 1, 1.0, others)]
    waterfall = SamplingWaterfall(finished(records=records), position=0, rows=50)
    waterfall.sampling_params = SamplingParams(strategy=SamplingStrategy.top_p, temperature=1.0, top_p=1.0)
    modules.show(waterfall)
    shown(modules, waterfall)
    names = modules.browser.locator(".wb-fall-table tbody code").all_text_contents()
    assert {python_format.visible(text) for text in PAYLOADS} <= set(names)
    assert modules.browser.evaluate("window.wbHit") is None
    assert modules.browser.locator(".wb-waterfall").locator("script, img, svg, iframe, a, object, form").count() == 0


def test_in_the_playground_it_has_a_tab_of_its_own(modules: ModuleHost) -> None:
    opened = playground(FakeSession(tokens_per_s=5000))
    modules.show(opened)
    opened.feed.follow(finished(records=[token(i, f" t{i}") for i in range(9)]))
    modules.wait("document.querySelectorAll('.wb-token').length === 9")
    expect(modules.browser.locator(".wb-waterfall")).to_be_hidden()
    modules.browser.get_by_role("tab", name="Waterfall").click()
    modules.carry()
    assert opened.tab == "waterfall"
    opened.selected = 4
    modules.carry()
    shown(modules, opened.waterfall)
    expect(modules.browser.locator(".wb-waterfall")).to_contain_text("How token 5 was chosen")


@pytest.mark.parametrize("width", [320, 700, 1600])
def test_it_fits_every_width_and_only_the_table_scrolls(modules: ModuleHost, width: int) -> None:
    modules.browser.set_viewport_size({"width": width, "height": 900})
    waterfall = SamplingWaterfall(finished(), position=AT)
    waterfall.sampling_params = SamplingParams(
        strategy=SamplingStrategy.top_k, temperature=1.2, top_k=5, repetition_penalty=1.2
    )
    modules.show(waterfall)
    shown(modules, waterfall)
    assert modules.browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for selector in (".wb-fall-plane", ".wb-fall-foot", ".wb-fall-scroller"):
        box = modules.browser.locator(selector).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


# ------------------------------------------------------------------------------------------------------- JupyterLab


def test_in_jupyterlab_the_waterfall_follows_the_sliders_with_the_same_draw(
    open_notebook: Callable[..., NotebookPage], screenshots: Path
) -> None:
    notebook = open_notebook(FAKE_PLAYGROUND.format(tokens_per_s=1000))
    notebook.run_all()
    notebook.wait_for("idle", timeout_s=60)
    box = notebook.playground
    notebook.unfold_sampling()
    box.get_by_role("textbox", name="Temperature").fill("1.0")
    box.locator(".wb-run").click()
    notebook.wait_for("finished")
    box.get_by_role("tab", name="Waterfall").click()
    box.locator(f".wb-token[data-wb-position='{AT}']").click()
    expect(box.locator(".wb-fall-said")).to_contain_text("The random number", timeout=60_000)
    number = notebook.python("pg.waterfall.trace.number")
    box.get_by_role("textbox", name="Temperature").fill("0.4")
    expect(box.locator(".wb-fall-stage").nth(1)).to_have_text("Temperature 0.4")
    expect(box.locator(".wb-fall-said")).to_contain_text("With these settings, the same random number")
    notebook.expect_python("pg.waterfall.trace.number", number)
    notebook.check_in_every_theme(".wb-waterfall", screenshots / "waterfall")
    box.get_by_role("slider", name="Random number").press("Home")
    expect(box.locator(".wb-fall-said")).to_contain_text("The random number 0.0000 picks “")
    notebook.expect_python("pg.waterfall.number", "0.0")
    notebook.save()
    notebook.open()
    notebook.wait_for("finished")
    expect(box.locator(".wb-fall-said")).to_contain_text("The random number 0.0000 picks “")
    assert notebook.problems == []
