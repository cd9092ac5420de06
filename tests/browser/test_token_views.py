"""The views of a run in a blank page: its text, table, inspector and tree; what is drawn and what is sent."""

from __future__ import annotations

import math

from playwright.sync_api import expect

from tests.browser.module_host import ModuleHost
from tests.unit.widgets.fake_session import ANSWER, FakeRun, FakeSession, token, wait_until, words
from workbench.records import TokenRecord
from workbench.widgets import StreamView, TokenInspector, TokenTable, TokenTree, playground
from workbench.widgets import format as python_format
from workbench.widgets.table_order import SORTABLE


def finished(run: FakeRun) -> FakeRun:
    run.step(100_000)
    return run


def texts(host: ModuleHost, selector: str) -> list[str]:
    return host.browser.locator(selector).all_text_contents()


# ------------------------------------------------------------------------------------------------------- the stream


def test_two_views_of_one_widget_show_the_same_run_as_it_grows(modules: ModuleHost) -> None:
    run = FakeRun()
    view = StreamView(run=run)
    modules.show(view)
    run.step(5)
    modules.wait("document.querySelectorAll('.wb-token').length === 5")
    modules.show(view)
    run.step(1000)
    modules.wait("[...document.querySelectorAll('.wb-stream')].every((el) => el.dataset.wbState === 'finished')")
    assert texts(modules, ".wb-output") == [run.text, run.text]


def test_a_view_that_missed_messages_asks_for_everything(modules: ModuleHost) -> None:
    run = FakeRun()
    view = StreamView(run=run)
    modules.show(view)
    for _ in range(3):
        before = view.feed._stream._sequence
        run.step(4)
        wait_until(lambda before=before: view.feed._stream._sequence > before)  # type: ignore[misc]
        modules.drop()
    run.step()
    modules.wait("document.querySelectorAll('.wb-token').length === 13")
    assert texts(modules, ".wb-output") == [run.text]
    run.end()
    assert view.feed.wait(5)


def test_a_token_is_as_warm_as_it_was_surprising(modules: ModuleHost) -> None:
    records = [
        TokenRecord(i, i, text, text.encode(), -bits * math.log(2), 1, 1.0)
        for i, (text, bits) in enumerate([("sure", 0.1), (" odd", 4.3), (" wild", 8.0)])
    ]
    modules.show(StreamView(run=finished(FakeRun(records=records))))
    strength = "(el) => [el.style.getPropertyValue('--wb-a'), el.style.getPropertyValue('--wb-u')]"
    spans = modules.browser.locator(".wb-token")
    assert [spans.nth(i).evaluate(strength) for i in range(3)] == [["", ""], ["0.260", "2.0px"], ["0.520", "4.0px"]]


def test_the_colour_tells_what_its_legend_says(modules: ModuleHost) -> None:
    records = [TokenRecord(0, 0, "half", b"half", math.log(0.5), 1, 8 * math.log(2)), token(1, " a\n b\u200b")]
    view = StreamView(run=finished(FakeRun(records=records)))
    modules.show(view)
    strength = "(span) => span.style.getPropertyValue('--wb-a')"
    half = modules.browser.locator(".wb-token").first
    for choice, legend, expected in [
        ("probability", "100 %0 %", "0.260"),
        ("entropy", "08 bits", "0.520"),
        ("none", "", ""),
    ]:
        modules.browser.get_by_label("Colour", exact=True).select_option(choice)
        modules.carry()
        assert view.color_by == choice
        assert modules.browser.locator(".wb-legend").inner_text().replace("\n", "") == legend
        assert half.evaluate(strength) == expected
    view.color_by = "surprisal"
    modules.carry()
    assert half.evaluate(strength) == "0.028"


def test_marks_on_white_space_are_seen_and_are_no_part_of_the_text(modules: ModuleHost) -> None:
    end = TokenRecord(1, 2, "<|end|>", b"<|end|>", -0.1, 1, 1.0, is_special=True)
    run = finished(FakeRun(records=[token(0, " a\n b\u200b"), end]))
    modules.show(StreamView(run=run))
    modules.browser.get_by_role("button", name="White space").click()
    marks = modules.browser.locator(".wb-mark").evaluate_all("(marks) => marks.map((mark) => mark.dataset.wbMark)")
    assert marks == ["·", "⏎", "·", "U+200B"]
    assert texts(modules, ".wb-token") == [" a\n b\u200b"]
    expect(modules.browser.locator(".wb-special")).to_be_visible()
    modules.browser.get_by_role("button", name="Special tokens").click()
    expect(modules.browser.locator(".wb-special")).to_be_hidden()


def test_arrow_keys_walk_the_tokens_and_the_inspector_says_them(modules: ModuleHost) -> None:
    view = StreamView(run=finished(FakeRun()))
    inspector = TokenInspector(feed=view.feed)
    modules.show(view)
    modules.show(inspector)
    output = modules.browser.locator(".wb-output")
    output.focus()
    for key, expected in [("ArrowRight", 0), ("ArrowRight", 1), ("End", 43), ("ArrowLeft", 42), ("Home", 0)]:
        output.press(key)
        modules.carry()
        assert view.feed.selected == (expected,)
    expect(modules.browser.locator(".wb-inspector [role=status]")).to_contain_text("Token 0 of 44: The. 98.0 %, rank 1")
    output.press("Escape")
    modules.carry()
    assert view.feed.selected == ()


def test_the_keyboard_runs_and_stops(modules: ModuleHost) -> None:
    session = FakeSession(["word "] * 1000, tokens_per_s=50)
    view = StreamView(session)
    modules.show(view)
    prompt = modules.browser.get_by_label("Prompt", exact=True)
    prompt.fill("Hello there")
    prompt.press("Control+Enter")
    modules.wait("document.querySelector('.wb-stream').dataset.wbState === 'running'")
    assert session.calls[-1]["prompt"][0].content == "Hello there"
    expect(modules.browser.locator(".wb-run")).to_have_count(0)
    prompt.press("Control+Enter")
    modules.carry()
    assert len(session.calls) == 1
    prompt.press("Escape")
    modules.wait("document.querySelector('.wb-stream').dataset.wbState === 'cancelled'")
    expect(modules.browser.locator(".wb-metrics")).to_contain_text("stopped by you")


def test_an_empty_prompt_is_refused_in_words(modules: ModuleHost) -> None:
    modules.show(StreamView(FakeSession()))
    modules.browser.locator(".wb-run").click()
    modules.wait("!document.querySelector('.wb-error').hidden")
    expect(modules.browser.get_by_role("alert")).to_contain_text("write a prompt first")


def test_a_kernel_that_does_not_answer_is_said_to_be_busy(modules: ModuleHost) -> None:
    modules.show(StreamView(FakeSession(), prompt="Hello"))
    modules.browser.locator(".wb-run").click()
    expect(modules.browser.get_by_role("alert")).to_contain_text("The kernel is busy")


def test_the_status_line_tells_speed_reuse_and_reason(modules: ModuleHost) -> None:
    modules.show(StreamView(run=finished(FakeRun())))
    expected = "92 tokens/sfirst token 34 msprompt 48, 36 reusedgenerated 44perplexity 4.56stopped: end of turn"
    assert texts(modules, ".wb-metrics-parts") == [expected]


def test_a_view_that_is_taken_away_leaves_nothing(modules: ModuleHost) -> None:
    session = FakeSession(tokens_per_s=5000)
    shown = playground(session)
    modules.show(shown)
    modules.browser.evaluate("wb.views[0].controller.abort()")
    shown.start("Hello").wait(5)
    assert shown.feed.wait(5)
    modules.carry()
    assert modules.browser.evaluate("wb.views[0].el.childElementCount") == 0


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


def test_the_page_and_python_agree_on_which_rows_are_shown_and_in_which_order(modules: ModuleHost) -> None:
    texts = [" a", "A", " 😀", "\uff5e", " be", "\n", " a"] * 9
    unknown = TokenRecord(63, 7, "?", b"?", math.nan, 0, math.nan)
    table = TokenTable(
        finished(FakeRun(records=[*(token(i, text) for i, text in enumerate(texts)), unknown])), height=4000
    )
    modules.show(table)
    page_rows = "[...document.querySelectorAll('tr[data-wb-position]')].map((row) => Number(row.dataset.wbPosition))"
    queries = [
        "",
        "a",
        "rank>1 probability<=50%",
        "logprob>-1.5",
        "␣a",
        "entropy>=1 position<40",
        "id=7",
        "no such word",
    ]
    for query in queries:
        for sort_by in SORTABLE:
            for descending in (False, True):
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


def test_the_inspector_ranks_the_token_among_its_alternatives(modules: ModuleHost) -> None:
    run = finished(FakeRun())
    inspector = TokenInspector(run)
    modules.show(inspector)
    inspector.feed.selected = 25
    modules.wait("document.querySelectorAll('.wb-sampled, .wb-sampled ~ *').length > 1")
    shares = [float(share.split()[0]) for share in texts(modules, ".wb-share")]
    assert shares == sorted(shares, reverse=True)
    expect(modules.browser.locator(".wb-sampled code")).to_have_text("␣light:")
    expect(modules.browser.locator(".wb-rest")).to_have_text("These six cover 97.8 %.")


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
    expect(modules.browser.locator(".wb-inspector [role=status]")).to_contain_text("Branches part here.")
    output.press("Enter")
    expect(modules.browser.get_by_role("listbox")).to_be_focused()
    modules.browser.get_by_role("listbox").press("ArrowRight")
    modules.carry()
    assert view.feed.selected == (8,)
    modules.browser.get_by_role("listbox").press("Escape")
    expect(output).to_be_focused()


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
    expect(modules.browser.locator(".wb-branch[aria-selected=true]")).to_contain_text("at 20 ␣late")
    tops = "(lines) => lines.map((line) => line.getBoundingClientRect().height)"
    assert modules.browser.locator(".wb-branch-elbow").evaluate_all(tops) == [54, 108]
    branches = modules.browser.get_by_role("listbox", name="Branches")
    branches.press("ArrowDown")
    branches.press("Enter")
    modules.wait("document.querySelector('[role=option][aria-selected=true] .wb-branch-name').textContent === '2'")
    assert tree.feed.run is runs[1]
    assert texts(modules, ".wb-output") == [runs[1].text]
    expect(branches).to_be_focused()
