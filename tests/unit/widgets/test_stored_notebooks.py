"""Notebooks as they are stored: readable without a kernel, on GitHub and in an export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[3] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_stored_widget_is_its_static_twin(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert "widgets" not in notebook["metadata"]  # GitHub calls a notebook invalid whose widget state is incomplete
    shown = [output.get("data", {}) for cell in notebook["cells"] for output in cell.get("outputs", [])]
    # JupyterLab would show "model not found" for a stored view, and never the twin beside it.
    assert [data for data in shown if "application/vnd.jupyter.widget-view+json" in data] == []


def test_the_first_lesson_shows_the_playgrounds_twin_when_exported() -> None:
    from nbconvert import HTMLExporter

    (lesson,) = (path for path in NOTEBOOKS if path.name.startswith("00_"))
    body, _ = HTMLExporter().from_filename(str(lesson))  # type: ignore[no-untyped-call]
    assert "No run yet." in body
    assert "The capital of France is Paris." in body
