"""The prompt of a run as its model got it: its tokens, and words where nobody tells."""

from __future__ import annotations

import threading

import pytest

from tests.budget import some
from tests.unit.widgets.fake_session import FakeRun, FakeSession
from tests.unit.widgets.hostile import PAYLOADS
from tests.unit.widgets.recorded_page import Page
from workbench.errors import ModelNotFoundError, UnsupportedFieldError
from workbench.protocol import UserMessage
from workbench.records import Prompt, PromptToken
from workbench.widgets import PromptView, RunFeed, playground
from workbench.widgets.prompt_view import MOST_TOKENS

PATIENCE_S = 10


class Silent(FakeRun):
    """Its prompt is an error."""

    problem: Exception = UnsupportedFieldError("model", "tiny", "one whose provider offers render")

    def render(self) -> Prompt:
        raise self.problem


class Long(FakeRun):
    def render(self) -> Prompt:
        return Prompt("tiny", "", tuple(PromptToken(at, "a", b"a", False) for at in range(MOST_TOKENS + 1)))


def looked_at(run: FakeRun) -> PromptView:
    view = PromptView(run)
    assert view.wait(PATIENCE_S)
    return view


def test_every_token_of_the_prompt_travels_once(page: Page) -> None:
    view = looked_at(FakeRun(prompt=[UserMessage(content="Hello you")]))
    labels = ["<|im_start|>", "user", "\n", "Hello", " you", "<|im_end|>", "\n", "<|im_start|>", "assistant", "\n"]
    assert [label for _, label, _ in page.writes(view, "tokens")[-1]] == labels
    assert [label for _, label, is_control in view.tokens if is_control] == [labels[0], labels[5], labels[7]]
    assert view.message == "10 tokens · 3 control tokens · template 5d3c5d3c5d3c"
    assert repr(view) == "PromptView(tokens=10)"
    before = len(page.messages)
    view.feed.follow(FakeRun("run-2", prompt=[UserMessage(content="Hello you")]))
    assert view.wait(PATIENCE_S)
    assert [one for one in page.messages[before:] if one[0] == view.model_id] == []


def test_a_text_to_continue_is_shown_without_a_template(page: Page) -> None:
    view = looked_at(FakeRun(prompt="The sky is"))
    assert view.message == "3 tokens · 0 control tokens"
    assert view.prompt is not None
    assert view.prompt.text == "The sky is"


def test_a_longer_prompt_is_cut_and_says_so(page: Page) -> None:
    view = looked_at(Long())
    assert len(view.tokens) == MOST_TOKENS
    assert view.message == "2,001 tokens · 0 control tokens · first 2,000 shown"
    assert "1941 more tokens." in view.static_html()


def test_a_prompt_that_nobody_tells_is_told_in_words(page: Page) -> None:
    view = looked_at(Silent())
    assert (view.tokens, view.prompt) == ([], None)
    assert view.message.startswith("The prompt is not available: the model's provider builds it")
    Silent.problem = ModelNotFoundError("tiny", ["other"])
    view.feed.follow(Silent("run-2"))
    assert view.wait(PATIENCE_S)
    assert "The prompt cannot be shown" in view.static_html()


def test_nothing_is_asked_for_while_nobody_looks(page: Page) -> None:
    asked = threading.Event()

    class Asked(FakeRun):
        def render(self) -> Prompt:
            asked.set()
            return super().render()

    view = PromptView(feed=RunFeed(Asked(prompt="Hello")), active=False)
    assert (view.wait(PATIENCE_S), asked.is_set(), view.message) == (True, False, "No run yet.")
    view.active = True
    assert view.wait(PATIENCE_S)
    assert (asked.is_set(), len(view.tokens)) == (True, 1)
    view.feed.report("refused")  # the run that was shown stays
    assert len(view.tokens) == 1


def test_the_playground_looks_while_its_tab_is_shown_and_follows_its_runs(page: Page) -> None:
    opened = playground(FakeSession(tokens_per_s=5000))
    opened.start("One two").wait(PATIENCE_S)
    assert opened.prompt_view.prompt is None
    page.set(opened, tab="prompt")
    assert opened.prompt_view.wait(PATIENCE_S)
    assert [label for _, label, _ in opened.prompt_view.tokens][3:5] == ["One", " two"]
    opened.stream.mode = "completion"
    opened.start("Three").wait(PATIENCE_S)
    assert opened.prompt_view.wait(PATIENCE_S)
    assert [label for _, label, _ in opened.prompt_view.tokens] == ["Three"]
    opened.close()
    assert opened.prompt_view.closed


@pytest.mark.parametrize("payload", some(PAYLOADS[:20], at_least=4))
def test_whatever_a_prompt_says_is_text_in_the_twin(page: Page, payload: str) -> None:
    twin = looked_at(FakeRun(prompt=[UserMessage(content=payload)])).static_html()
    assert not any(tag in twin.lower() for tag in ("<script", "<img", "<svg", "<iframe", "<a ", "<style", "<form"))
