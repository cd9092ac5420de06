"""The one Ray cluster that a process can join, shared by all of its Ray providers.

A cluster that the program has joined itself is used as it is, and not left at the end.
"""

from __future__ import annotations

import math
import os
import threading
import traceback
from typing import Any

from workbench.errors import ConfigError, RemoteConnectionError

_OBJECT_STORE_BYTES = 128 * 2**20
"""Size of the object store of a cluster started here; only lines of JSON pass through it."""

_START_ATTEMPTS = 4
"""Ray allows its processes 30 s to start, which is not always enough on a busy machine."""

_lock = threading.Lock()
_users = 0
_joined_here = False


def join(address: str | None, cpus: float) -> Any:
    """Join a cluster and return the module ``ray``; block for seconds while a cluster starts.

    Args:
        address: address of an existing cluster; None starts one here, unless the program has joined one already.
        cpus: least number of CPU cores of a cluster started here.

    Raises:
        ConfigError: no cluster answers at the address, or the process has joined another one.
        RemoteConnectionError: no cluster could be started.
    """
    global _users, _joined_here  # noqa: PLW0603 - Ray's own state is global to the process
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send no statistics
    if address is None:  # read when Ray is imported: a cluster started here serves this machine only
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    with _lock:
        if not ray.is_initialized():
            _start(ray, address, cpus)
            _joined_here = True
        elif address not in (None, "auto", ray.get_runtime_context().gcs_address):
            here = ray.get_runtime_context().gcs_address
            raise ConfigError(
                f"address must be that of the cluster that this process has already joined, {here}; got {address!r}"
            )
        _users += 1
    return ray


def leave() -> None:
    """Leave the cluster if this was its last user and it was joined here; a cluster that was started here then ends."""
    global _users, _joined_here  # noqa: PLW0603
    with _lock:
        _users -= 1
        if _users == 0 and _joined_here:
            import ray

            ray.shutdown()
            _joined_here = False


def _start(ray: Any, address: str | None, cpus: float) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if address is not None:
        try:
            ray.init(address=address, **quiet)
        except Exception as error:  # noqa: BLE001 - Ray documents no types
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
        except Exception as error:  # Ray documents no type
            _end_processes(error)
            ray.shutdown()
            if attempt == _START_ATTEMPTS:
                message = f"a Ray cluster could not be started on this machine in {attempt} attempts"
                raise RemoteConnectionError(f"{message}: {error}") from error
        else:
            return


def _end_processes(error: BaseException) -> None:
    """End the processes of a node that failed to start; Ray leaves them running until this process ends."""
    from ray._private.node import Node

    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(node := frame.f_locals.get("self"), Node):
            node.kill_all_processes(check_alive=False, wait=True)
            return
