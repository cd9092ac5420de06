"""A typed inference protocol, a local engine, and notebook widgets that show what a language model computes."""

from __future__ import annotations

from workbench._version import __version__

__all__ = ["__version__"]
