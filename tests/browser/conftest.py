"""A real Chromium, and a real JupyterLab on loopback that one session of tests shares.

Screenshots go to the folder that WORKBENCH_SCREENSHOTS names, else to a temporary one.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.module_host import ModuleHost
from tests.browser.notebook_page import Lab, NotebookPage
from tests.unit.widgets.recorded_page import recorded_page

REPOSITORY = Path(__file__).parents[2]
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
WIDTH = 1280
SETTINGS = {
    # Cells off the screen would have no output in the page.
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin.jupyterlab-settings": {"autosave": False},
}


expect.set_options(timeout=20_000)  # a machine that runs other tests beside these is slow


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("WORKBENCH_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield started
        started.close()


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
    home = tmp_path_factory.mktemp("jupyter")
    root = home / "notebooks"
    root.mkdir()
    for name, values in SETTINGS.items():
        path = home / "settings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    port, token = _free_port(), secrets.token_hex(16)
    options = [
        "--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}", "--expose-app-in-browser",
        "--ServerApp.allow_root=True", "--LabApp.news_url=",
    ]  # fmt: skip
    log = (home / "lab.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options], env=_jupyter_environment(home), stdout=log, stderr=log
    )
    try:
        _wait_for_server(f"http://127.0.0.1:{port}/api?token={token}", server, home / "lab.log")
        yield Lab(f"http://127.0.0.1:{port}", token, root)
    finally:
        server.terminate()
        server.wait(20)
        log.close()


@pytest.fixture(scope="module")
def open_notebook(lab: Lab, browser: Browser) -> Iterator[Callable[..., NotebookPage]]:
    """Open a notebook made of cells, or a copy of one of the repository's; it stays open for the tests of a module."""
    opened: list[NotebookPage] = []

    def open_one(*cells: str, copy_of: Path | None = None) -> NotebookPage:
        name = f"test-{secrets.token_hex(4)}.ipynb"
        if copy_of is not None:
            shutil.copy(copy_of, lab.root / name)
        else:
            (lab.root / name).write_text(json.dumps(_notebook_of(cells)))
        context = browser.new_context(viewport={"width": WIDTH, "height": 1100})
        opened.append(NotebookPage(context.new_page(), lab, name))
        return opened[-1]

    yield open_one
    for notebook in opened:
        notebook.command("kernelmenu:shutdown")
        notebook.page.context.close()


def _notebook_of(cells: tuple[str, ...]) -> dict[str, Any]:
    code: dict[str, Any] = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    return {
        "cells": [{**code, "id": f"cell-{i}", "source": source} for i, source in enumerate(cells)],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _jupyter_environment(home: Path) -> dict[str, str]:
    """Nothing of the user's own Jupyter: neither settings nor extensions nor workspaces."""
    return {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": str(REPOSITORY),
    }


def _wait_for_server(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"JupyterLab did not come up:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
