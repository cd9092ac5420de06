"""A Ray cluster whose first attempt to start fails, as it does where a machine is too busy."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from typing import Any

import psutil
import pytest


@dataclass(frozen=True)
class Start:
    """What a failed attempt and the one after it left."""

    failed: list[int]
    """Ids of the processes that the first attempt had started."""
    left: list[int]
    """Those of them that were still there when the cluster was up."""
    unraisable: list[Any]
    """Errors of objects that were collected."""


def joined(cpus: float) -> Start:
    """Start a cluster on this machine; the first attempt fails after some of its processes were started."""
    from ray._private.node import Node

    from workbench.providers.ray import cluster

    failed: list[int] = []
    unraisable: list[Any] = []
    whole = Node.start_ray_processes

    def failing(node: Any) -> None:
        failed.extend(info.process.pid for infos in node.all_processes.values() for info in infos)
        Node.start_ray_processes = whole
        raise RuntimeError("too slow")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Node, "start_ray_processes", failing)
        patch.setattr(sys, "unraisablehook", unraisable.append)
        cluster.join(None, cpus)
        gc.collect()
    return Start(failed, [pid for pid in failed if psutil.pid_exists(pid)], unraisable)
