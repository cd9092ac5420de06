"""From a run config to a running stack: providers, the registry of their models, the router in front of them."""

from __future__ import annotations

from workbench.stack.run_config import default_run_config, load_run_config
from workbench.stack.schema import run_config_schema
from workbench.stack.stack import Stack

__all__ = ["Stack", "default_run_config", "load_run_config", "run_config_schema"]
