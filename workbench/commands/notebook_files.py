"""What JupyterLab writes into a notebook by opening it, and what is taken out of it again before it is saved.

Otherwise a lesson of a clone that was opened and saved would show in git, though nobody has changed it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def keep_metadata(*, model: dict[str, Any], path: str, contents_manager: Any, **_options: Any) -> None:
    """Leave a notebook's metadata as the file has it; a hook of Jupyter's contents managers, called before each save.

    JupyterLab adds the details of the kernel's language, and an empty state where no widget is shown.
    """
    if model.get("type") != "notebook":
        return
    metadata = model["content"]["metadata"]
    if not any(held.get("state") for held in metadata.get("widgets", {}).values()):
        metadata.pop("widgets", None)
    stored = _stored_metadata(Path(contents_manager.root_dir, path.strip("/"))).get("language_info", {})
    if stored.get("name") == metadata.get("language_info", {}).get("name") is not None:
        metadata["language_info"] = stored


def _stored_metadata(file: Path) -> dict[str, Any]:
    """The metadata of a notebook as it was saved last; none where there is no such file."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))["metadata"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return stored if isinstance(stored, dict) else {}
