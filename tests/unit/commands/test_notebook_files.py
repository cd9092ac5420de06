from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workbench.commands.notebook_files import keep_metadata

PLAIN = {"name": "python"}
DETAILED = {"name": "python", "version": "3.11.7", "file_extension": ".py"}
STATE = "application/vnd.jupyter.widget-state+json"


def saved(folder: Path, stored: dict[str, Any] | str | None, **metadata: Any) -> dict[str, Any]:
    """The metadata that is saved into a folder, where a notebook is stored already or is not."""
    if stored is not None:
        text = stored if isinstance(stored, str) else json.dumps({"metadata": stored})
        (folder / "one.ipynb").write_text(text, encoding="utf-8")
    model = {"type": "notebook", "content": {"metadata": metadata}}
    keep_metadata(model=model, path="/one.ipynb", contents_manager=SimpleNamespace(root_dir=str(folder)))
    return metadata


def test_opening_and_saving_a_lesson_changes_nothing(tmp_path: Path) -> None:
    empty = {STATE: {"state": {}, "version_major": 2, "version_minor": 0}}
    assert saved(tmp_path, {"language_info": PLAIN}, language_info=DETAILED, widgets=empty) == {"language_info": PLAIN}


def test_the_state_of_widgets_is_kept(tmp_path: Path) -> None:
    held = {STATE: {"state": {"id": {}}, "version_major": 2, "version_minor": 0}}
    assert saved(tmp_path, {}, widgets=held) == {"widgets": held}


@pytest.mark.parametrize("stored", [None, "no JSON", "[]", {}, {"language_info": {"name": "R"}}])
def test_a_new_notebook_and_another_language_are_saved_as_they_are(
    tmp_path: Path, stored: dict[str, Any] | str | None
) -> None:
    assert saved(tmp_path, stored, language_info=DETAILED) == {"language_info": DETAILED}


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    manager = SimpleNamespace(root_dir=str(tmp_path))
    keep_metadata(model={"type": "file", "content": "text"}, path="a.txt", contents_manager=manager)
