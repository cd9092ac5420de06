"""The playground in a real JupyterLab: what a person does with it, and what Python sees of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.notebook_page import FAKE_PLAYGROUND, THEMES, NotebookPage

Open = Callable[..., NotebookPage]
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "00_playground.ipynb"


@pytest.fixture(scope="module")
def shared(open_notebook: Open) -> NotebookPage:
    return open_notebook(FAKE_PLAYGROUND.format(tokens_per_s=100))


@pytest.fixture
def notebook(shared: NotebookPage) -> Iterator[NotebookPage]:
    """A playground on a fake session, idle: the cell is run again for each test."""
    shared.run_again()
    yield shared
    shared.page.set_viewport_size({"width": 1280, "height": 1100})
    assert shared.problems == []


@contextmanager
def another_run(notebook: NotebookPage) -> Iterator[None]:
    """Wait until another run than the one before is shown and has finished."""
    view = notebook.playground.locator(".wb-stream")
    before = view.get_attribute("data-wb-run")
    yield
    expect(view).not_to_have_attribute("data-wb-run", str(before))
    notebook.wait_for("finished")


def test_run_streams_an_answer_and_fills_the_token_table(notebook: NotebookPage, screenshots: Path) -> None:
    notebook.python("setattr(session, '_tokens_per_s', 20)")
    notebook.playground.locator(".wb-run").click()
    notebook.wait_for("running")
    notebook.screenshot(screenshots / "running-light.png")
    notebook.wait_for("finished")
    expect(notebook.playground.locator(".wb-output")).to_have_text(notebook.python_text("pg.run.text"))
    assert notebook.playground.get_by_role("grid", name="Tokens").get_attribute("aria-rowcount") == "45"
    expect(notebook.playground.locator(".wb-instead code").first).to_be_visible()
    notebook.playground.locator(".wb-token[data-wb-position='25']").click()
    expect(notebook.playground.locator(".wb-sampled ~ *, * ~ .wb-sampled").first).to_be_visible()
    notebook.expect_python("[token.position for token in pg.selected_tokens]", "[25]")
    notebook.screenshot(screenshots / "finished-light.png")


def test_stop_stops_the_run(notebook: NotebookPage, screenshots: Path) -> None:
    notebook.python("setattr(session, '_tokens_per_s', 5)")
    notebook.playground.locator(".wb-run").click()
    notebook.wait_for("running")
    notebook.playground.locator(".wb-token").nth(2).wait_for()
    notebook.playground.locator(".wb-stop").click()
    notebook.wait_for("cancelled")
    notebook.expect_python("pg.run.state", "'cancelled'")
    expect(notebook.playground.locator(".wb-metrics")).to_contain_text("stopped by you")
    notebook.screenshot(screenshots / "stopped-light.png")


def test_what_was_stopped_is_continued_and_said_anew_and_every_answer_is_in_the_tree(
    notebook: NotebookPage, screenshots: Path
) -> None:
    box = notebook.playground
    notebook.python("setattr(session, '_tokens_per_s', 10)")
    box.locator(".wb-run").click()
    box.locator(".wb-token").nth(8).wait_for()
    box.get_by_role("button", name="Pause", exact=True).click()
    notebook.wait_for("paused")
    notebook.expect_python("pg.run.state", "'paused'")
    notebook.screenshot(screenshots / "paused-light.png")
    box.locator(".wb-stop").click()
    notebook.wait_for("cancelled")
    notebook.python("setattr(session, '_tokens_per_s', 200)")
    with another_run(notebook):
        box.get_by_role("button", name="Continue").click()
    notebook.expect_python("len(pg.run.tokens), pg.run.branched_at > 8", "(44, True)")
    with another_run(notebook):
        box.get_by_role("button", name="Regenerate").click()
    notebook.expect_python("len(pg.feed.runs), pg.run.text == session.runs[1].text", "(3, True)")
    # The same words are one branch; another token in the place of one of them makes the second.
    box.locator(".wb-token[data-wb-position='25']").click()
    box.locator(".wb-sampled").wait_for()
    with another_run(notebook):
        box.locator(".wb-alternative:not(.wb-sampled)").first.click()
    notebook.expect_python("pg.run.branched_at, pg.run.tokens[25].text == pg.feed.runs[0].text", "(25, False)")
    box.get_by_role("tab", name="Tree (2)").click()
    expect(box.locator(".wb-branch")).to_have_count(2)
    notebook.screenshot(screenshots / "tree-light.png")
    assert notebook.serious_findings(".wb-playground") == []
    box.locator(".wb-branch").first.click()
    expect(box.locator(".wb-branch-shown .wb-branch-name")).to_have_text("1")
    notebook.expect_python("pg.run is pg.feed.runs[2]", "True")


def test_sorting_filtering_and_selecting_rows_reach_python(notebook: NotebookPage) -> None:
    box = notebook.playground
    box.locator(".wb-run").click()
    notebook.wait_for("finished")
    box.get_by_role("columnheader", name="entropy").get_by_role("button").click()
    box.get_by_label("Filter").fill("rank>1")
    expect(box.locator(".wb-table-bar [role=status]")).to_contain_text("of 44 tokens")
    box.locator("tr[data-wb-position]").first.click()
    frame = "pg.table.to_frame()"
    assert (
        notebook.python(f"bool({frame}['rank'].min() > 1), {frame}['entropy'].is_monotonic_decreasing")
        == "(True, True)"
    )
    notebook.expect_python(f"pg.selected == ({frame}.index[0],)", "True")


def test_a_change_of_theme_leaves_the_rows_of_the_table_where_they_are(notebook: NotebookPage) -> None:
    notebook.playground.locator(".wb-run").click()
    notebook.wait_for("finished")
    notebook.playground.locator(".wb-token[data-wb-position='40']").click()
    row = notebook.playground.locator("tr[data-wb-position='40']")
    for theme in (*THEMES[1:], THEMES[0]):
        notebook.theme(theme)
        expect(row).to_be_in_viewport()


def test_stop_reaches_a_run_that_a_cell_is_waiting_for(open_notebook: Open) -> None:
    waiting = "run = pg.start('Hello')\nrun.wait(60)\nprint(run.state, len(run.tokens) < 44)"
    notebook = open_notebook(FAKE_PLAYGROUND.format(tokens_per_s=2), waiting, "print('the next cell works')")
    notebook.run_all()
    notebook.playground.locator(".wb-token").nth(1).wait_for()
    # The table asks for alternatives in the meantime, and gets them.
    expect(notebook.playground.locator(".wb-instead code").first).to_be_visible()
    notebook.playground.locator(".wb-stop").click()
    notebook.wait_for("cancelled")
    outputs = notebook.page.locator(".jp-RenderedText pre")
    expect(outputs).to_have_text(["cancelled True", "the next cell works"])


def test_the_prompt_is_run_by_keyboard_and_a_slider_changes_the_next_run(notebook: NotebookPage) -> None:
    notebook.unfold_sampling()
    notebook.playground.get_by_label("Temperature", exact=True).fill("1.25")
    prompt = notebook.playground.get_by_label("Prompt", exact=True)
    prompt.fill("Hello")
    prompt.press("Control+Enter")
    notebook.wait_for("finished")
    notebook.expect_python("pg.run.prompt[0].content, pg.run.sampling_params.temperature", "('Hello', 1.25)")


def test_a_change_of_model_is_asked_for_in_the_next_run(notebook: NotebookPage) -> None:
    notebook.playground.get_by_label("Model", exact=True).select_option("exact/smollm2-135m-instruct")
    notebook.playground.locator(".wb-run").click()
    notebook.wait_for("finished")
    notebook.expect_python("pg.model, pg.run.model", "('exact/smollm2-135m-instruct', 'exact/smollm2-135m-instruct')")


def test_two_views_of_one_playground_agree(open_notebook: Open) -> None:
    notebook = open_notebook(FAKE_PLAYGROUND.format(tokens_per_s=100), "pg")
    notebook.run_all()
    expect(notebook.page.locator(".wb-playground[data-wb-state='idle']")).to_have_count(2)
    notebook.playground.get_by_label("Prompt", exact=True).fill("Both")
    notebook.playground.locator(".wb-run").click()
    expect(notebook.page.locator(".wb-playground[data-wb-state='finished']")).to_have_count(2, timeout=20_000)
    texts = notebook.page.locator(".wb-output").all_text_contents()
    assert texts == [notebook.python_text("pg.run.text")] * 2
    prompts = notebook.page.get_by_label("Prompt", exact=True)
    assert [prompts.nth(i).input_value() for i in range(2)] == ["Both", "Both"]


def test_a_reloaded_page_shows_the_finished_run_again(notebook: NotebookPage) -> None:
    notebook.playground.locator(".wb-run").click()
    notebook.wait_for("finished")
    notebook.playground.locator("tr[data-wb-position='40']").click()
    text = notebook.playground.locator(".wb-output").text_content()
    notebook.save()
    notebook.open()
    notebook.wait_for("finished")
    assert notebook.playground.locator(".wb-output").text_content() == text
    expect(notebook.playground.locator(".wb-inspector h3").first).to_have_text("Token 41 of 44")


def test_a_page_opened_in_the_middle_of_a_run_catches_up(notebook: NotebookPage) -> None:
    notebook.python("setattr(session, '_tokens_per_s', 8)")
    notebook.playground.locator(".wb-run").click()
    notebook.wait_for("running")
    notebook.save()
    notebook.open()
    notebook.wait_for("finished")
    assert notebook.playground.locator(".wb-output").text_content() == notebook.python_text("pg.run.text")


def test_running_the_cell_again_replaces_the_playground(notebook: NotebookPage) -> None:
    notebook.run_again()
    expect(notebook.page.locator(".wb-playground")).to_have_count(1)
    notebook.playground.locator(".wb-run").click()
    notebook.wait_for("finished")


@pytest.fixture(params=THEMES)
def theme(notebook: NotebookPage, request: pytest.FixtureRequest) -> Iterator[str]:
    notebook.theme(request.param)
    yield request.param
    notebook.theme(THEMES[0])


def test_every_theme_passes_axe_before_and_after_a_run(notebook: NotebookPage, theme: str, screenshots: Path) -> None:
    assert notebook.serious_findings(".wb-playground") == []
    notebook.playground.locator(".wb-run").click()
    notebook.wait_for("finished")
    notebook.unfold_sampling()
    notebook.playground.get_by_role("radio", name="Greedy").check()
    notebook.playground.get_by_role("button", name="Model card").click()
    notebook.playground.get_by_role("textbox", name="Max tokens").fill("-1")
    notebook.playground.locator("tr[data-wb-position='42']").click()
    expect(notebook.playground.locator(".wb-sampled ~ *, * ~ .wb-sampled").first).to_be_visible()
    assert notebook.serious_findings(".wb-playground") == []
    name = theme.removeprefix("JupyterLab ").replace(" ", "-").lower()
    notebook.screenshot(screenshots / f"details-{name}.png")
    notebook.playground.get_by_role("tab", name="Code").click()
    assert notebook.serious_findings(".wb-playground") == []
    notebook.screenshot(screenshots / f"code-{name}.png")
    notebook.playground.get_by_role("tab", name="Prompt").click()
    expect(notebook.playground.locator(".wb-given-lines .wb-given-control")).to_have_count(3)
    assert notebook.serious_findings(".wb-playground") == []
    notebook.screenshot(screenshots / f"prompt-{name}.png")


def test_a_narrow_column_stacks_the_parts_and_cuts_nothing(notebook: NotebookPage, screenshots: Path) -> None:
    notebook.page.set_viewport_size({"width": 480, "height": 1100})
    notebook.playground.locator(".wb-run").click()
    notebook.wait_for("finished")
    notebook.playground.locator(".wb-token[data-wb-position='25']").click()
    expect(notebook.playground.locator(".wb-sampled ~ *, * ~ .wb-sampled").first).to_be_visible()
    notebook.screenshot(screenshots / "narrow-light.png")
    root = notebook.playground.bounding_box()
    assert root is not None
    parts = (
        ".wb-controls",
        ".wb-stream-main",
        ".wb-inspector",
        ".wb-metrics",
        ".wb-prompt",
        ".wb-inspector .wb-listbox",
    )
    for selector in parts:
        box = notebook.playground.locator(selector).bounding_box()
        assert box is not None
        assert box["x"] >= root["x"]
        assert box["x"] + box["width"] <= root["x"] + root["width"] + 1, selector


@pytest.mark.real_model
@pytest.mark.timeout(300)
def test_the_lesson_streams_the_real_models_answer_and_stops_it(
    open_notebook: Open, screenshots: Path, smollm2_path: Path
) -> None:
    notebook = open_notebook(copy_of=NOTEBOOK)
    notebook.run_all()
    expect(notebook.page.locator(".jp-RenderedText pre", has_text="Paris").first).to_be_visible(timeout=240_000)
    expect(notebook.page.locator(".jp-InputPrompt", has_text="*")).to_have_count(0, timeout=240_000)  # all have run
    notebook.wait_for("finished")
    notebook.playground.get_by_label("Prompt", exact=True).fill("Tell me a very long story about the sea.")
    notebook.unfold_sampling()
    notebook.playground.get_by_role("radio", name="Top-p").check()
    notebook.playground.get_by_role("textbox", name="Max tokens").fill("2000")
    notebook.playground.locator(".wb-run").click()
    notebook.wait_for("running", timeout_s=60)
    notebook.playground.locator(".wb-token").nth(12).wait_for(timeout=120_000)
    notebook.playground.locator(".wb-stop").click()
    notebook.wait_for("cancelled", timeout_s=60)
    rows = int(notebook.playground.get_by_role("grid", name="Tokens").get_attribute("aria-rowcount") or 0)
    assert rows - 1 == int(notebook.python("len(playground.run.tokens)"))
    notebook.screenshot(screenshots / "real-model-light.png")
