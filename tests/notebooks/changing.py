"""How a break changes the workbench: for the rest of the process, which is a lesson's kernel."""

from __future__ import annotations

from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any


def change(owner: str, name: str, made_of: Callable[[Any], Any]) -> None:
    """Put something made of it in the place of a module's or a class's attribute."""
    holder = resolve_name(owner)
    setattr(holder, name, made_of(getattr(holder, name)))
