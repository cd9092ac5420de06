"""Take the picture of the playground that README.md shows: the real model in a real JupyterLab.

Run it from the repository's root after `make test` has set up what tests need:

    .venv/bin/python scripts/screenshot.py [FILE]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.jupyterlab import running_lab  # noqa: E402 - found by the line above
from tests.browser.notebook_page import NotebookPage, running_chromium  # noqa: E402

DEFAULT_FILE = ROOT / "docs" / "images" / "playground.png"
PROMPT = "Why is the sky blue? Two sentences."
CELL = f"""\
import workbench as wb

bench = wb.Workbench()
bench.load()
bench.completion("Warm up", sampling_params=wb.SamplingParams(max_tokens=4)).result()
params = wb.SamplingParams(strategy="top_p", temperature=0.7, max_tokens=120, seed=3)
playground = bench.playground(prompt={PROMPT!r}, sampling_params=params)
playground"""
# A whole word where the model could have gone on in many ways.
FORK = """\
max((t for t in playground.run.tokens[5:-5] if t.text[0] == " " and t.text.strip().isalpha() and t.rank > 1),
    key=lambda t: t.entropy).position"""
# Wide enough for one row of controls less than the notebook's margin.
WIDTH, HEIGHT = 1240, 1100


def main() -> int:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as home,
        running_lab(Path(home)) as lab,
        running_chromium() as browser,
    ):
        (lab.root / "playground.ipynb").write_text(json.dumps(_notebook(CELL)))
        context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=2)
        notebook = NotebookPage(context.new_page(), lab, "playground.ipynb")
        notebook.run_all()
        notebook.wait_for("idle", timeout_s=120)
        notebook.playground.locator(".wb-run").click()
        notebook.wait_for("finished", timeout_s=300)
        position = int(notebook.python(FORK))
        notebook.playground.locator(f".wb-token[data-wb-position='{position}']").click()
        notebook.playground.locator(".wb-sampled").wait_for()
        # Another answer from there on, so that the text has a fork and the tree two branches.
        notebook.playground.locator(".wb-alternative:not(.wb-sampled)").first.click()
        notebook.playground.get_by_role("tab", name="Tree (2)").click(timeout=120_000)
        notebook.wait_for("finished", timeout_s=300)
        notebook.playground.locator(".wb-branch").nth(1).wait_for()
        notebook.page.mouse.move(0, 0)
        notebook.screenshot(file)
    print(file)
    return 0


def _notebook(source: str) -> dict[str, object]:
    cell: dict[str, object] = {
        "cell_type": "code",
        "id": "c",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": source,
    }
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


if __name__ == "__main__":
    raise SystemExit(main())
