"""The chat in a blank page and in a real JupyterLab: turns, tokens, and calls that a person decides on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.module_host import ModuleHost
from tests.browser.notebook_page import NotebookPage
from tests.unit.widgets.fake_session import FakeRun, FakeSession
from workbench.protocol import ToolCall, ToolDefinition
from workbench.widgets import ChatView

IDLE = "document.querySelector('.wb-chat').dataset.wbState === 'idle'"
DECIDING = "document.querySelector('.wb-chat').dataset.wbState === 'deciding'"


def get_weather(city: str, days: int = 1) -> str:
    """Tell the weather."""
    return f"{city} is warm for {days} days."


CALL = ToolCall(call_id="c", tool_name="get_weather", arguments={"city": "Rome", "days": 2})


def shown(modules: ModuleHost, *calls: list[ToolCall], tokens_per_s: float = 2000, **options: Any) -> ChatView:
    session = FakeSession(tokens_per_s=tokens_per_s, calls=calls)
    view = ChatView(session, **{"tools": [get_weather], **options})
    modules.show(view)
    return view


def step(view: ChatView, count: int) -> None:
    """Move a run by hand, of a session without a speed."""
    assert isinstance(view.run, FakeRun)
    view.run.step(count)


def write(modules: ModuleHost, text: str, *, until: str = IDLE) -> None:
    box = modules.browser.get_by_label("Message", exact=True)
    box.fill(text)
    box.press("Enter")
    modules.wait(f"document.querySelectorAll('.wb-turn').length > 0 && {until}")


def turns(modules: ModuleHost) -> Locator:
    return modules.browser.locator(".wb-turn")


# ----------------------------------------------------------------------------------------------------- a blank page


def test_enter_sends_and_the_answer_is_drawn_as_tokens(modules: ModuleHost) -> None:
    view = shown(modules)
    write(modules, "Why is the sky blue?")
    assert turns(modules).locator(".wb-said").all_text_contents() == ["Why is the sky blue?"]
    assert view.run is not None
    assert modules.browser.locator(".wb-output").all_text_contents() == [view.run.text]
    expect(modules.browser.get_by_label("Message", exact=True)).to_have_value("")
    expect(modules.browser.get_by_label("Message", exact=True)).to_be_focused()
    modules.browser.locator(".wb-token").nth(25).click()
    modules.wait("document.querySelectorAll('.wb-alternative').length === 6")
    assert view.feed.selected == (25,)


def test_a_new_line_sends_nothing(modules: ModuleHost) -> None:
    view = shown(modules)
    box = modules.browser.get_by_label("Message", exact=True)
    box.fill("one")
    box.press("Shift+Enter")
    box.press("Enter")
    modules.wait(f"document.querySelectorAll('.wb-turn').length > 0 && {IDLE}")
    assert view.messages[0].content == "one\n"


def test_send_becomes_stop_while_the_model_answers(modules: ModuleHost) -> None:
    view = shown(modules, tokens_per_s=0)
    write(modules, "Go on.", until="document.querySelector('.wb-chat').dataset.wbState === 'answering'")
    step(view, 3)
    modules.wait("document.querySelectorAll('.wb-token').length === 3")
    button = modules.browser.locator(".wb-chat-send")
    expect(button).to_contain_text("Stop")
    modules.browser.get_by_label("Message", exact=True).press("Escape")
    modules.carry()
    step(view, 1)
    modules.wait(IDLE)
    expect(button).to_contain_text("Send")
    assert view.run is not None
    assert view.run.state == "cancelled"
    expect(turns(modules).last).to_contain_text("stopped by you")


def test_a_call_shows_its_parse_state_waits_and_runs_when_it_is_approved(modules: ModuleHost) -> None:
    view = shown(modules, [CALL], tokens_per_s=0)
    write(modules, "How is Rome?", until="document.querySelector('.wb-chat').dataset.wbState === 'answering'")
    step(view, 6)
    modules.wait("document.querySelector('.wb-call[data-wb-status=in_progress]') !== null")
    assert isinstance(view.run, FakeRun)
    assert modules.browser.locator(".wb-call-text").text_content() == view.run.call_attempts[0].text
    step(view, 100)
    modules.wait(DECIDING)
    card = modules.browser.locator(".wb-call")
    expect(card.locator("[aria-current]")).to_have_text("success")
    assert card.locator("dt, dd").all_text_contents() == ["city", '"Rome"', "days", "2"]
    expect(modules.browser.locator(".wb-chat > [role=status]")).to_have_text(
        "The model asks to call get_weather. Approve or decline."
    )
    assert len(view.messages) == 2
    card.get_by_role("button", name="Approve and run the call of get_weather").press("Enter")
    modules.wait("document.querySelectorAll('.wb-turn').length === 3")
    step(view, 100)
    modules.wait(f"document.querySelectorAll('.wb-turn').length === 3 && {IDLE}")
    expect(card.locator(".wb-call-result pre")).to_have_text("Rome is warm for 2 days.")
    expect(modules.browser.get_by_label("Message", exact=True)).to_be_focused()
    assert [message.role for message in view.messages] == ["user", "assistant", "ipython", "assistant"]


def test_a_declined_call_is_told_to_the_model(modules: ModuleHost) -> None:
    view = shown(modules, [CALL])
    write(modules, "How is Rome?", until=DECIDING)
    modules.browser.get_by_role("button", name="Decline the call of get_weather").click()
    modules.wait(f"document.querySelectorAll('.wb-turn').length === 3 && {IDLE}")
    assert view.messages[2].content == "The user did not approve this call."
    expect(modules.browser.locator(".wb-call-result pre")).to_have_text("The user did not approve this call.")


def test_the_result_of_a_tool_without_a_function_is_typed_in(modules: ModuleHost) -> None:
    view = shown(modules, [CALL], tools=[ToolDefinition(tool_name="get_weather")])
    write(modules, "How is Rome?", until=DECIDING)
    modules.browser.get_by_label("Result, as no function is here to give it").fill("rain")
    modules.browser.get_by_role("button", name="Send the result").click()
    modules.wait(f"document.querySelectorAll('.wb-turn').length === 3 && {IDLE}")
    assert view.messages[2].content == "rain"


def test_an_earlier_turn_is_edited_and_sent_again(modules: ModuleHost) -> None:
    view = shown(modules)
    for text in ("one", "two"):
        write(modules, text)
        modules.wait(f"document.querySelectorAll('.wb-turn').length === {2 if text == 'one' else 4} && {IDLE}")
    modules.browser.get_by_role("button", name="Edit: one").click()
    box = modules.browser.get_by_label("Edit the message")
    expect(box).to_be_focused()
    box.fill("ONE")
    box.press("Enter")
    modules.wait(f"document.querySelectorAll('.wb-turn').length === 2 && {IDLE}")
    assert view.messages[0].content == "ONE"
    modules.browser.get_by_role("button", name="Regenerate").click()
    modules.wait(f"document.querySelector('[data-wb-run=run-4]') !== null && {IDLE}")
    assert (len(view.messages), view.messages[0].content) == (2, "ONE")


def test_the_tokens_of_an_earlier_answer_are_shown_on_demand(modules: ModuleHost) -> None:
    view = shown(modules)
    for count in (2, 4):
        write(modules, "Hello")
        modules.wait(f"document.querySelectorAll('.wb-turn').length === {count} && {IDLE}")
    expect(turns(modules).nth(3).locator(".wb-output")).to_have_count(1)
    modules.browser.get_by_role("button", name="Tokens", exact=True).click()
    modules.wait("document.querySelectorAll('.wb-turn')[1].querySelector('.wb-token') !== null")
    assert view.feed.run is not None
    assert view.feed.run.id == "run-1"
    expect(turns(modules).nth(3).locator(".wb-said")).to_have_text(str(view.messages[3].content))


def test_how_a_call_came_about_and_the_prompt_open_below_the_answer(modules: ModuleHost) -> None:
    view = shown(modules, [CALL], tokens_per_s=0)
    write(modules, "How is Rome?", until="document.querySelector('.wb-chat').dataset.wbState === 'answering'")
    calls = modules.browser.get_by_role("button", name="How the call came about")
    expect(calls).to_be_hidden()  # no call has begun
    step(view, 5)
    modules.wait("document.querySelectorAll('.wb-call').length === 1")
    calls.click()
    modules.wait("document.querySelectorAll('.wb-scope tbody tr').length === 5")
    step(view, 100)
    modules.wait(f"document.querySelector('.wb-scope [data-wb-state=success]') !== null && {DECIDING}")
    expect(calls).to_have_attribute("aria-expanded", "true")
    modules.browser.get_by_role("button", name="Prompt tokens").press("Enter")
    modules.wait("document.querySelectorAll('.wb-given-lines .wb-given-control').length === 3")
    expect(modules.browser.locator(".wb-scope")).to_be_hidden()
    assert (view.detail, view.microscope.active, view.prompt_view.active) == ("prompt", False, True)


def test_an_alternative_that_is_chosen_takes_the_answer_on_from_there(modules: ModuleHost) -> None:
    view = shown(modules)
    write(modules, "Why is the sky blue?")
    before = view.run
    modules.browser.locator(".wb-token").nth(25).click()
    modules.wait("document.querySelector('.wb-sampled') && document.querySelectorAll('.wb-alternative').length === 6")
    modules.browser.locator(".wb-alternative:not(.wb-sampled)").first.click()
    modules.wait(f"document.querySelector('.wb-turn-answer').dataset.wbRun !== 'run-1' && {IDLE}")
    assert view.run is not None
    assert view.run.parent is before
    assert modules.browser.locator(".wb-output").all_text_contents() == [view.run.text]
    assert len(view.messages) == 2


def test_two_views_of_one_chat_agree_and_a_late_one_has_everything(modules: ModuleHost) -> None:
    view = shown(modules, [CALL])
    write(modules, "How is Rome?", until=DECIDING)
    modules.show(view)
    modules.browser.get_by_role("button", name="Approve and run").last.click()
    everywhere = "[...document.querySelectorAll('.wb-chat')].every((el) => el.dataset.wbState === 'idle')"
    modules.wait(f"document.querySelectorAll('.wb-turn').length === 6 && {everywhere}")
    first, second = (modules.browser.locator(".wb-turns").nth(i).inner_text() for i in range(2))
    assert first == second


def test_the_system_prompt_of_the_page_is_the_next_answers(modules: ModuleHost) -> None:
    view = shown(modules)
    modules.browser.get_by_role("button", name="Settings").click()
    modules.browser.get_by_label("System prompt").fill("Be brief.")
    write(modules, "Hello")
    assert [message.content for message in view.messages[:2]] == ["Be brief.", "Hello"]


@pytest.mark.parametrize("width", [320, 700, 1600])
def test_it_fits_every_width(modules: ModuleHost, screenshots: Path, width: int) -> None:
    modules.browser.set_viewport_size({"width": width, "height": 900})
    shown(modules, [CALL], system="Answer in one sentence.")
    write(modules, "How is Rome?", until=DECIDING)
    modules.browser.screenshot(path=screenshots / f"chat-{width}.png", full_page=True)
    assert modules.browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for selector in (".wb-chat-log", ".wb-chat-composer", ".wb-call", ".wb-inspector"):
        box = modules.browser.locator(selector).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


# ------------------------------------------------------------------------------------------------------- JupyterLab

FAKE_CHAT = """\
from tests.unit.widgets.fake_session import FakeSession
from workbench.protocol import ToolCall
from workbench.widgets import chat
def get_weather(city: str, days: int = 1) -> str:
    "Tell the weather."
    return f"{city} is warm for {days} days."
call = ToolCall(call_id="c", tool_name="get_weather", arguments={"city": "Rome", "days": 2})
session = FakeSession(tokens_per_s=100, calls=[[call], [], [call]])
view = chat(session, system="Answer in one sentence.", tools=[get_weather])
view"""


def test_in_jupyterlab_a_call_is_approved_and_another_declined(
    open_notebook: Callable[..., NotebookPage], screenshots: Path
) -> None:
    notebook = open_notebook(FAKE_CHAT)
    notebook.run_all()
    box = notebook.page.locator(".wb-chat").last
    message = box.get_by_label("Message", exact=True)
    for text, decision in (("How is Rome?", "Approve and run"), ("And tomorrow?", "Decline")):
        message.fill(text)
        message.press("Control+Enter")
        expect(box).to_have_attribute("data-wb-state", "deciding")
        box.get_by_role("button", name=f"{decision} the call").click()
        expect(box).to_have_attribute("data-wb-state", "idle")
    roles = "[message.role for message in view.messages]"
    assert notebook.python(roles).count("ipython") == 2
    told = "[message.content for message in view.messages if message.role == 'ipython']"
    assert notebook.python(told) == "['Rome is warm for 2 days.', 'The user did not approve this call.']"
    box.locator(".wb-token").nth(25).click()
    expect(box.locator(".wb-alternative")).to_have_count(6)
    box.get_by_role("button", name="How the call came about").first.click()
    expect(box.locator(".wb-scope tbody tr[data-wb-state='success']")).to_have_count(1)
    notebook.check_in_every_theme(".wb-chat", screenshots / "chat")
    notebook.save()
    notebook.open()
    expect(box).to_have_attribute("data-wb-state", "idle", timeout=60_000)
    expect(box.locator(".wb-turn")).to_have_count(6)
    assert notebook.problems == []
