"""Table, inspector, tree and prompt of a run in a blank page: what is drawn and what is sent."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.module_host import ModuleHost
from tests.unit.widgets.fake_session import ANSWER, FakeRun, FakeSession, token, words
from tests.unit.widgets.hostile import PAYLOADS
from workbench.protocol import SystemMessage, UserMessage
from workbench.records import Breakpoint, TokenRecord
from workbench.widgets import PromptView, StreamView, TokenInspector, TokenTable, TokenTree
from workbench.widgets import format as python_format
from workbench.widgets.table_order import SORTABLE


def finished(run: FakeRun) -> FakeRun:
    run.step(100_000)
    return run


def texts(host: ModuleHost, selector: str) -> list[str]:
    return host.browser.locator(selector).all_text_contents()


# -------------------------------------------------------------------------------------------------------- the table


def test_five_thousand_tokens_are_a_table_of_a_few_rows(modules: ModuleHost) -> None:
    run = finished(FakeRun(records=[token(i, f" t{i}") for i in range(5000)]))
    table = TokenTable(run)
    modules.show(table)
    modules.wait("document.querySelectorAll('.wb-instead code').length > 20")
    assert modules.browser.locator("tbody tr").count() < 40
    assert modules.browser.locator("table").get_attribute("aria-rowcount") == "5001"
    modules.browser.locator("table").press("End")
    modules.wait("document.querySelector('tbody').textContent.includes('t4999')")
    assert modules.browser.locator("tbody tr").count() < 40
    assert table.selected == (4999,)


def test_rows_are_selected_by_mouse_and_keyboard_alone_and_in_stretches(modules: ModuleHost) -> None:
    table = TokenTable(finished(FakeRun()))
    modules.show(table)
    row = modules.browser.locator("tr[data-wb-position='2']")
    row.click()
    modules.carry()
    assert table.selected == (2,)
    grid = modules.browser.get_by_role("grid")
    for key, expected in [("ArrowDown", (3,)), ("Shift+ArrowDown", (3, 4)), ("Shift+ArrowDown", (3, 4, 5))]:
        grid.press(key)
        modules.carry()
        assert table.selected == expected
    row.click(modifiers=["ControlOrMeta"])
    modules.carry()
    assert table.selected == (3, 4, 5, 2)
    active = grid.get_attribute("aria-activedescendant")
    assert modules.browser.locator(f"#{active}").get_attribute("data-wb-position") == "2"


def test_a_selection_made_in_python_is_scrolled_to(modules: ModuleHost) -> None:
    table = TokenTable(finished(FakeRun(records=[token(i, f" t{i}") for i in range(500)])))
    modules.show(table)
    table.selected = 400
    modules.wait("document.querySelector('tr.wb-selected')?.dataset.wbPosition === '400'")
    modules.browser.locator("tr.wb-selected").wait_for(state="visible")


def test_the_page_shows_the_rows_that_python_has_whenever_the_order_changes(modules: ModuleHost) -> None:
    texts = [" a", "A", " 😀", "\uff5e", " be", "\n", " a"] * 9
    unknown = TokenRecord(63, 7, "?", b"?", math.nan, 0, math.nan)
    table = TokenTable(
        finished(FakeRun(records=[*(token(i, text) for i, text in enumerate(texts)), unknown])), height=4000
    )
    modules.show(table)
    page_rows = "[...document.querySelectorAll('tr[data-wb-position]')].map((row) => Number(row.dataset.wbPosition))"
    # Which rows they are is compared without a page, for many more queries: tests/javascript/table_order.test.js.
    for query, sort_by, descending in [
        *(("", name, descending) for name in SORTABLE for descending in (False, True)),
        ("rank>1 probability<=50%", "text", True),
        ("no such word", "position", False),
    ]:
        table.query, table.sort_by, table.descending = query, sort_by, descending
        modules.carry()
        assert modules.browser.evaluate(page_rows) == table.rows, (query, sort_by, descending)


def test_sorting_and_filtering_reach_python_and_a_selection_comes_back(modules: ModuleHost) -> None:
    run = finished(FakeRun())
    table = TokenTable(run)
    modules.show(table)
    head = modules.browser.get_by_role("columnheader", name="entropy")
    for direction, first in [("descending", max), ("ascending", min)]:
        head.get_by_role("button").click()
        modules.carry()
        assert head.get_attribute("aria-sort") == direction
        assert table.to_frame()["entropy"].iloc[0] == first(token.entropy for token in run.tokens)
    head.get_by_role("button").click()
    modules.carry()
    assert table.rows == list(range(44))
    modules.browser.get_by_label("Filter").fill("rank>2 t")
    modules.wait("document.querySelector('.wb-table-bar [role=status]').textContent.includes('of 44 tokens')")
    frame = table.to_frame()
    assert len(frame) == modules.browser.locator("tr[data-wb-position]").count() > 0
    assert (frame["rank"] > 2).all()
    table.selected = frame.index[-1:]
    modules.carry()
    assert modules.browser.locator("tr.wb-selected").get_attribute("data-wb-position") == str(frame.index[-1])


# ---------------------------------------------------------------------------------------------------- the inspector


def test_a_filter_that_is_no_comparison_is_said_to_be_none(modules: ModuleHost) -> None:
    view = TokenTable(run=finished(FakeRun()))
    modules.show(view)
    page = modules.browser
    field, said = page.get_by_label("Filter"), page.get_by_role("status")
    field.fill("rank>>3")
    expect(said).to_contain_text("rank>>3 is not a comparison. Write a name, an operator and a number, such as rank>3.")
    expect(field).to_have_attribute("aria-invalid", "true")
    field.fill("rank>1")
    expect(said).to_contain_text("of 44 tokens")
    expect(field).to_have_attribute("aria-invalid", "false")


def test_the_inspector_ranks_the_token_among_its_alternatives(modules: ModuleHost) -> None:
    run = finished(FakeRun())
    inspector = TokenInspector(run)
    modules.show(inspector)
    inspector.feed.selected = 25
    modules.wait("document.querySelectorAll('.wb-sampled, .wb-sampled ~ *').length > 1")
    shares = [float(share.split()[0]) for share in texts(modules, ".wb-share")]
    assert shares == sorted(shares, reverse=True)
    expect(modules.browser.locator(".wb-sampled code")).to_have_text("␣light:")
    expect(modules.browser.locator(".wb-rest")).to_contain_text("These six cover 97.8 %.")


def test_without_recorded_alternatives_the_inspector_says_so(modules: ModuleHost) -> None:
    inspector = TokenInspector(finished(FakeRun(records=[token(0, "x", alternatives=0)])))
    modules.show(inspector)
    inspector.feed.selected = 0
    modules.wait("document.querySelector('.wb-rest')?.textContent.startsWith('No alternatives')")


def test_keys_jump_to_improbable_tokens_and_to_forks(modules: ModuleHost) -> None:
    run, other = finished(FakeRun("run-1")), FakeRun("run-2", texts=[*words(ANSWER)[:7], " bluest"])
    view = StreamView(run=finished(other))
    view.feed.follow(run)
    modules.show(view)
    modules.show(TokenInspector(feed=view.feed))
    assert view.feed.forks == [7]
    assert modules.browser.locator(".wb-fork").get_attribute("data-wb-position") == "7"
    improbable = [record.position for record in run.tokens if record.probability <= 0.25]
    output = modules.browser.locator(".wb-output")
    output.focus()
    for key, expected in [("n", improbable[0]), ("n", improbable[1]), ("p", improbable[0]), ("f", 7), ("F", 7)]:
        output.press(key)
        modules.carry()
        assert view.feed.selected == (expected,)
    expect(modules.browser.locator(".wb-inspector [role=status]")).to_contain_text("Branches fork here.")
    output.press("Enter")
    expect(modules.browser.get_by_role("listbox")).to_be_focused()
    modules.browser.get_by_role("listbox").press("ArrowRight")
    modules.carry()
    assert view.feed.selected == (8,)
    modules.browser.get_by_role("listbox").press("Escape")
    expect(output).to_be_focused()


def test_an_alternative_is_chosen_by_keyboard_and_the_text_goes_on_from_it(modules: ModuleHost) -> None:
    session = FakeSession(tokens_per_s=0)
    view = StreamView(session, prompt="Hello")
    modules.show(view)
    modules.show(TokenInspector(feed=view.feed))
    view.start()
    session.runs[0].step(1000)
    modules.wait("document.querySelector('.wb-stream').dataset.wbState === 'finished'")
    view.feed.selected = 3
    modules.wait("document.querySelectorAll('.wb-sampled, .wb-sampled ~ *').length > 1")
    chosen = view.feed.selected_tokens[0].alternatives[0]
    alternatives = modules.browser.get_by_role("listbox")
    option = alternatives.get_by_role("option").filter(has_text=python_format.visible(chosen.text)).first
    while "wb-active" not in str(option.get_attribute("class")):
        alternatives.press("ArrowDown")
    alternatives.press("Enter")
    modules.wait("document.querySelector('.wb-stream').dataset.wbState !== 'finished'")
    session.runs[1].step(1000)
    modules.wait("document.querySelector('.wb-stream').dataset.wbState === 'finished'")
    assert modules.browser.locator(".wb-token[data-wb-position='3']").text_content() == chosen.text
    expect(modules.browser.locator(".wb-token[data-wb-position='3']")).to_have_class("wb-token wb-selected wb-fork")
    expect(modules.browser.locator(".wb-big")).to_have_text(python_format.visible(chosen.text))
    expect(alternatives).to_be_focused()
    assert view.feed.runs == tuple(session.runs)


def test_the_end_of_the_turn_is_a_row_a_token_and_a_question(modules: ModuleHost, screenshots: Path) -> None:
    run = finished(FakeRun(end=replace(token(44, "<|im_end|>"), is_special=True)))
    view = StreamView(run=run)
    for widget in (view, TokenInspector(feed=view.feed), TokenTable(feed=view.feed)):
        modules.show(widget)
    page = modules.browser
    end = page.locator(".wb-output .wb-special")
    expect(end).to_have_text("<|im_end|>")
    page.get_by_role("grid").press("End")
    modules.carry()
    assert view.feed.selected == (44,)
    expect(page.locator("tr.wb-selected td").first).to_have_text("end")
    expect(page.locator(".wb-inspector h3").first).to_have_text("End token, after 44 tokens")
    expect(page.locator(".wb-sampled code")).to_have_text("<|im_end|>")
    modules.wait("document.querySelectorAll('.wb-alternative').length === 6")
    page.screenshot(path=screenshots / "end.png", full_page=True)
    page.get_by_role("button", name="Control tokens").click()
    expect(end).to_be_hidden()


def test_one_unit_is_named_everywhere_and_a_switch_changes_all_of_it(modules: ModuleHost, screenshots: Path) -> None:
    run = finished(FakeRun())
    view = StreamView(FakeSession(), prompt="Hello")
    view.feed.follow(run)
    view.breakpoints = [Breakpoint(entropy_above=math.log(2))]
    for widget in (view, TokenInspector(feed=view.feed), TokenTable(feed=view.feed)):
        modules.show(widget)
    page = modules.browser
    page.get_by_role("button", name="Pause at").click()
    for unit, most, above in [("bits", "8 bits", "1"), ("nats", "5.5 nats", "0.69315"), ("bits", "8 bits", "1")]:
        page.get_by_role("radio", name=unit).check()
        modules.carry()
        assert view.feed.unit == unit
        expect(page.locator(".wb-legend")).to_contain_text(most)
        expect(page.locator(".wb-big")).to_contain_text(f"{unit} per token")
        expect(page.get_by_role("columnheader", name=f"surprisal, {unit}")).to_have_count(1)
        expect(page.get_by_role("columnheader", name=f"entropy, {unit}")).to_have_count(1)
        expect(page.get_by_label("Entropy above")).to_have_value(above)
        page.screenshot(path=screenshots / f"unit-{unit}.png", full_page=True)
        other = {"bits": "nats", "nats": "bits"}[unit]
        assert f" {other}" not in page.locator("body").inner_text()
    first = page.locator("tr[data-wb-position='0'] td").nth(4)
    expect(first).to_have_text(python_format.fixed(run.tokens[0].surprisal_bits, 2))
    page.get_by_label("Entropy above").fill("2")
    page.get_by_label("Entropy above").press("Tab")
    modules.carry()
    assert view.pauses["entropy_above"] == pytest.approx(2 * math.log(2))


def test_before_a_token_is_chosen_the_most_surprising_ones_are_offered(modules: ModuleHost) -> None:
    run = finished(FakeRun())
    inspector = TokenInspector(run)
    modules.show(inspector)
    worst = max(run.tokens, key=lambda record: -record.logprob)
    option = modules.browser.get_by_role("option").first
    expect(option).to_contain_text(python_format.visible(worst.text))
    option.click()
    modules.carry()
    assert inspector.feed.selected == (worst.position,)


# --------------------------------------------------------------------------------------------------------- the tree


def test_branches_stand_below_the_run_that_they_leave_and_are_chosen_by_keyboard(modules: ModuleHost) -> None:
    start = words(ANSWER)
    runs = [
        finished(FakeRun("run-1", texts=start)),
        finished(FakeRun("run-2", texts=[*start[:5], " early"])),
        finished(FakeRun("run-3", texts=[*start[:20], " late"])),
    ]
    tree = TokenTree(runs)
    modules.show(tree)
    modules.show(StreamView(feed=tree.feed))
    assert texts(modules, ".wb-branch-name") == ["1", "3", "2"]
    expect(modules.browser.locator(".wb-branch[aria-selected=true]")).to_contain_text("at token 21 ␣late")
    tops = "(lines) => lines.map((line) => line.getBoundingClientRect().height)"
    assert modules.browser.locator(".wb-branch-elbow").evaluate_all(tops) == [54, 108]
    branches = modules.browser.get_by_role("listbox", name="Branches")
    branches.press("ArrowDown")
    branches.press("Enter")
    modules.wait("document.querySelector('[role=option][aria-selected=true] .wb-branch-name').textContent === '2'")
    assert tree.feed.run is runs[1]
    assert texts(modules, ".wb-output") == [runs[1].text]
    expect(branches).to_be_focused()


@pytest.mark.parametrize("width", [320, 1090])
def test_a_prompt_is_boxes_of_text_at_every_width(modules: ModuleHost, screenshots: Path, width: int) -> None:
    modules.browser.set_viewport_size({"width": width, "height": 700})
    run = FakeRun(prompt=[SystemMessage(content="Be brief."), UserMessage(content=f"{''.join(PAYLOADS)} {'W' * 200}")])
    view = PromptView(run)
    assert view.wait(60)
    modules.show(view)
    assert modules.browser.locator(".wb-given-lines .wb-given-token").count() == len(view.tokens)
    assert modules.browser.locator(".wb-given-lines .wb-given-control").count() == 5
    assert modules.browser.evaluate("window.wbHit") is None
    assert modules.browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert modules.browser.evaluate("document.documentElement.scrollHeight <= window.innerHeight")
    modules.browser.screenshot(path=screenshots / f"prompt-{width}.png", full_page=True)
