"""Clients of a server in a process of their own, so that they take nothing of the server's interpreter.

Run as a program it reads a JSON list of jobs, asks them all at once, and prints what each heard.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 600.0


@dataclass
class Job:
    """A streamed completion to ask for."""

    port: int
    token: str
    body: dict[str, Any]
    leave_after: int | None = None
    """Events, after which the connection is cut."""


@dataclass
class Heard:
    """What became of a job."""

    text: str = ""
    events: int = 0
    is_whole: bool = False
    """A stop reason was heard."""
    error: str = ""
    tokens_per_s: float = 0.0
    """After the first event."""


def ask_at_once(jobs: list[Job]) -> list[Heard]:
    """Ask every job at the same time from one new process; blocks until all have ended."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__))],
        input=json.dumps([asdict(job) for job in jobs]),
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    return [Heard(**one) for one in json.loads(done.stdout)]


def _ask(job: Job) -> Heard:
    heard = Heard()
    connection = http.client.HTTPConnection("127.0.0.1", job.port, timeout=TIMEOUT_S)
    headers = {"Authorization": f"Bearer {job.token}", "Content-Type": "application/json"}
    connection.request("POST", "/inference/completion", json.dumps(job.body | {"stream": True}), headers)
    response = connection.getresponse()
    if response.status != http.HTTPStatus.OK:
        heard.error = response.read().decode()
        return heard
    first_s = last_s = 0.0
    while line := response.readline():
        if not line.startswith(b"data: "):
            continue
        event = json.loads(line.removeprefix(b"data: "))
        if "error" in event:
            heard.error = json.dumps(event)
            break
        heard.events += 1
        heard.text += event["delta"]
        if event["stop_reason"]:
            heard.is_whole = True
        else:
            last_s = time.perf_counter()
            first_s = first_s or last_s
        if heard.events == job.leave_after:
            assert connection.sock is not None
            connection.sock.shutdown(socket.SHUT_RDWR)
            break
    connection.close()
    if heard.is_whole and heard.events > 2:
        heard.tokens_per_s = (heard.events - 2) / (last_s - first_s)
    return heard


def main() -> None:
    jobs = [Job(**one) for one in json.load(sys.stdin)]
    with ThreadPoolExecutor(max(len(jobs), 1)) as pool:
        json.dump([asdict(one) for one in pool.map(_ask, jobs)], sys.stdout)


if __name__ == "__main__":
    main()
