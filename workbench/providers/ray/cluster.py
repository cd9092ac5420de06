"""The one Ray cluster that a process can be part of, shared by all providers of this kind in it.

A cluster that the program joined by itself is used as it is, and left alone at the end.
"""

from __future__ import annotations

import math
import os
import threading
import traceback
from typing import Any

from workbench.errors import ConfigError, RemoteConnectionError

_OBJECT_STORE_BYTES = 128 * 2**20
"""Of a cluster that is started here; what travels are lines of JSON."""

_START_ATTEMPTS = 4
"""Ray gives its processes half a minute to come up, which on a busy machine is not always enough."""

_lock = threading.Lock()
_users = 0
_ours = False


def join(address: str | None, cpus: float) -> Any:
    """Be part of a cluster; blocks for seconds where it is not there yet.

    Args:
        address: of an existing cluster; None starts one on this machine, unless the program is part of one already.
        cpus: that a cluster started here has to offer at least.

    Raises:
        ConfigError: nothing answers at the address, or the process is part of another cluster.
        RemoteConnectionError: none could be started.
    """
    global _users, _ours  # noqa: PLW0603 - Ray's own state is global to the process
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone
    if address is None:  # read when Ray is imported: whatever is started here is for this machine alone
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    with _lock:
        if not ray.is_initialized():
            _start(ray, address, cpus)
            _ours = True
        elif address not in (None, "auto", ray.get_runtime_context().gcs_address):
            here = ray.get_runtime_context().gcs_address
            raise ConfigError(
                f"address must be that of the cluster that this process has already joined, {here}; got {address!r}"
            )
        _users += 1
    return ray


def leave() -> None:
    """The last user of a cluster that was joined here leaves it, which ends one that was started here."""
    global _users, _ours  # noqa: PLW0603
    with _lock:
        _users -= 1
        if _users == 0 and _ours:
            import ray

            ray.shutdown()
            _ours = False


def _start(ray: Any, address: str | None, cpus: float) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if address is not None:
        try:
            ray.init(address=address, **quiet)
        except Exception as error:  # noqa: BLE001 - whatever Ray meets there
            raise ConfigError(f"address: no Ray cluster answers at {address} ({error})") from None
        return
    cores = max(os.cpu_count() or 1, math.ceil(cpus))
    for attempt in range(1, _START_ATTEMPTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=cores,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                **quiet,
            )
        except Exception as error:  # Ray has no type of its own for it
            _end_processes(error)
            ray.shutdown()
            if attempt == _START_ATTEMPTS:
                message = f"a Ray cluster could not be started on this machine in {attempt} attempts"
                raise RemoteConnectionError(f"{message}: {error}") from error
        else:
            return


def _end_processes(error: BaseException) -> None:
    """End the processes of a node that failed to start: Ray leaves them running until this process ends."""
    from ray._private.node import Node

    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(node := frame.f_locals.get("self"), Node):
            node.kill_all_processes(check_alive=False, wait=True)
            return
