"""A JupyterLab server on loopback with the settings of `workbench play`, and nothing of the user's own Jupyter."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
_SETTINGS = {
    # Cells off the screen would have no output in the page.
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin.jupyterlab-settings": {"autosave": False},
}
_PATIENCE_S = 60


@dataclass(frozen=True)
class Lab:
    """A running server; ``root`` is the folder that it serves."""

    url: str
    token: str
    root: Path
    process_id: int


@contextmanager
def running_lab(home: Path, under: Sequence[str] = ()) -> Iterator[Lab]:
    """Start a server that keeps everything below ``home``, and end it afterwards.

    Args:
        under: a command that becomes the one that it is given, such as one that sets limits first.
    """
    root = home / "notebooks"
    root.mkdir()
    for name, values in _SETTINGS.items():
        path = home / "settings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    port, token = _free_port(), secrets.token_hex(16)
    options = [
        "--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}", "--expose-app-in-browser",
        "--ServerApp.allow_root=True", "--LabApp.news_url=",
    ]  # fmt: skip
    with (home / "lab.log").open("w") as log:
        command = [*under, sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, env=_environment(home), stdout=log, stderr=log)
        try:
            _wait_for(f"http://127.0.0.1:{port}/api?token={token}", server, home / "lab.log")
            yield Lab(f"http://127.0.0.1:{port}", token, root, server.pid)
        finally:
            server.terminate()
            server.wait(60)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_PATH": str(REPOSITORY / "workbench" / "commands" / "jupyter_config"),
        "PYTHONPATH": str(REPOSITORY),
    }


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            if server.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"JupyterLab did not come up:\n{log.read_text()[-3000:]}") from None
            time.sleep(0.1)
