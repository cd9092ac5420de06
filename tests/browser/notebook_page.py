"""A notebook in a real browser, and what a test does with it."""

from __future__ import annotations

import ast
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from tests.browser.jupyterlab import Lab

FAKE_PLAYGROUND = """\
from tests.unit.widgets.fake_session import FakeSession
from workbench.widgets import playground
session = FakeSession(tokens_per_s={tokens_per_s})
pg = playground(session)
pg"""


THEMES = ["JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast"]
CHROMIUM = os.environ.get("WORKBENCH_CHROMIUM", "/usr/bin/chromium")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """The system's Chromium, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


def notebook_of(*cells: str) -> dict[str, Any]:
    """A notebook of code cells that have not been run."""
    code: dict[str, Any] = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    return {
        "cells": [{**code, "id": f"cell-{i}", "source": source} for i, source in enumerate(cells)],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


class NotebookPage:
    """One notebook, open in the browser with its kernel."""

    def __init__(self, page: Page, lab: Lab, name: str) -> None:
        self.page = page
        self.lab = lab
        self.name = name
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("dialog", lambda dialog: dialog.accept())  # leave the page, whatever is not saved
        self.open()

    def open(self) -> None:
        """Load the page, as a person who opens or reloads it."""
        # A workspace of its own: the default one would bring back the notebooks of other tests.
        workspace = self.name.removesuffix(".ipynb")
        self.page.goto(f"{self.lab.url}/lab/workspaces/{workspace}/tree/{self.name}?token={self.lab.token}")
        self.page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.context?.isReady", timeout=60_000)
        self.page.wait_for_function(
            "() => jupyterapp.shell.currentWidget.context.sessionContext.session?.kernel?.status === 'idle'",
            timeout=60_000,
        )
        self.command("application:toggle-left-area") if self._left_area_is_open() else None

    def command(self, name: str, **arguments: Any) -> None:
        self.page.evaluate("([name, args]) => jupyterapp.commands.execute(name, args)", [name, arguments])

    def run_all(self) -> None:
        # Not awaited: a test looks at the page while cells run.
        self.page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")

    def run_again(self) -> None:
        """Run all cells and wait for the new playground; the page may show another one before."""
        self.page.evaluate("() => document.querySelector('.wb-playground')?.setAttribute('data-wb-state', 'replaced')")
        self.run_all()
        self.wait_for("idle", timeout_s=60)

    def save(self) -> None:
        self.command("docmanager:save")

    def theme(self, name: str) -> None:
        self.command("apputils:change-theme", theme=name)
        self.page.wait_for_selector(f"body[data-jp-theme-name='{name}']", state="attached")
        # JupyterLab takes its splash away twice, and complains, where another theme comes before it is gone.
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")

    def serious_findings(self, root: str) -> list[tuple[str, Any]]:
        """What axe finds in a widget of ours; JupyterLab has findings of its own."""
        found = Axe().run(self.page, context=root).response["violations"]
        return [
            (finding["id"], [node["target"] for node in finding["nodes"]])
            for finding in found
            if finding["impact"] in ("serious", "critical")
        ]

    def check_in_every_theme(self, root: str, picture: Path) -> None:
        """Have axe look at a widget in each theme, the light one last, and take a picture named after it."""
        for theme in reversed(THEMES):
            self.theme(theme)
            assert self.serious_findings(root) == []
            name = theme.removeprefix("JupyterLab ").replace(" ", "-").lower()
            self.page.locator(root).last.screenshot(path=picture.with_name(f"{picture.name}-{name}.png"))

    def python(self, expression: str, *, before: str = "") -> str:
        """The repr of an expression in the notebook's kernel."""
        reply = self.page.evaluate(
            """async ([code, expression]) => {
              const kernel = jupyterapp.shell.currentWidget.context.sessionContext.session.kernel;
              const content = { code, silent: true, store_history: false, user_expressions: { value: expression } };
              const done = await kernel.requestExecute(content).done;
              return done.content.user_expressions?.value ?? done.content;
            }""",
            [before, expression],
        )
        assert reply.get("status") == "ok", reply
        return str(reply["data"]["text/plain"])

    def expect_python(self, expression: str, value: str) -> None:
        """Wait until the repr of an expression is this one: the page may send what it shows after a reply is due."""
        deadline = time.monotonic() + 60
        while (found := self.python(expression)) != value:
            assert time.monotonic() < deadline, f"{expression} is {found} instead of {value}"
            self.page.wait_for_timeout(20)

    def python_text(self, expression: str) -> str:
        """A string in the notebook's kernel."""
        value = ast.literal_eval(self.python(expression))
        assert isinstance(value, str)
        return value

    @property
    def playground(self) -> Locator:
        return self.page.locator(".wb-playground").last

    def unfold_sampling(self) -> None:
        """Show the sampling controls of the playground."""
        fold = self.playground.get_by_role("button", name="Sampling")
        if fold.get_attribute("aria-expanded") == "false":
            fold.click()

    def wait_for(self, state: str, *, timeout_s: float = 60.0) -> None:
        """Wait until the playground shows this state of its run."""
        self.page.wait_for_selector(f".wb-playground[data-wb-state='{state}']", timeout=timeout_s * 1000)

    def screenshot(self, path: Path) -> None:
        """A picture of the whole playground; in a low window JupyterLab's bars would cover parts of it."""
        size = self.page.viewport_size
        assert size is not None
        self.page.set_viewport_size({"width": size["width"], "height": 2000})
        self.playground.screenshot(path=path)
        self.page.set_viewport_size(size)

    def _left_area_is_open(self) -> bool:
        return bool(self.page.evaluate("() => !jupyterapp.shell.leftCollapsed"))
