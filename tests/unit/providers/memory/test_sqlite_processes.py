"""One file and several processes: killed in the middle of inserting, and inserting at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.providers.memory.conftest import Open, bank

ROOT = Path(__file__).parents[4]
KILLED = 20
DOCUMENTS = 12
KILLS = f"""
import asyncio, json, os, random, signal, sys
from pathlib import Path
from tests.fakes.memory_models import WordModels
from tests.unit.providers.memory.conftest import bank
from workbench.protocol import MemoryBankDocument, Provider
from workbench.providers.memory.sqlite import SqliteProvider, banks

path = Path(sys.argv[1])
config = {{"path": str(path)}}
provider = SqliteProvider(
    Provider(provider_id="memory", provider_type="inline::sqlite", config=config), WordModels()
)
draw = random.Random(7)


def state():
    with provider._store.database.reading() as connection:
        found = {{}}
        for name, content in connection.execute(
            "SELECT document_id, content FROM documents LEFT JOIN chunks USING (document) ORDER BY chunk"
        ):
            found.setdefault(name, []).append(content)
        return found


async def fill(begin, version):
    if begin:
        await provider.register_memory_bank(bank("vector"))
    while True:
        text = " ".join(f"v{{version}}" for _ in range(20))
        await provider.insert_documents(
            "vector", [MemoryBankDocument(document_id=f"d{{i}}", content=text) for i in range({DOCUMENTS})]
        )
        version += 1


def child(round_, version):
    if round_ % 2:
        # Killed within a transaction, after some of its documents are written.
        left, insert = draw.randrange(1, 3 * {DOCUMENTS}), banks._insert

        def counted(*args):
            nonlocal left
            insert(*args)
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

        banks._insert = counted
    os.write(writing, b"x")
    asyncio.run(fill(round_ == 0, version))


for round_ in range({KILLED}):
    found = state() if round_ else {{}}
    version = max((int(part.split()[0][1:]) for parts in found.values() for part in parts), default=0) + 1
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        try:
            child(round_, version)
        finally:
            os._exit(1)
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    if round_ % 2 == 0:
        # Killed at any moment, also while the file is written to the disk.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        signal.sigtimedwait([signal.SIGCHLD], draw.uniform(0, 0.25))
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    journal = Path(f"{{path}}-journal")
    hot = journal.exists() and journal.stat().st_size > 0
    print(json.dumps([os.WTERMSIG(status), hot, state()]), flush=True)
"""
INSERTS = """
import asyncio, sys
from tests.fakes.memory_models import WordModels
from tests.unit.providers.memory.conftest import bank
from workbench.protocol import MemoryBankDocument, Provider
from workbench.providers.memory.sqlite import SqliteProvider

async def main(path, name):
    config = {"path": path}
    provider = SqliteProvider(
        Provider(provider_id="memory", provider_type="inline::sqlite", config=config), WordModels()
    )
    print("ready", flush=True)
    sys.stdin.readline()
    await provider.register_memory_bank(bank("vector"))
    for call in range(10):
        await provider.insert_documents(
            "vector", [MemoryBankDocument(document_id=f"{name}{call}-{i}", content="text") for i in range(3)]
        )
        await provider.insert_documents("vector", [MemoryBankDocument(document_id="shared", content=name * 30)])
        await provider.query_documents("vector", "text")

asyncio.run(main(*sys.argv[1:]))
"""


def started(program: str, *args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *args]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes)


def test_killed_at_any_moment_of_inserting_a_bank_opens_and_holds_whole_documents_only(tmp_path: Path) -> None:
    with started(KILLS, str(tmp_path / "banks.sqlite3")) as process:
        output, _ = process.communicate()
    rounds = [json.loads(line) for line in output.splitlines()]
    assert process.returncode == 0
    assert len(rounds) == KILLED
    for signal_number, _, state in rounds:
        assert signal_number == 9
        assert len(state) in {0, DOCUMENTS}, "the documents of a call are there all or none"
        versions = {word for parts in state.values() for part in parts for word in part.split()}
        assert len(versions) <= 1, "and of one call"
        assert all(sum(len(part.split()) for part in parts) == 20 for parts in state.values())
    assert any(hot for _, hot, _ in rounds), "some were killed within a transaction"


@pytest.mark.parametrize("count", [3])
async def test_processes_insert_into_one_new_file_at_the_same_time(
    tmp_path: Path, open_provider: Open, count: int
) -> None:
    path = str(tmp_path / "banks.sqlite3")
    processes = [started(INSERTS, path, f"p{number}") for number in range(count)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0] * count
    provider = open_provider()
    assert await provider.list_memory_banks() == [bank("vector")]
    names = {f"p{number}{call}-{index}" for number in range(count) for call in range(10) for index in range(3)}
    listed = await provider.list_documents("vector")
    assert set(listed) == names | {"shared"}
    assert len(listed) == len(names) + 1
