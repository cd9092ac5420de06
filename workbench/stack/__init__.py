"""Stacks: the providers of a run config, the registry of their models, and the router that finds a model's provider."""

from __future__ import annotations

from workbench.stack.run_config import default_run_config, load_run_config
from workbench.stack.schema import run_config_schema
from workbench.stack.stack import Stack

__all__ = ["Stack", "default_run_config", "load_run_config", "run_config_schema"]
