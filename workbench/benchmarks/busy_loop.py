"""A program that keeps one core busy until its standard input is closed, see `busy_cores`.

It imports nothing of the workbench, so that it starts at once and its memory stays small.
"""

from __future__ import annotations

import os
import signal
import sys
import threading


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches the whole group; the process that measures ends this
    threading.Thread(target=_end_with_input, daemon=True).start()
    sys.stdout.write("busy\n")
    sys.stdout.flush()
    while True:
        pass


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
