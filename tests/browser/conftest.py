"""A real Chromium, and a real JupyterLab on loopback that one session of tests shares.

Screenshots go to the folder that WORKBENCH_SCREENSHOTS names, else to a temporary one.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.jupyterlab import Lab, running_lab
from tests.browser.module_host import ModuleHost
from tests.browser.notebook_page import NotebookPage, notebook_of, running_chromium
from tests.unit.widgets.recorded_page import recorded_page

expect.set_options(timeout=20_000)  # a machine that runs other tests beside these is slow


_running: list[Browser] = []
_profiles: list[BrowserContext] = []
_at_the_end = ExitStack()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    """End the browser with the last test that needs it: its driver keeps an event loop running on this thread.

    Tests that start a loop of their own could not come after it.
    """
    yield
    if nextitem is None or nextitem.get_closest_marker("browser") is None:
        _running.clear()
        _profiles.clear()
        _at_the_end.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("WORKBENCH_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def browser() -> Browser:
    if not _running:
        _running.append(_at_the_end.enter_context(running_chromium()))
    return _running[0]


@pytest.fixture
def modules(browser: Browser) -> Iterator[ModuleHost]:
    """A blank page for modules; it may load nothing, and no script of it may fail."""
    context = browser.new_context(viewport={"width": 1090, "height": 900})
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    page.set_content("<!doctype html><html lang='en'><title>modules</title><body></body></html>")
    with recorded_page() as wire:
        yield ModuleHost(page, wire)
    context.close()
    assert problems == []


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("jupyter")) as started:
        yield started


@pytest.fixture(scope="module")
def profile(browser: Browser) -> BrowserContext:
    """One for all notebooks: JupyterLab's scripts are read once, and then come from the cache of the browser."""
    if not _profiles:
        _profiles.append(browser.new_context(viewport={"width": 1280, "height": 1100}))
    return _profiles[0]


@pytest.fixture(scope="module")
def open_notebook(lab: Lab, profile: BrowserContext) -> Iterator[Callable[..., NotebookPage]]:
    """Open a notebook made of cells, or a copy of one of the repository's; it stays open for the tests of a module."""
    opened: list[NotebookPage] = []

    def open_one(*cells: str, copy_of: Path | None = None) -> NotebookPage:
        name = f"test-{secrets.token_hex(4)}.ipynb"
        if copy_of is not None:
            shutil.copy(copy_of, lab.root / name)
        else:
            (lab.root / name).write_text(json.dumps(notebook_of(*cells)))
        opened.append(NotebookPage(profile.new_page(), lab, name))
        return opened[-1]

    yield open_one
    for notebook in opened:
        notebook.command("kernelmenu:shutdown")
        notebook.page.close()
