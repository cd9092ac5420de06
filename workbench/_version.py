"""The one place that holds the version; packaging, the changelog's test and ``workbench --version`` read it."""

from __future__ import annotations

__version__ = "0.1.0"
