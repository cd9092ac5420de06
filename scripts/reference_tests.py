"""Run the reference implementation's own tests of October 2024 against `workbench serve`.

    .venv/bin/python scripts/reference_tests.py FOLDER [inference] [memory] [safety]

Its package lives on the package index; a virtual environment for it is made in FOLDER, and used again if it is there.

The tests of inference run against the echo provider, which calls tools with any model. Those of memory and safety run
against the default stack, after two registrations: its sentence model under the name that the tests use, and a shield
named ``llama_guard`` with the provider of the default shield. What differs from the tests as published:

- Their fixture builds providers in the process. Here it returns the reference's own clients of the server.
- They expect a `ValueError` for a bank that is not registered; the client's `HTTPStatusError` becomes one.
- They register a bank with chunks of 512 tokens. Its model reads 256, two of them its own, and the reference embeds
  only the beginning of such a chunk; the workbench refuses the bank. So the fixture asks for chunks of 254 tokens.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

VERSION = "0.0.41"
PACKAGES = (f"llama-stack=={VERSION}", f"llama-models=={VERSION}", "pytest>=8,<9", "pytest-asyncio>=0.24,<0.25")

CONFTEST = """
import importlib
import os

import httpx
from llama_stack.apis.inference.client import InferenceClient
from llama_stack.apis.memory.client import MemoryClient
from llama_stack.apis.memory_banks.client import MemoryBanksClient
from llama_stack.apis.memory_banks import VectorMemoryBankDef
from llama_stack.apis.models.client import ModelsClient
from llama_stack.apis.safety.client import SafetyClient
from llama_stack.apis.shields.client import ShieldsClient
from llama_stack.distribution.datatypes import Api

tests = importlib.import_module(os.environ["REFERENCE_TESTS"])


class StrictMemoryClient(MemoryClient):
    async def insert_documents(self, *args, **options):
        try:
            return await super().insert_documents(*args, **options)
        except httpx.HTTPStatusError as error:
            raise ValueError(error.response.text) from error


def bank_of_whole_chunks(*, chunk_size_in_tokens, **fields):
    return VectorMemoryBankDef(chunk_size_in_tokens=min(chunk_size_in_tokens, 254), **fields)


CLIENTS = {
    Api.inference: InferenceClient,
    Api.models: ModelsClient,
    Api.memory: StrictMemoryClient,
    Api.memory_banks: MemoryBanksClient,
    Api.safety: SafetyClient,
    Api.shields: ShieldsClient,
}


async def resolve(api, deps=None):
    return {api: client(os.environ["SERVER_URL"]) for api, client in CLIENTS.items()}


tests.resolve_impls_for_test = resolve
if hasattr(tests, "VectorMemoryBankDef"):
    tests.VectorMemoryBankDef = bank_of_whole_chunks
"""


@dataclass(frozen=True)
class Suite:
    """One file of the reference's tests, and the server that it needs."""

    tests: str
    config: dict[str, Any] | None = None
    """Run config; None for the default one."""
    registrations: tuple[tuple[str, dict[str, Any]], ...] = ()
    """Bodies that are sent to routes before the tests run."""
    provider_id: str = ""
    """Provider that the tests register with."""


def _echo(*models: str) -> dict[str, Any]:
    instance = {"provider_id": "echo", "provider_type": "inline::echo", "config": {"models": models}}
    return {"providers": {"inference": [instance]}}


_PACKAGE = "llama_stack.providers.tests"
SUITES = {
    "inference": Suite(f"{_PACKAGE}.inference.test_inference", _echo("Llama3.1-8B-Instruct", "Llama3.2-3B-Instruct")),
    "memory": Suite(
        f"{_PACKAGE}.memory.test_memory",
        registrations=(
            (
                "/models/register",
                {
                    "model": {
                        "identifier": "all-MiniLM-L6-v2",
                        "llama_model": "all-minilm-l6-v2",
                        "provider_id": "local",
                        "metadata": {},
                    }
                },
            ),
        ),
        provider_id="memory",
    ),
    "safety": Suite(
        f"{_PACKAGE}.safety.test_safety",
        registrations=(
            (
                "/shields/register",
                {"shield": {"identifier": "llama_guard", "type": "llama_guard", "provider_id": "guard", "params": {}}},
            ),
        ),
    ),
}


def main() -> int:
    folder, *names = sys.argv[1:] or [""]
    if not folder or not set(names) <= set(SUITES):
        print(__doc__)
        return 2
    python = _environment(Path(folder).resolve())
    return max(_run(python, SUITES[name]) for name in names or SUITES)


def _run(python: Path, suite: Suite) -> int:
    """Run one suite and return pytest's exit code."""
    where = subprocess.run(
        [python, "-c", f"import importlib.util as u; print(u.find_spec({suite.tests!r}).origin)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    with TemporaryDirectory() as folder, _server(suite, folder) as url:
        (Path(folder) / "reference_fixture.py").write_text(CONFTEST, encoding="utf-8")
        for route, body in suite.registrations:
            httpx.post(f"{url}{route}", json=body).raise_for_status()
        facts = {"SERVER_URL": url, "REFERENCE_TESTS": suite.tests, "PROVIDER_ID": suite.provider_id}
        return subprocess.run(
            [python, "-m", "pytest", "-p", "reference_fixture", "--rootdir", folder, "--disable-warnings", where],
            check=False,
            cwd=folder,
            env=os.environ | facts | {"PYTHONPATH": folder},
        ).returncode


@contextmanager
def _server(suite: Suite, folder: str) -> Iterator[str]:
    """Yield the address of a server with state of its own."""
    # The reference's clients send no token.
    command = [sys.executable, "-m", "workbench", "serve", "--port", "0", "--no-token"]
    env = {name: value for name, value in os.environ.items() if name != "WORKBENCH_CONFIG"}
    if suite.config is not None:
        config = Path(folder) / "run.yaml"
        config.write_text(json.dumps(suite.config), encoding="utf-8")
        command += ["--config", str(config)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env | {"WORKBENCH_STATE": folder})
    try:
        assert server.stdout is not None
        yield server.stdout.readline().removeprefix("Serving at ").strip()
    finally:
        server.terminate()
        server.wait()


def _environment(folder: Path) -> Path:
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


if __name__ == "__main__":
    sys.exit(main())
