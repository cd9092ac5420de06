"""The layers view in a blank page and in a real JupyterLab: its grid, its keys, and what it computes when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.module_host import ModuleHost
from tests.browser.notebook_page import FAKE_PLAYGROUND, NotebookPage
from tests.browser.test_saved_notebooks import SAVED, reopen_without_kernel, twins
from tests.unit.widgets.fake_insides import LAYERS, FakeInsides
from tests.unit.widgets.fake_session import FakeRun, FakeSession, token, wait_until
from tests.unit.widgets.hostile import PAYLOADS
from workbench.widgets import LayersView, playground
from workbench.widgets.format import percent, visible

CELL = """\
from tests.unit.widgets.fake_session import FakeRun
from workbench.widgets import LayersView
run = FakeRun()
run.step(1000)
view = LayersView(run)
view"""
DRAWN = "document.querySelectorAll('.wb-layers-cell[data-wb-layer]').length"
WAITING = "document.querySelectorAll('.wb-layers-cell.wb-waiting').length"
ALL_THERE = f"{DRAWN} > 0 && {WAITING} === 0"
SAID = ".wb-layers-said .wb-layers-cell"


def finished(run: FakeRun) -> FakeRun:
    run.step(100_000)
    return run


def long_run(count: int) -> FakeRun:
    return finished(FakeRun(records=[token(i, f" t{i}") for i in range(count)]))


def insides(run: FakeRun) -> FakeInsides:
    assert run.inspector is not None
    assert run.inspector.insides is not None
    return run.inspector.insides


def shown(modules: ModuleHost, view: LayersView) -> LayersView:
    modules.show(view)
    modules.wait(ALL_THERE)
    return view


def grid(modules: ModuleHost) -> Locator:
    return modules.browser.get_by_role("grid", name="Most probable token after each layer")


def cell(modules: ModuleHost, position: int, layer: int) -> Locator:
    return modules.browser.locator(f"[data-wb-position='{position}'][data-wb-layer='{layer}']")


def positions(modules: ModuleHost) -> list[int]:
    """Those of the columns that are drawn."""
    cells = modules.browser.locator(SAID)
    found: list[int] = cells.evaluate_all("(all) => all.map((one) => Number(one.dataset.wbPosition))")
    return found


def test_each_cell_has_the_most_probable_token_and_is_marked_where_it_was_said(modules: ModuleHost) -> None:
    run = finished(FakeRun())
    view = shown(modules, LayersView(run))
    for position in range(6):
        column = view.columns[position]
        expect(modules.browser.locator(SAID).nth(position)).to_have_text(visible(run.tokens[position].text))
        for layer, values in enumerate(column.cells):
            drawn = cell(modules, position, layer)
            expect(drawn).to_have_text(visible(values.words[0].text))
            is_hit = values.words[0].token_id == column.token_id
            assert ("wb-hit" in str(drawn.get_attribute("class"))) is is_hit
            mark = drawn.evaluate("(one) => getComputedStyle(one, '::after').content")
            assert ("●" in mark) is is_hit
    rows = modules.browser.locator(".wb-layers-row").evaluate_all("(all) => all.map((one) => one.offsetTop)")
    assert rows == sorted(rows)
    names = modules.browser.locator(".wb-layers-name").all_text_contents()
    assert names == ["layer", *map(str, range(LAYERS)), "said"]


def test_a_cell_is_shaded_by_its_probability_in_both_themes(modules: ModuleHost) -> None:
    view = shown(modules, LayersView(finished(FakeRun())))
    shade = "(one) => Number(getComputedStyle(one).backgroundColor.match(/[\\d.]+(?=\\)$)/)[0])"
    for scheme in ("light", "dark"):
        modules.browser.evaluate("(scheme) => document.body.style.color = scheme === 'dark' ? '#eee' : '#111'", scheme)
        modules.browser.wait_for_selector(".wb-layers[data-wb-scheme='dark']") if scheme == "dark" else None
        for position in (0, 3, 5):
            for layer, values in enumerate(view.columns[position].cells):
                found = cell(modules, position, layer).evaluate(shade)
                assert found == pytest.approx(0.55 * values.words[0].probability, abs=0.01), (scheme, position, layer)


def test_a_cell_is_chosen_by_click_and_told_with_its_words_and_its_course(modules: ModuleHost) -> None:
    run = finished(FakeRun())
    view = shown(modules, LayersView(run))
    page = modules.browser
    expect(page.locator(".wb-layers-detail h3")).to_have_text("No cell chosen")
    cell(modules, 2, 3).click()
    modules.wait("document.querySelectorAll('.wb-layers-words tbody tr').length > 4")
    assert (view.feed.selected, view.layer) == ((2,), 3)
    expect(page.locator(".wb-layers-detail h3")).to_have_text("Token 3, after layer 3")
    values = view.columns[2].cells[3]
    words = page.locator(".wb-layers-words tbody tr")
    for place, word in enumerate(values.words):
        expect(words.nth(place)).to_have_text(f"{place + 1}{visible(word.text)}{percent(word.probability)}")
    own = page.locator(".wb-layers-own")  # its rank is beyond the words shown
    expect(own).to_have_text(f"{values.rank:,}{visible(' is')}said{percent(values.probability)}")
    expect(page.locator(".wb-layers-cell-said")).to_contain_text(f"“␣is”, which was said, has rank {values.rank:,}")
    rank, probability = page.locator(".wb-layers-line").all()
    for line, start in (
        (rank, f"Rank of “␣is” after layers 0 to {LAYERS - 1}: "),
        (probability, "Probability of “␣is” after "),
    ):
        assert str(line.get_attribute("aria-label")).startswith(start)
    box = rank.bounding_box()
    assert box is not None
    rank.click(position={"x": box["width"] * 44 / 300, "y": 30})  # the left end of the axis
    modules.carry()
    assert (view.feed.selected, view.layer) == ((2,), 0)
    expect(page.locator(".wb-layers-cell.wb-chosen")).to_have_attribute("data-wb-layer", "0")
    page.locator(SAID).nth(4).click()  # what was said has no layer of its own
    modules.carry()
    assert (view.feed.selected, view.layer) == ((4,), 0)


def test_the_grid_is_walked_by_keyboard(modules: ModuleHost) -> None:
    view = shown(modules, LayersView(long_run(300)))
    steps: list[tuple[str, int | None, int | None]] = [
        ("ArrowRight", 0, None),
        ("ArrowUp", 0, LAYERS - 2),
        ("ArrowRight", 1, LAYERS - 2),
        ("End", 299, LAYERS - 2),
        ("ArrowRight", 299, LAYERS - 2),
        ("ArrowDown", 299, None),
        ("Home", 0, None),
        ("Control+Home", 0, 0),
        ("Control+End", 299, None),
        ("Escape", None, None),
    ]
    for key, position, layer in steps:
        grid(modules).press(key)
        modules.carry()
        assert view.feed.selected == (() if position is None else (position,)), key
        assert view.layer == layer, key
    grid(modules).press("Home")
    grid(modules).press("PageDown")
    modules.carry()
    (paged,) = view.feed.selected
    assert 3 < paged < 20
    active = grid(modules).get_attribute("aria-activedescendant")
    chosen = modules.browser.locator(f"#{active}")
    expect(chosen).to_have_attribute("data-wb-position", str(paged))
    expect(chosen).to_have_attribute("aria-selected", "true")
    grid(modules).press("PageUp")
    modules.carry()
    assert view.feed.selected == (0,)


def test_five_thousand_tokens_are_a_grid_of_a_few_columns_and_only_those_are_computed(modules: ModuleHost) -> None:
    run = long_run(5000)
    view = shown(modules, LayersView(run))
    page = modules.browser
    assert page.evaluate(DRAWN) < 30 * LAYERS
    assert grid(modules).get_attribute("aria-colcount") == "5001"
    for key, first in (("End", 4999), ("Home", 0)):
        grid(modules).press(key)
        modules.wait(f"{ALL_THERE} && document.querySelector('[data-wb-position=\"{first}\"]') !== null")
        assert page.evaluate(DRAWN) < 30 * LAYERS
    view.feed.selected = 2500
    modules.wait(f"{ALL_THERE} && document.querySelector('.wb-chosen')?.dataset.wbPosition === '2500'")
    drawn = positions(modules)
    assert drawn == list(range(drawn[0], drawn[0] + len(drawn)))  # in the order of the text
    assert len(view.columns) < 120
    for step in range(-3, 4):  # as a hand scrolls
        page.locator(".wb-layers-scroller").evaluate("(one, by) => { one.scrollLeft += by; }", step * 170)
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        drawn = positions(modules)
        assert drawn == list(range(drawn[0], drawn[0] + len(drawn)))


def test_a_frame_takes_less_than_50_ms_of_the_processor_with_5000_tokens_and_30_layers(modules: ModuleHost) -> None:
    modules.browser.set_viewport_size({"width": 1440, "height": 900})
    run = long_run(5000)
    insides(run).layers = 30
    shown(modules, LayersView(run))
    chromium = modules.browser.context.new_cdp_session(modules.browser)
    chromium.send("Performance.enable", {"timeDomain": "threadTicks"})  # however busy the machine is

    def spent_ms() -> float:
        metrics = chromium.send("Performance.getMetrics")["metrics"]
        return 1000 * next(float(one["value"]) for one in metrics if one["name"] == "TaskDuration")

    before = spent_ms()
    modules.browser.evaluate(
        """async () => {
          const scroller = document.querySelector(".wb-layers-scroller");
          for (let i = 0; i < 20; i += 1) {  // each time all columns are other ones
            scroller.scrollLeft = ((i * 7919) % 5000) * 76;
            for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
          }
        }"""
    )
    assert (spent_ms() - before) / 20 < 50
    assert modules.browser.evaluate(DRAWN) > 15 * 30


def test_columns_come_while_the_run_goes_on_and_the_grid_follows_them(modules: ModuleHost, screenshots: Path) -> None:
    run = FakeRun(records=[token(i, f" t{i}") for i in range(60)])
    view = LayersView(run)
    modules.show(view)
    page = modules.browser
    expect(page.locator(".wb-layers-progress")).to_have_text("No tokens yet.")
    expect(page.locator(".wb-layers-columns")).to_be_hidden()
    for count in (2, 20, 40):
        run.step(count - len(run.tokens))
        modules.wait(f"{ALL_THERE} && document.querySelector('[data-wb-position=\"{count - 1}\"]') !== null")
        expect(page.locator(SAID).last).to_be_in_viewport()
    said = page.locator(".wb-layers-progress")
    modules.wait("document.querySelector('.wb-layers-progress').textContent.includes('as it comes')")
    expect(said).to_have_text("Computing the logit lens of each token as it comes …")
    page.screenshot(path=screenshots / "layers-live.png", full_page=True)
    page.locator(".wb-layers-scroller").evaluate("(one) => { one.scrollLeft = 0; }")
    run.step(15)
    modules.wait(f"document.querySelector('.wb-layers').dataset.wbColumns === '55' && {ALL_THERE}")
    assert positions(modules)[0] == 0  # whoever looks back is left there
    run.pause()
    modules.wait("document.querySelector('.wb-layers-progress').textContent === ''")
    assert insides(run).most_computing == 1


def test_nothing_is_computed_while_the_view_is_hidden_or_out_of_sight(modules: ModuleHost) -> None:
    run = finished(FakeRun())
    view = shown(modules, LayersView(run))
    page = modules.browser
    hide = "(one) => { one.style.display = 'none'; }"
    page.locator(".wb-layers").evaluate(hide)
    wait_for_span(modules, view, (0, 0))
    asked = len(insides(run).asked)
    view.feed.follow(other := finished(FakeRun("run-2")))
    modules.carry()
    assert (view.wait(60), view.columns, insides(other).asked) == (True, {}, [])
    page.locator(".wb-layers").evaluate("(one) => { one.style.display = ''; }")
    modules.wait(ALL_THERE)
    assert insides(other).asked != []
    assert len(insides(run).asked) == asked
    page.locator(".wb-layers").evaluate("(one) => { one.style.marginTop = '5000px'; }")
    wait_for_span(modules, view, (0, 0))


def wait_for_span(modules: ModuleHost, view: LayersView, expected: tuple[int, int]) -> None:
    def is_there() -> bool:
        modules.carry()
        span = view._span
        return span is not None and (span.start, span.stop) == expected

    wait_until(is_there)


def test_a_lens_that_is_missing_says_why_and_keeps_the_focus(modules: ModuleHost) -> None:
    view = shown(modules, LayersView(finished(FakeRun())))
    page = modules.browser
    page.get_by_role("radio", name="Jacobian lens").check()
    modules.wait("document.querySelector('.wb-layers-refused').textContent !== ''")
    expect(page.locator(".wb-layers-refused")).to_have_text("No Jacobian lens of tiny has been fitted.")
    expect(page.get_by_role("radio", name="Jacobian lens")).to_be_disabled()
    expect(page.get_by_role("radio", name="Logit lens")).to_be_checked()
    expect(page.get_by_role("radio", name="Logit lens")).to_be_focused()
    assert view.kind == "logit"
    modules.wait(ALL_THERE)


def test_the_other_lens_shows_its_own_numbers(modules: ModuleHost) -> None:
    run = finished(FakeRun())
    insides(run).jacobian = None
    view = shown(modules, LayersView(run))
    page = modules.browser
    view.feed.selected = 3
    modules.carry()
    expect(page.locator(".wb-layers-note")).to_contain_text("as if it were the last one")
    page.get_by_role("radio", name="Jacobian lens").check()
    modules.wait(f"document.querySelector('.wb-layers-note').textContent.includes('on average') && {ALL_THERE}")
    values = view.columns[3].cells[2]
    title = f"{visible(values.words[0].text)} {percent(values.words[0].probability)}; said: rank {values.rank:,}"
    expect(cell(modules, 3, 2)).to_have_attribute("title", title)


def test_an_error_is_announced_in_words(modules: ModuleHost) -> None:
    run = finished(FakeRun())
    run.inspector = None  # type: ignore[assignment]
    modules.show(LayersView(run))
    modules.wait("document.querySelector('.wb-layers-error').textContent !== ''")
    expect(modules.browser.get_by_role("alert")).to_have_text(
        "The layers cannot be read: only a model in this process can be looked into."
    )


def test_the_first_token_of_a_reading_has_no_column(modules: ModuleHost) -> None:
    run = FakeSession(tokens_per_s=5000).reading("One two three")
    assert run.wait(60)
    shown(modules, LayersView(run))
    assert positions(modules) == [1, 2]
    grid(modules).press("Home")
    modules.carry()
    expect(modules.browser.locator(".wb-layers-detail h3")).to_have_text(f"Token 2, after layer {LAYERS - 1}")


def test_in_the_playground_it_has_a_tab_of_its_own(modules: ModuleHost) -> None:
    opened = playground(FakeSession(tokens_per_s=5000))
    modules.show(opened)
    opened.feed.follow(finished(FakeRun()))
    modules.wait("document.querySelectorAll('.wb-token').length === 44")
    assert opened.layers.columns == {}
    modules.browser.get_by_role("tab", name="Layers").click()
    modules.wait(ALL_THERE)
    assert opened.tab == "layers"
    modules.browser.locator(".wb-token[data-wb-position='40']").click()
    modules.wait("document.querySelector('.wb-layers-cell.wb-chosen')?.dataset.wbPosition === '40'")
    cell(modules, 38, 2).click()
    modules.carry()
    assert opened.selected == (38,)
    expect(modules.browser.locator(".wb-inspector h3").first).to_have_text("Token 39 of 44")


@pytest.mark.parametrize("width", [320, 1090])
def test_it_fits_every_width_whatever_a_model_says(modules: ModuleHost, screenshots: Path, width: int) -> None:
    modules.browser.set_viewport_size({"width": width, "height": 900})
    records = [token(i, text) for i, text in enumerate(["W" * 300, "שלום", *PAYLOADS])]
    view = shown(modules, LayersView(finished(FakeRun(records=records))))
    view.feed.selected = 0
    modules.wait("document.querySelectorAll('.wb-layers-words tbody tr').length > 4")
    assert modules.browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert modules.browser.evaluate("window.wbHit") is None
    for part in (".wb-layers-legend", ".wb-layers-detail", ".wb-layers-line >> nth=0", ".wb-layers-words"):
        box = modules.browser.locator(part).bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width, part
    modules.browser.screenshot(path=screenshots / f"layers-{width}.png", full_page=True)


# ------------------------------------------------------------------------------------------------------- JupyterLab


def test_in_jupyterlab_the_grid_grows_with_the_answer_and_passes_axe_in_every_theme(
    open_notebook: Callable[..., NotebookPage], screenshots: Path
) -> None:
    notebook = open_notebook(FAKE_PLAYGROUND.format(tokens_per_s=20))
    notebook.run_all()
    notebook.wait_for("idle", timeout_s=60)
    box = notebook.playground
    box.get_by_role("tab", name="Layers").click()
    box.locator(".wb-run").click()
    expect(box.locator(".wb-layers-cell.wb-hit").first).to_be_visible(timeout=60_000)
    assert box.get_attribute("data-wb-state") == "running"
    notebook.screenshot(screenshots / "layers-in-lab.png")
    notebook.wait_for("finished")
    table = box.get_by_role("grid", name="Most probable token after each layer")
    table.press("End")
    table.press("ArrowUp")
    notebook.expect_python("pg.selected, pg.layers.layer", f"((43,), {LAYERS - 2})")
    expect(box.locator(".wb-layers-words tbody tr").nth(4)).to_be_visible()
    notebook.check_in_every_theme(".wb-layers", screenshots / "layers")
    assert notebook.problems == []


def test_in_jupyterlab_it_is_stored_as_html_and_reopened_as_it_was(open_notebook: Callable[..., NotebookPage]) -> None:
    notebook = open_notebook(CELL)
    notebook.run_all()
    box = notebook.page.locator(".wb-layers").last
    table = box.get_by_role("grid", name="Most probable token after each layer")
    expect(box.locator(".wb-layers-cell.wb-hit").first).to_be_visible(timeout=60_000)
    expect(box.locator(".wb-layers-cell.wb-waiting")).to_have_count(0)
    table.press("Home")
    expect(box.locator(".wb-layers-words tbody tr").nth(4)).to_be_visible()
    words = box.locator(".wb-layers-words tbody").inner_text()
    notebook.expect_python("view.wait(60)", "True")
    notebook.save()
    assert any("Logit lens, computed" in twin for twin in twins(notebook))
    reopen_without_kernel(notebook)
    expect(box.locator(".wb-notice")).to_have_text(SAVED)
    expect(box.locator(SAID).first).to_have_text("The")
    expect(box.locator(".wb-layers-detail h3")).to_have_text(f"Token 1, after layer {LAYERS - 1}")
    assert box.locator(".wb-layers-words tbody").inner_text() == words
    expect(box.get_by_role("radio", name="Jacobian lens")).to_be_disabled()
    table.press("ArrowRight")
    expect(box.locator(".wb-layers-detail h3")).to_have_text(f"Token 2, after layer {LAYERS - 1}")
    expect(box.locator(".wb-layers-words tbody tr").first).to_contain_text("sky")
    assert notebook.serious_findings(".wb-layers") == []
    assert notebook.problems == []
