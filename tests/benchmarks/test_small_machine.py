"""The playground on what Binder gives: 2 GB for JupyterLab and the kernel together, and one core."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.browser.jupyterlab import running_lab
from tests.browser.notebook_page import NotebookPage, running_chromium

LESSON = Path(__file__).parents[2] / "notebooks" / "00_playground.ipynb"
LIMIT_BYTES = 2 * 2**30
CGROUPS = (
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),  # version 1
    ("/sys/fs/cgroup", "memory.max"),
)


@contextmanager
def small_machine() -> Iterator[list[str]]:
    """What to start a command under; a cgroup where one can be made, else ulimit, which counts each process alone."""
    for folder, limit in CGROUPS:
        cgroup = Path(folder) / f"workbench-{os.getpid()}"
        with suppress(OSError):
            cgroup.mkdir()
            (cgroup / limit).write_text(str(LIMIT_BYTES))
            join = f'echo $$ > {cgroup}/cgroup.procs; exec taskset --cpu-list 0 "$@"'
            print(f"\n2 GB by the cgroup {limit}, one core")
            try:
                yield ["sh", "-c", join, "sh"]
            finally:
                _remove(cgroup)
            return
    print("\n2 GB by ulimit, one core")
    yield ["sh", "-c", f'ulimit -d {LIMIT_BYTES // 1024}; exec taskset --cpu-list 0 "$@"', "sh"]


def _remove(cgroup: Path) -> None:
    """Once nothing is in it any more."""
    deadline_s = time.monotonic() + 20
    while cgroup.is_dir() and time.monotonic() < deadline_s:
        with suppress(OSError):
            cgroup.rmdir()
        time.sleep(0.1)


class Peak:
    """The most memory that a process and all below it held together; shared pages count once."""

    def __init__(self, process_id: int) -> None:
        self.nbytes = 0
        self._root = psutil.Process(process_id)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> int:
        self._ended.set()
        self._thread.join()
        return self.nbytes

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            held = 0
            for process in [self._root, *self._root.children(recursive=True)]:
                with suppress(psutil.Error):
                    held += process.memory_full_info().pss
            self.nbytes = max(self.nbytes, held)


@pytest.mark.browser
@pytest.mark.usefixtures("smollm2_path")
@pytest.mark.timeout(300)
def test_the_playground_answers_within_two_gigabytes_and_one_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CPU_LIMIT", "1")  # as JupyterHub tells its users' servers
    monkeypatch.setenv("MEM_LIMIT", str(LIMIT_BYTES))
    notebook = json.loads(LESSON.read_text(encoding="utf-8"))
    first_playground = next(
        at for at, cell in enumerate(notebook["cells"]) if "playground()" in "".join(cell["source"])
    )
    notebook["cells"] = notebook["cells"][: first_playground + 1]
    with small_machine() as under, running_lab(tmp_path, under) as lab, running_chromium() as browser:
        (lab.root / "playground.ipynb").write_text(json.dumps(notebook))
        peak = Peak(lab.process_id)
        page = NotebookPage(browser.new_page(), lab, "playground.ipynb")
        began = time.perf_counter()
        page.run_all()
        page.wait_for("idle", timeout_s=120)
        shown_s = time.perf_counter() - began
        page.playground.locator(".wb-run").click()
        page.playground.locator(".wb-token").first.wait_for(timeout=120_000)
        first_s = time.perf_counter() - began
        page.wait_for("finished", timeout_s=120)
        speed = float(page.python("playground.run.usage.decode_tokens_per_s"))
        again = "playground.start('And why is grass green?').result() and playground.run.usage.time_to_first_token_s"
        warm_s = float(page.python(again))
        used = peak.end()
    print(
        f"peak {used / 2**20:.0f} MiB with JupyterLab; playground after {shown_s:.1f} s, first token after "
        f"{first_s:.1f} s (once the model is loaded: {warm_s:.2f} s); {speed:.0f} tokens/s"
    )
    assert used < 1.2 * 2**30
    assert first_s < 15
