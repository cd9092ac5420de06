"""HTTP server of a stack, with the protocol's routes, OpenAI's routes and server-sent events.

It requires the extra ``serve``.
"""

from __future__ import annotations

from workbench.server.access import LOOPBACK, Access
from workbench.server.app import create_app
from workbench.server.limits import Limits
from workbench.server.running import Listener, Serving, run

__all__ = ["LOOPBACK", "Access", "Limits", "Listener", "Serving", "create_app", "run"]
