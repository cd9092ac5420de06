"""What a person waits for in a page, the notebook and the first token, and how much each widget sends."""

from __future__ import annotations

import gzip
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browser.jupyterlab import running_lab
from tests.browser.notebook_page import NotebookPage, notebook_of, running_chromium
from workbench.widgets.assets import STATIC, module_source, style_source

ROUNDS = 5
PLAYGROUND = """\
import workbench as wb
bench = wb.Workbench()
pg = bench.playground(prompt="The capital of France is")
pg"""
RESET = "document.querySelector('.wb-output').replaceChildren()"
FIRST_TOKEN = "document.querySelectorAll('.wb-playground .wb-output [data-wb-position]').length > 0"


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def told(name: str, measured: list[float]) -> None:
    spread = f"{min(measured):.2f} to {max(measured):.2f}"
    print(f"{name}: {statistics.median(measured):.2f} s (median of {len(measured)}, {spread})")


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("smollm2_path")
def test_from_page_to_first_token(tmp_path: Path) -> None:
    with running_lab(tmp_path) as lab, running_chromium() as browser:
        (lab.root / "play.ipynb").write_text(json.dumps(notebook_of(PLAYGROUND)))
        notebook = NotebookPage(browser.new_context().new_page(), lab, "play.ipynb")
        loads = [seconds(notebook.open) for _ in range(ROUNDS)]

        def run_cell() -> None:
            notebook.run_all()
            notebook.wait_for("idle", timeout_s=120)

        def first_token() -> None:
            notebook.playground.locator(".wb-run").click()
            notebook.page.wait_for_function(f"() => {FIRST_TOKEN}", polling="raf")

        cell = seconds(run_cell)
        firsts = []
        for _ in range(ROUNDS + 1):
            firsts.append(seconds(first_token))
            notebook.wait_for("finished", timeout_s=120)
            notebook.page.evaluate(f"() => {RESET}")
    print()
    told("page load to a kernel that is ready", loads)
    print(f"cell to playground: {cell:.2f} s; Run to first token with the model still to load: {firsts[0]:.2f} s")
    told("Run to first token on screen", firsts[1:])
    assert statistics.median(firsts[1:]) < 1


def test_size_of_the_scripts() -> None:
    """Each widget carries its modules and styles whole; gzip is what a server would send."""
    print()
    names = sorted(path.stem for path in STATIC.glob("*.js") if "export default" in path.read_text(encoding="utf-8"))
    for name in names:
        text = (module_source(name) + style_source(name)).encode()
        print(f"{name}: {len(text) / 1e3:.0f} kB, {len(gzip.compress(text)) / 1e3:.0f} kB compressed")
    files = [path for path in STATIC.iterdir() if path.suffix in (".js", ".css")]
    print(f"all {len(files)} files as they stand: {sum(path.stat().st_size for path in files) / 1e3:.0f} kB")
    assert names
