"""The reference implementation's own inference tests of October 2024, against `workbench serve` with the echo.

    .venv/bin/python scripts/reference_tests.py FOLDER

The script creates a virtual environment with that implementation in FOLDER, because it needs other versions of its
dependencies, and reuses it the next time. Nothing else needs the network. Exit code 0: all of its tests pass.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

VERSION = "0.0.41"
PACKAGES = (f"llama-stack=={VERSION}", f"llama-models=={VERSION}", "pytest>=8,<9", "pytest-asyncio>=0.24,<0.25")
TESTS = "llama_stack.providers.tests.inference.test_inference"
MODELS = ["Llama3.1-8B-Instruct", "Llama3.2-3B-Instruct"]
"""Models that the tests request."""

# The tests' fixture builds providers in the process; this replaces them by clients of the server.
CONFTEST = f"""
import os
import {TESTS} as tests
from llama_stack.apis.inference.client import InferenceClient
from llama_stack.apis.models.client import ModelsClient
from llama_stack.distribution.datatypes import Api


async def resolve(api, deps=None):
    url = os.environ["SERVER_URL"]
    return {{Api.inference: InferenceClient(url), Api.models: ModelsClient(url)}}


tests.resolve_impls_for_test = resolve
"""


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    python = _environment(Path(sys.argv[1]).resolve())
    where = subprocess.run(
        [python, "-c", f"import importlib.util as u; print(u.find_spec({TESTS!r}).origin)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    with TemporaryDirectory() as folder:
        (Path(folder) / "reference_fixture.py").write_text(CONFTEST, encoding="utf-8")
        config = Path(folder) / "run.yaml"
        instance = {"provider_id": "echo", "provider_type": "inline::echo", "config": {"models": MODELS}}
        config.write_text(json.dumps({"providers": {"inference": [instance]}}), encoding="utf-8")
        # The reference's client sends no token.
        command = [sys.executable, "-m", "workbench", "serve", "--config", str(config), "--port", "0", "--no-token"]
        server = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"WORKBENCH_STATE": folder}
        )
        try:
            assert server.stdout is not None
            url = server.stdout.readline().removeprefix("Serving at ").strip()
            return subprocess.run(
                [python, "-m", "pytest", "-p", "reference_fixture", "--rootdir", folder, "--disable-warnings", where],
                check=False,
                cwd=folder,
                env=os.environ | {"SERVER_URL": url, "PYTHONPATH": folder},
            ).returncode
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
