"""Defaults of Jupyter's server, which the user's own configuration overrides."""  # noqa: INP001 - no package

from __future__ import annotations

from pathlib import Path

from workbench.commands.notebook_files import keep_metadata

c = get_config()  # type: ignore[name-defined]  # noqa: F821 - Jupyter runs this file
c.ContentsManager.pre_save_hook = keep_metadata
# What JupyterLab prints and exports.
c.HTMLExporter.extra_template_basedirs = [str(Path(__file__).with_name("nbconvert"))]
c.HTMLExporter.template_name = "workbench"
