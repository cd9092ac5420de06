"""The stream view in a blank page: what is drawn, what is sent, and what its buttons and keys do."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.module_host import ModuleHost
from tests.unit.widgets.fake_session import ANSWER, FakeRun, FakeSession, token, wait_until, words
from workbench.records import Breakpoint, TokenRecord
from workbench.widgets import StreamView, TokenInspector, playground


def finished(run: FakeRun) -> FakeRun:
    run.step(100_000)
    return run


def texts(host: ModuleHost, selector: str) -> list[str]:
    return host.browser.locator(selector).all_text_contents()


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
    before = view.feed._stream._sequence
    run.step(4)
    wait_until(lambda: view.feed._stream._sequence > before)
    modules.drop()
    run.finish()  # of which the page is told the rest alone
    modules.wait("document.querySelector('.wb-stream').dataset.wbState === 'finished'")
    assert texts(modules, ".wb-output") == [run.text]


def test_a_page_that_was_told_the_end_alone_keeps_the_whole_run(modules: ModuleHost) -> None:
    run = FakeRun()
    view = StreamView(run=run)
    modules.show(view)
    run.step(100)
    modules.wait("document.querySelector('.wb-stream').dataset.wbState === 'finished'")
    kept = modules.browser.evaluate("(ref) => wb.model(ref).get('snapshot')", f"anywidget:{view.feed.model_id}")
    assert (kept["state"], kept["tokens"]) == ("finished", view.feed.snapshot["tokens"])


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
        modules.browser.get_by_label("Color", exact=True).select_option(choice)
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
    modules.browser.get_by_role("button", name="Control tokens").click()
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
    expect(modules.browser.locator(".wb-inspector [role=status]")).to_contain_text("Token 1 of 44: The. 98.0 %, rank 1")
    output.press("Escape")
    modules.carry()
    assert view.feed.selected == ()


def test_arrows_up_and_down_walk_from_line_to_line_in_one_column(modules: ModuleHost) -> None:
    words = ANSWER.split() * 3
    run = FakeRun(texts=[word if i == 0 else f" {word}" for i, word in enumerate(words)])
    view = StreamView(run=finished(run))
    modules.show(view)
    output = modules.browser.locator(".wb-output")
    box = """(output, position) => {
      const span = output.querySelector(`[data-wb-position="${position}"]`);
      const { left, right, top } = [...(span.querySelector(".wb-word") ?? span).getClientRects()].at(-1);
      return { left, right, top };
    }"""
    output.focus()
    view.feed.selected = 5
    modules.carry()
    walked = []
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "ArrowUp"):
        output.press(key)
        modules.carry()
        walked.append(view.feed.selected[-1])
    assert walked[2:] == [walked[0], 5]
    places = [output.evaluate(box, position) for position in (5, walked[0], walked[1])]
    assert places[0]["top"] < places[1]["top"] < places[2]["top"]
    line = places[1]["top"] - places[0]["top"]
    assert places[2]["top"] - places[1]["top"] == pytest.approx(line, abs=2)
    middle = (places[0]["left"] + places[0]["right"]) / 2
    assert all(place["left"] - 12 <= middle <= place["right"] + 12 for place in places)
    output.press("ArrowUp")
    modules.carry()
    assert view.feed.selected == (5,)  # there is no line above the first
    output.press("Escape")
    output.press("ArrowUp")
    modules.carry()
    assert view.feed.selected == (len(words) - 1,)


def test_a_tip_says_what_is_known_of_the_token_under_the_pointer(modules: ModuleHost) -> None:
    view = StreamView(run=finished(FakeRun()))
    modules.show(view)
    tip = modules.browser.get_by_role("tooltip")
    modules.browser.locator(".wb-token").nth(3).hover()
    expect(tip).to_be_visible()
    expect(tip).to_have_text("often 98.0 %, rank 1, 0.0 bits, entropy 0.7 bits")
    modules.browser.locator(".wb-prompt, .wb-look").first.hover()
    expect(tip).to_be_hidden()


def test_text_that_reads_from_right_to_left_begins_at_the_right(modules: ModuleHost) -> None:
    view = StreamView(run=finished(FakeRun(texts=["\u05e9\u05dc\u05d5\u05dd", " \u05e2\u05d5\u05dc\u05dd"])))
    modules.show(view)
    output, first = modules.browser.locator(".wb-output"), modules.browser.locator(".wb-token").first
    outer, inner = output.bounding_box(), first.bounding_box()
    assert outer is not None
    assert inner is not None
    assert inner["x"] + inner["width"] > outer["x"] + outer["width"] - 20


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


def test_one_button_runs_and_stops_and_the_next_holds_goes_on_and_continues(modules: ModuleHost) -> None:
    session = FakeSession(tokens_per_s=0)
    modules.show(StreamView(session, prompt="Hello"))
    page = modules.browser
    first, hold = page.locator(".wb-start"), page.locator(".wb-hold")
    expect(hold).to_be_hidden()
    first.click()
    modules.wait("document.querySelector('.wb-stream').dataset.wbState === 'queued'")
    session.runs[0].step(3)
    modules.wait("document.querySelectorAll('.wb-token').length === 3")
    expect(first).to_have_text("StopEsc")
    hold.click()
    modules.wait("document.querySelector('.wb-stream').dataset.wbState === 'paused'")
    expect(page.locator(".wb-metrics [role=status]")).to_have_text("paused")
    expect(hold).to_have_text("Resume")
    page.get_by_label("Prompt", exact=True).press("Control+Enter")
    modules.wait("document.querySelector('.wb-stream').dataset.wbState === 'running'")
    first.click()
    modules.carry()
    session.runs[0].step()
    modules.wait("document.querySelector('.wb-stream').dataset.wbState === 'cancelled'")
    expect(hold).to_have_text("Continue")
    hold.dblclick()  # goes on once
    modules.wait("document.querySelector('.wb-hold').textContent === 'Pause'")
    session.runs[1].step(1000)
    modules.wait("document.querySelector('.wb-stream').dataset.wbState === 'finished'")
    assert texts(modules, ".wb-output") == [session.runs[1].text]
    expect(hold).to_be_hidden()
    page.get_by_role("button", name="Regenerate").click()
    modules.wait("document.querySelector('.wb-start').textContent.startsWith('Stop')")
    assert len(session.runs) == 3
    session.runs[2].step(1000)
    modules.wait("document.querySelector('.wb-stream').dataset.wbState === 'finished'")


def test_a_run_pauses_where_the_form_says_and_the_line_below_tells_why(modules: ModuleHost) -> None:
    session = FakeSession(tokens_per_s=0)
    view = StreamView(session, prompt="Hello")
    modules.show(view)
    page = modules.browser
    page.get_by_role("button", name="Pause at …").click()
    entropy = page.get_by_label("Entropy above")
    entropy.fill("much")
    entropy.blur()
    assert entropy.get_attribute("aria-invalid") == "true"
    expect(page.locator(".wb-pause-reason")).to_have_text("Enter an entropy in bits, 0 or above.")
    entropy.fill("9")
    page.get_by_label("Text", exact=True).fill("blue")
    page.get_by_label("Tool call").check()
    modules.carry()
    assert view.breakpoints == [Breakpoint(entropy_above=6.238325), Breakpoint(text="blue"), Breakpoint(tool_call=True)]
    expect(page.get_by_role("button", name="Pause at … (3)")).to_be_visible()
    view.breakpoints = [Breakpoint(text="considered")]
    modules.carry()
    expect(page.get_by_role("button", name="Pause at … (1)")).to_be_visible()
    page.locator(".wb-run").click()
    modules.carry()
    session.runs[0].step(1000)
    modules.wait("document.querySelector('.wb-stream').dataset.wbState === 'paused'")
    expect(page.locator(".wb-metrics-parts")).to_contain_text("paused: the text “considered”")
    view.close()
    session.runs[0].step()


def test_where_a_model_cannot_pause_there_is_no_button_and_the_form_says_why(modules: ModuleHost) -> None:
    session = FakeSession(tokens_per_s=0)
    session.cannot_pause.add(None)
    view = StreamView(session, prompt="Hello", breakpoints=[Breakpoint(text="blue")])
    modules.show(view)
    page = modules.browser
    page.get_by_role("button", name="Pause at … (1)").click()
    expect(page.locator(".wb-pause-reason")).to_have_text("This model cannot pause: its provider does not support it.")
    expect(page.get_by_label("Entropy above")).to_be_disabled()
    page.get_by_label("Text", exact=True).fill("")  # what was asked of another model can be taken back
    page.get_by_label("Text", exact=True).blur()
    modules.carry()
    assert view.breakpoints == []
    page.locator(".wb-run").click()
    modules.carry()
    session.runs[0].step(3)
    modules.wait("document.querySelector('.wb-stream').dataset.wbState === 'running'")
    expect(page.locator(".wb-hold")).to_be_hidden()
    view.close()
    session.runs[0].step()


def test_an_empty_prompt_is_refused_in_words(modules: ModuleHost) -> None:
    modules.show(StreamView(FakeSession()))
    modules.browser.locator(".wb-run").click()
    modules.wait("!document.querySelector('.wb-error').hidden")
    expect(modules.browser.get_by_role("alert")).to_have_text("Write a prompt first.")


def test_a_kernel_that_does_not_answer_is_said_to_be_busy(modules: ModuleHost) -> None:
    modules.show(StreamView(FakeSession(), prompt="Hello"))
    modules.browser.locator(".wb-run").click()
    expect(modules.browser.get_by_role("alert")).to_contain_text("The kernel is busy")


def test_the_status_line_tells_speed_reuse_and_reason(modules: ModuleHost) -> None:
    modules.show(StreamView(run=finished(FakeRun())))
    expected = "92 tokens/sfirst token 34 ms48 prompt tokens (36 cached)44 generatedperplexity 4.56stopped: end of turn"
    assert texts(modules, ".wb-metrics-parts") == [expected]


def test_a_view_that_is_taken_away_leaves_nothing(modules: ModuleHost) -> None:
    session = FakeSession(tokens_per_s=5000)
    shown = playground(session)
    modules.show(shown)
    modules.browser.evaluate("wb.views[0].controller.abort()")
    shown.start("Hello").wait(60)
    assert shown.feed.wait(60)
    modules.carry()
    assert modules.browser.evaluate("wb.views[0].el.childElementCount") == 0


def test_no_colour_hangs_at_the_end_of_a_line(modules: ModuleHost, screenshots: Path) -> None:
    modules.browser.set_viewport_size({"width": 360, "height": 900})
    run = FakeRun(records=[replace(token(i, word), logprob=-6.0) for i, word in enumerate(words(ANSWER))])
    run.step(1000)
    modules.show(StreamView(run=run))
    coloured = """[...document.querySelectorAll('.wb-output *')]
        .filter((element) => getComputedStyle(element).boxShadow !== 'none')"""
    assert modules.browser.evaluate(f"{coloured}.length") == len(run.tokens)
    assert modules.browser.evaluate(f"{coloured}.every((element) => element.getClientRects().length === 1)")
    modules.browser.screenshot(path=screenshots / "line-ends.png", full_page=True)
