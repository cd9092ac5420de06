"""Settings that are changed in the page before the kernel has answered an earlier change, and the next request."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Locator, expect

from tests.browser.module_host import ModuleHost
from tests.browser.notebook_page import FAKE_PLAYGROUND, NotebookPage
from tests.unit.widgets.fake_answers import MODELS, AnsweringSession
from tests.unit.widgets.fake_session import FakeSession
from workbench.protocol import ToolDefinition
from workbench.widgets import ChatView, CompareView, ReadView, SamplingControls, StreamView, playground

EXACT, PLAIN = "exact/smollm2-135m-instruct", "smollm2-135m-instruct"

HOLD = """\
import time
from workbench.widgets.base import LOCK
with LOCK:
    print("held", flush=True)
    time.sleep(3)"""


def twice(root: Locator, label: str, first: str, second: str) -> None:
    """Change a text box a second time before the first change is answered."""
    box = root.get_by_label(label, exact=True)
    for typed in (first, second):
        box.fill(typed)
        box.blur()


def choose_twice(root: Locator) -> None:
    for value in (EXACT, PLAIN):
        root.get_by_label("Model", exact=True).select_option(value)


def test_the_playground_runs_what_it_shows(modules: ModuleHost) -> None:
    session = FakeSession(tokens_per_s=5000)
    modules.show(playground(session, prompt="Hello"))
    root = modules.browser.locator(".wb-playground")
    root.get_by_role("button", name="Sampling").click()
    root.get_by_role("button", name="Pause at …").click()
    modules.carry()
    twice(root, "Temperature", "0.5", "0.9")
    root.get_by_label("Preset").select_option("Creative")
    twice(root, "Max tokens", "8", "9")
    choose_twice(root)
    twice(root, "Text", "red", "blue")
    for name in ("Completion", "Chat", "Completion"):
        root.get_by_role("radio", name=name).check()
    twice(root, "Prompt", "One", "Two")
    root.locator(".wb-run").click()
    modules.carry()
    (call,) = session.calls
    assert (call["method"], call["prompt"], call["model"]) == ("completion", "Two", PLAIN)
    assert (call["sampling_params"].temperature, call["sampling_params"].max_tokens) == (1.1, 9)
    assert [one.text for one in call["breakpoints"]] == ["blue"]


def test_the_chat_answers_with_the_settings_that_it_shows(modules: ModuleHost) -> None:
    session = FakeSession(tokens_per_s=5000)
    view = ChatView(session, tools=[ToolDefinition(tool_name="now", description="The time.")])
    modules.show(view)
    root = modules.browser.locator(".wb-chat")
    root.get_by_role("button", name="Settings").click()

    def change(temperature: str, system: str) -> None:
        twice(root, "Temperature", "0.5", temperature)
        choose_twice(root)
        for name in ("Required", "Auto", "None"):
            root.get_by_role("radio", name=name).check()
        twice(root, "System prompt", "Shout.", system)

    change("0.9", "Be brief.")
    root.get_by_label("Message", exact=True).fill("Hello")
    root.get_by_label("Message", exact=True).press("Enter")
    modules.wait("document.querySelector('.wb-chat').dataset.wbState === 'idle'")
    change("0.8", "Be kind.")
    root.get_by_role("button", name="Regenerate").click()
    modules.wait("document.querySelectorAll('.wb-versions').length === 1")
    assert [call["sampling_params"].temperature for call in session.calls] == [0.9, 0.8]
    assert [call["prompt"][0].content for call in session.calls] == ["Be brief.", "Be kind."]
    assert [call["model"] for call in session.calls] == [PLAIN] * 2
    assert [call["tool_choice"] for call in session.calls] == ["none", "none"]


def test_a_comparison_runs_the_sides_that_it_shows(modules: ModuleHost) -> None:
    session = AnsweringSession()
    modules.show(CompareView(session, "Why?", models=MODELS))
    for letter, tokens in (("A", "5"), ("B", "6")):
        side = modules.browser.get_by_role("group", name=f"Side {letter}")
        side.get_by_role("button", name="Sampling").click()
        twice(side, "Max tokens", "99", tokens)
    twice(modules.browser.locator(".wb-compare-form"), "Prompt", "One", "Two")
    modules.browser.locator(".wb-run").click()
    modules.carry()
    assert [call["sampling_params"].max_tokens for call in session.calls] == [5, 6]
    assert [call["prompt"][0].content for call in session.calls] == ["Two", "Two"]


def test_texts_are_read_with_the_model_that_is_shown(modules: ModuleHost) -> None:
    session = FakeSession(tokens_per_s=5000)
    modules.show(ReadView(session))
    root = modules.browser.locator(".wb-read")
    choose_twice(root)
    twice(root, "Text", "One", "Two")
    root.locator(".wb-run").click()
    modules.carry()
    assert [(call["model"], call["prompt"]) for call in session.calls] == [(PLAIN, "Two")]


def test_controls_in_another_cell_are_those_of_the_run(modules: ModuleHost) -> None:
    session, controls = FakeSession(tokens_per_s=5000), SamplingControls()
    view = StreamView(
        session, prompt="Hello", settings=lambda: {"model": None, "sampling_params": controls.value, "logprobs": None}
    )
    modules.show(view)
    modules.show(controls)
    twice(modules.browser.locator(".wb-controls"), "Temperature", "0.5", "0.9")
    modules.browser.locator(".wb-run").click()
    modules.carry()
    assert [call["sampling_params"].temperature for call in session.calls] == [0.9]


def test_in_jupyterlab_a_run_that_was_asked_for_while_the_kernel_is_busy_has_the_last_settings(
    open_notebook: Callable[..., NotebookPage],
) -> None:
    notebook = open_notebook(FAKE_PLAYGROUND.format(tokens_per_s=1000))
    notebook.run_again()
    notebook.unfold_sampling()
    expect(notebook.playground.get_by_label("Temperature", exact=True)).to_be_visible()
    notebook.page.evaluate(
        """(code) => {
          const kernel = jupyterapp.shell.currentWidget.context.sessionContext.session.kernel;
          const future = kernel.requestExecute({ code });
          return new Promise((done) => {
            future.onIOPub = (message) => message.header.msg_type === "stream" && done();
          });
        }""",
        HOLD,
    )
    twice(notebook.playground, "Temperature", "0.5", "0.9")
    choose_twice(notebook.playground)
    notebook.playground.locator(".wb-run").click()
    notebook.wait_for("finished")
    run = "session.calls[-1]['model'], session.calls[-1]['sampling_params'].temperature"
    assert notebook.python(run) == f"('{PLAIN}', 0.9)"
    assert notebook.python("pg.sampling_params.temperature") == "0.9"
    assert notebook.playground.get_by_label("Temperature", exact=True).input_value() == "0.90"
    assert notebook.problems == []
