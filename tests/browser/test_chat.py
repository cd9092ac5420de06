"""The chat in a blank page and in a real JupyterLab: turns, tokens, and calls that a person decides on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.module_host import ModuleHost
from tests.browser.notebook_page import NotebookPage
from tests.unit.widgets.fake_session import FakeRun, FakeSession, wait_until
from workbench.errors import ShieldViolationError
from workbench.protocol import SafetyViolation, ToolCall, ToolDefinition, ViolationLevel
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


def show_tokens(modules: ModuleHost, answer: int = -1) -> None:
    """Choose the token view of an answer, by its place among them."""
    modules.browser.locator(".wb-turn-answer").nth(answer).get_by_role("radio", name="Tokens").check()
    modules.wait(f"[...document.querySelectorAll('.wb-turn-answer')].at({answer}).querySelector('.wb-token') !== null")


# ----------------------------------------------------------------------------------------------------- a blank page


def test_enter_sends_and_the_answer_can_be_read_as_text_and_as_tokens(modules: ModuleHost) -> None:
    view = shown(modules)
    write(modules, "Why is the sky blue?")
    assert view.run is not None
    assert turns(modules).locator(".wb-said").all_text_contents() == ["Why is the sky blue?", view.run.text]
    assert modules.browser.locator(".wb-output").count() == 0
    expect(modules.browser.get_by_label("Message", exact=True)).to_have_value("")
    expect(modules.browser.get_by_label("Message", exact=True)).to_be_focused()
    show_tokens(modules)
    assert modules.browser.locator(".wb-output").all_text_contents() == [view.run.text]
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
    expect(card.locator("[aria-current]")).to_have_text("waiting for you")
    assert card.locator("dt, dd").all_text_contents() == ["city", '"Rome"', "days", "2"]
    expect(modules.browser.locator(".wb-chat > [role=status]")).to_have_text(
        "The model wants to call get_weather. Approve or decline."
    )
    assert len(view.messages) == 2
    card.get_by_role("button", name="Approve and run the call to get_weather").press("Enter")
    modules.wait("document.querySelectorAll('.wb-turn').length === 3")
    step(view, 100)
    modules.wait(f"document.querySelectorAll('.wb-turn').length === 3 && {IDLE}")
    expect(card.locator(".wb-call-result pre")).to_have_text("Rome is warm for 2 days.")
    expect(card.locator("[aria-current]")).to_have_text("ran")
    expect(modules.browser.get_by_label("Message", exact=True)).to_be_focused()
    assert [message.role for message in view.messages] == ["user", "assistant", "ipython", "assistant"]


def test_a_declined_call_is_told_to_the_model(modules: ModuleHost) -> None:
    view = shown(modules, [CALL])
    write(modules, "How is Rome?", until=DECIDING)
    modules.browser.get_by_role("button", name="Decline the call to get_weather").click()
    modules.wait(f"document.querySelectorAll('.wb-turn').length === 3 && {IDLE}")
    assert view.messages[2].content == "The user did not approve this call."
    expect(modules.browser.locator(".wb-call-result pre")).to_have_text("The user did not approve this call.")
    expect(modules.browser.locator(".wb-call [aria-current]")).to_have_text("declined")


def test_a_function_that_raises_is_told_as_failed(modules: ModuleHost) -> None:
    def get_weather(city: str, days: int = 1) -> str:
        raise LookupError(f"no {city}")

    shown(modules, [CALL], tools=[get_weather])
    write(modules, "How is Rome?", until=DECIDING)
    modules.browser.get_by_role("button", name="Approve and run").click()
    modules.wait(f"document.querySelectorAll('.wb-turn').length === 3 && {IDLE}")
    expect(modules.browser.locator(".wb-call [aria-current]")).to_have_text("failed")
    expect(modules.browser.locator(".wb-call-result pre")).to_have_text("LookupError: no Rome")


def test_a_refused_answer_is_told_with_its_shield_and_its_category(modules: ModuleHost) -> None:
    facts = {"category": "S9", "name": "Weapons", "probability": 0.93}
    violation = SafetyViolation(violation_level=ViolationLevel.error, metadata=facts)
    session = FakeSession(
        ["I", " am", " fine."], tokens_per_s=2000, error=ShieldViolationError("words", violation, "answer")
    )
    modules.show(ChatView(session, shields=["words"]))
    expect(modules.browser.locator(".wb-chat-summary")).to_contain_text("Shields: words")
    write(modules, "How are you?")
    told = "Shield words refused this answer: category S9 (Weapons), probability 0.93. The rest was withheld."
    expect(modules.browser.locator(".wb-turn .wb-message")).to_have_text(told)
    expect(modules.browser.locator(".wb-turn-answer .wb-turn-head")).to_contain_text("refused by words")
    expect(modules.browser.locator(".wb-output")).to_have_text("I am fine.")


def test_the_result_of_a_tool_without_a_function_is_typed_in(modules: ModuleHost) -> None:
    view = shown(modules, [CALL], tools=[ToolDefinition(tool_name="get_weather")])
    write(modules, "How is Rome?", until=DECIDING)
    modules.browser.get_by_label("This tool has no function. Enter its result.").fill("rain")
    modules.browser.get_by_role("button", name="Send result").click()
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
    show_tokens(modules)
    show_tokens(modules, 0)
    expect(turns(modules).nth(1).get_by_role("radio", name="Tokens")).to_be_focused()
    assert view.feed.run is not None
    assert view.feed.run.id == "run-1"
    expect(turns(modules).nth(3).locator(".wb-said")).to_have_text(str(view.messages[3].content))


def test_how_a_call_came_about_and_the_prompt_open_below_the_answer(modules: ModuleHost) -> None:
    view = shown(modules, [CALL], tokens_per_s=0)
    write(modules, "How is Rome?", until="document.querySelector('.wb-chat').dataset.wbState === 'answering'")
    calls = modules.browser.get_by_role("button", name="Tool-call tokens")
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
    show_tokens(modules)
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


MARKDOWN = """\
## Steps
1. **Install** `python`
   - from *the* site
2. Run

```python
print("<b>hi</b>")
```

> Or [read](https://docs.example) first.

| a | b |
|---|--:|
| 1 | 2 |
"""


def answered(modules: ModuleHost, text: str, **options: Any) -> ChatView:
    """A chat whose model has written a text."""
    view = ChatView(FakeSession([text[i : i + 4] for i in range(0, len(text), 4)], **{"tokens_per_s": 2000, **options}))
    modules.show(view)
    return view


def test_an_answer_is_formatted_once_it_has_ended(modules: ModuleHost, screenshots: Path) -> None:
    modules.browser.set_viewport_size({"width": 480, "height": 1100})
    view = answered(modules, MARKDOWN)
    write(modules, "How?")
    answer = modules.browser.locator(".wb-turn-answer .wb-md")
    expect(answer.get_by_role("heading", name="Steps")).to_be_visible()
    assert answer.locator("ol > li").count() == 2
    assert answer.locator("ol ul em").text_content() == "the"
    assert answer.locator("pre code").text_content() == 'print("<b>hi</b>")'
    assert answer.locator("blockquote").text_content() == "Or read (https://docs.example) first."
    assert answer.locator("td").all_text_contents() == ["1", "2"]
    assert modules.browser.locator("a, b").filter(has_text="hi").count() == 0
    assert "monospace" in answer.locator("pre code").evaluate("(code) => getComputedStyle(code).fontFamily")
    modules.browser.evaluate(
        "Object.defineProperty(navigator, 'clipboard', { value: { writeText: (text) => { window.wbCopied = text; } } })"
    )
    answer.get_by_role("button", name="Copy").press("Enter")
    modules.wait("window.wbCopied !== undefined")
    assert modules.browser.evaluate("window.wbCopied") == 'print("<b>hi</b>")'
    modules.browser.locator(".wb-turn-head").get_by_role("button", name="Copy").press("Enter")
    modules.wait("window.wbCopied.startsWith('##')")
    assert modules.browser.evaluate("window.wbCopied") == MARKDOWN == view.messages[-1].content
    modules.browser.screenshot(path=screenshots / "chat-reading-480.png", full_page=True)
    assert modules.browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_tokens_stream_until_the_answer_ends_and_stay_where_one_is_selected(modules: ModuleHost) -> None:
    view = answered(modules, MARKDOWN, tokens_per_s=0)
    write(modules, "How?", until="document.querySelector('.wb-chat').dataset.wbState === 'answering'")
    step(view, 12)
    modules.wait("document.querySelectorAll('.wb-token').length === 12")
    modules.browser.get_by_role("radio", name="Reading").check()
    modules.wait("document.querySelector('.wb-md ol li') !== null")
    step(view, 4)
    modules.wait("document.querySelector('.wb-md ol ul') !== null")
    modules.browser.get_by_role("radio", name="Tokens").check()
    modules.browser.locator(".wb-token").nth(3).click()
    step(view, 1000)
    modules.wait(IDLE)
    assert view.view == "tokens"
    expect(modules.browser.locator(".wb-output")).to_be_visible()
    modules.browser.get_by_role("radio", name="Reading").check()
    modules.wait("document.querySelector('.wb-md table') !== null")
    assert view.view == "auto"
    expect(modules.browser.get_by_role("radio", name="Reading")).to_be_focused()


def test_versions_of_an_answer_are_walked_by_keyboard(modules: ModuleHost) -> None:
    view = shown(modules)
    write(modules, "Hello")
    modules.browser.get_by_role("button", name="Regenerate").press("Enter")
    modules.wait(f"document.querySelector('[data-wb-run=run-2]') !== null && {IDLE}")
    head = modules.browser.get_by_role("group", name="Versions of the answer")
    expect(head).to_contain_text("2 of 2")
    expect(head.get_by_role("button", name="Next version")).to_be_disabled()
    head.get_by_role("button", name="Previous version").press("Enter")
    modules.wait("document.querySelector('[data-wb-run=run-1]') !== null")
    expect(head).to_contain_text("1 of 2")
    assert view.run is not None
    assert view.run.id == "run-1"
    expect(head.get_by_role("button", name="Next version")).to_be_focused()
    head.get_by_role("button", name="Next version").press("Enter")
    modules.wait("document.querySelector('[data-wb-run=run-2]') !== null")


def test_a_new_chat_is_begun_and_undone(modules: ModuleHost) -> None:
    view = shown(modules, system="Be brief.")
    begin = modules.browser.get_by_role("button", name="New chat", exact=True)
    expect(begin).to_be_disabled()
    write(modules, "Hello")
    begin.press("Enter")
    modules.wait("document.querySelectorAll('.wb-turn').length === 0")
    expect(modules.browser.get_by_label("Message", exact=True)).to_be_focused()
    expect(modules.browser.locator(".wb-chat-empty")).to_have_text("No messages yet.")
    modules.browser.get_by_role("button", name="Undo new chat").press("Enter")
    modules.wait("document.querySelectorAll('.wb-turn').length === 2")
    assert len(view.messages) == 3


def test_tools_are_listed_in_the_settings_and_the_choice_is_made_by_keyboard(
    modules: ModuleHost, screenshots: Path
) -> None:
    view = shown(modules, system="Be brief.")
    modules.browser.get_by_role("button", name="Settings").press("Enter")
    tool = modules.browser.locator(".wb-tools li")
    expect(tool).to_contain_text("Tell the weather.")
    tool.get_by_role("button", name="Parameters of get_weather").press("Enter")
    expect(tool.locator("pre")).to_contain_text('"city"')
    choice = modules.browser.get_by_role("radiogroup", name="Tool choice")
    expect(choice.get_by_role("radio", name="Auto")).to_be_checked()
    choice.get_by_role("radio", name="Auto").press("ArrowRight")
    modules.wait("document.querySelector('.wb-chat') !== null")
    assert view.tool_choice == "required"
    choice.get_by_role("radio", name="Required").press("ArrowRight")
    modules.carry()
    assert view.tool_choice == "none"
    expect(modules.browser.locator(".wb-chat-summary")).to_have_text("System: Be brief. · Tools: off")
    modules.browser.screenshot(path=screenshots / "chat-settings.png", full_page=True)


def test_the_height_of_the_conversation_is_changed_by_keyboard_and_by_dragging(modules: ModuleHost) -> None:
    view = shown(modules)
    write(modules, "Hello")
    log, edge = modules.browser.locator(".wb-chat-log"), modules.browser.get_by_role("separator")
    before = log.bounding_box()
    assert before is not None
    for _ in range(10):
        edge.press("ArrowDown")
    modules.carry()
    assert view.height == round(before["height"]) + 240
    modules.show(view)
    assert modules.browser.locator(".wb-chat-log").last.evaluate("(log) => log.offsetHeight") == view.height
    box = edge.first.bounding_box()
    assert box is not None
    modules.browser.mouse.move(box["x"] + 20, box["y"] + 4)
    modules.browser.mouse.down()
    modules.browser.mouse.move(box["x"] + 20, box["y"] - 96, steps=4)
    modules.browser.mouse.up()
    modules.carry()
    assert view.height == round(before["height"]) + 140
    edge.first.dblclick()
    modules.carry()
    assert view.height == 0


def test_the_context_is_metered_and_its_end_is_warned_of(modules: ModuleHost) -> None:
    view = shown(modules)
    write(modules, "Hello")
    meter = modules.browser.get_by_role("meter", name="Context used")
    assert view.run is not None
    used = 48 + view.run.usage.generated_tokens
    expect(meter).to_have_text(f"{used} of 8,192 tokens")
    view.context = {"used": 8000, "length": 8192}
    modules.carry()
    expect(meter).to_have_text("8,000 of 8,192 tokens. Only 192 left")


def test_an_empty_message_is_answered_in_the_page(modules: ModuleHost) -> None:
    view = shown(modules)
    box = modules.browser.get_by_label("Message", exact=True)
    box.press("Enter")
    expect(modules.browser.locator(".wb-chat-problem")).to_have_text("Write a message first.")
    box.press_sequentially("H")
    expect(modules.browser.locator(".wb-chat-problem")).to_be_hidden()
    assert view.messages == []


@pytest.mark.parametrize("width", [320, 480, 700, 1600])
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


FORMATTED_CHAT = """\
from tests.unit.widgets.fake_session import FakeSession
from workbench.widgets import chat
text = {text!r}
def get_weather(city: str, days: int = 1) -> str:
    "Tell the weather."
    return city
session = FakeSession([text[i : i + 4] for i in range(0, len(text), 4)], tokens_per_s=400)
view = chat(session, tools=[get_weather])
view"""


def test_in_jupyterlab_answers_are_formatted_have_versions_and_survive_a_reload(
    open_notebook: Callable[..., NotebookPage], screenshots: Path
) -> None:
    notebook = open_notebook(FORMATTED_CHAT.format(text=MARKDOWN))
    notebook.run_all()
    box = notebook.page.locator(".wb-chat").last
    message = box.get_by_label("Message", exact=True)
    message.fill("How?")
    message.press("Control+Enter")
    expect(box.locator(".wb-md table")).to_be_visible()
    box.get_by_role("button", name="Regenerate").press("Enter")
    versions = box.get_by_role("group", name="Versions of the answer")
    expect(versions).to_contain_text("2 of 2")
    previous = versions.get_by_role("button", name="Previous version")
    expect(previous).to_be_enabled()  # the answer has ended
    previous.press("Enter")
    expect(versions).to_contain_text("1 of 2")
    notebook.expect_python("view.run.id", "'run-1'")
    box.get_by_role("button", name="Settings").press("Enter")
    box.get_by_role("button", name="Parameters of get_weather").press("Enter")
    box.get_by_role("radio", name="Auto").press("ArrowRight")
    expect(box.get_by_role("radio", name="Required")).to_be_checked()
    box.get_by_role("separator").press("PageDown")
    expect(box.get_by_role("separator")).to_be_focused()
    notebook.expect_python("view.tool_choice, view.height > 0", "('required', True)")
    notebook.python("None", before="view.height = 640")
    notebook.check_in_every_theme(".wb-chat", screenshots / "chat-reading")
    notebook.save()
    notebook.open()
    expect(box.locator(".wb-md table")).to_be_visible(timeout=60_000)
    expect(versions).to_contain_text("1 of 2")
    box.get_by_role("button", name="New chat").press("Enter")
    expect(box.locator(".wb-turn")).to_have_count(0)
    box.get_by_role("button", name="Undo new chat").press("Enter")
    expect(box.locator(".wb-turn")).to_have_count(2)
    assert notebook.problems == []


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
    wait_until(lambda: notebook.python(roles).count("ipython") == 2)
    told = "[message.content for message in view.messages if message.role == 'ipython']"
    notebook.expect_python(told, "['Rome is warm for 2 days.', 'The user did not approve this call.']")
    box.get_by_role("radio", name="Tokens").last.check()
    box.locator(".wb-token").nth(25).click()
    expect(box.locator(".wb-alternative")).to_have_count(6)
    box.get_by_role("button", name="Tool-call tokens").first.click()
    expect(box.locator(".wb-scope tbody tr[data-wb-state='success']")).to_have_count(1)
    notebook.check_in_every_theme(".wb-chat", screenshots / "chat")
    notebook.save()
    notebook.open()
    expect(box).to_have_attribute("data-wb-state", "idle", timeout=60_000)
    expect(box.locator(".wb-turn")).to_have_count(6)
    assert notebook.problems == []
