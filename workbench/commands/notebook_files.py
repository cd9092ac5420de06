"""Removal of metadata that JupyterLab adds to a notebook when it is opened.

Without it, opening and saving an unchanged lesson of a clone would show a difference in git.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def keep_metadata(*, model: dict[str, Any], path: str, contents_manager: Any, **_options: Any) -> None:
    """Restore the metadata of the notebook's file; a hook of Jupyter's contents managers, called before each save.

    JupyterLab adds details of the kernel's language, and an empty widget state if no widget is shown.
    """
    if model.get("type") != "notebook":
        return
    metadata = model["content"]["metadata"]
    if not any(states.get("state") for states in metadata.get("widgets", {}).values()):
        metadata.pop("widgets", None)
    stored = _stored_metadata(Path(contents_manager.root_dir, path.strip("/"))).get("language_info", {})
    if stored.get("name") == metadata.get("language_info", {}).get("name") is not None:
        metadata["language_info"] = stored


def _stored_metadata(file: Path) -> dict[str, Any]:
    """Return the metadata of a notebook in its file; empty if there is no such file."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))["metadata"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return stored if isinstance(stored, dict) else {}
