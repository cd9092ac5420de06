"""Defaults of Jupyter's server, which the user's own configuration overrides."""  # noqa: INP001 - no package

from __future__ import annotations

from workbench.commands.notebook_files import keep_metadata

c = get_config()  # type: ignore[name-defined]  # noqa: F821 - Jupyter runs this file
c.ContentsManager.pre_save_hook = keep_metadata
