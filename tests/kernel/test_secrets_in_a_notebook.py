"""A notebook that was saved shows no secret of its run config, whatever was printed, drawn or raised in it."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
CANARY = "sk-canary-0123456789"
REFERRED = "sk-referred-0123456789"
CELLS = [
    f"import sys; sys.path.insert(0, {str(ROOT)!r})",
    "import workbench as wb, pprint, logging; logging.basicConfig(level=logging.DEBUG)",
    "from workbench import providers",
    'providers.PROVIDER_TYPES["inline::secretive"] = "tests.fakes.providers:SecretiveProvider"',
    'bench = wb.Workbench("right.yaml"); bench',
    "bench.config",
    "pprint.pprint(bench.config.model_dump()); print(bench.config.model_dump_json())",
    "bench.config.providers['inference'][0].config",
    "vars(bench)",
    "bench.list_models(), bench.card('one')",
    "bench.playground()",
    "bench.chat_completion([wb.UserMessage(content='x')]).result()",
    "await bench.inspect.list_providers(), await bench.inspect.provider_health()",
    'wb.Workbench("wrong.yaml")',
    "%xmode Verbose",
    'wb.Workbench("wrong.yaml")',
    'wb.Workbench("refused.yaml")',
    'wb.Workbench("broken.yaml")',
    "%tb",
]


@pytest.mark.kernel
def test_a_saved_notebook_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFERRED", REFERRED)
    right = {"models": ["one"], "api_token": CANARY, "auth": "${env.REFERRED}", "headers": {"x": CANARY}}
    configs = {
        "right": right,
        "wrong": {**right, "auth": [CANARY], "port": CANARY, "eos_token": f"bad {CANARY}"},
        "refused": {**right, "port": 1},
    }
    for name, config in configs.items():
        instance = {"provider_id": "a", "provider_type": "inline::secretive", "config": config}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"providers": {"inference": [instance]}}))
    (tmp_path / "broken.yaml").write_text(f"api_token: {CANARY}: x")

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=90, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=dict(os.environ))

    saved = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    errors = [[out.ename for out in cell.outputs if out.output_type == "error"] for cell in notebook.cells]
    assert [found[0] for found in errors if found] == ["UnsupportedFieldError", *["ConfigError"] * 5]
    assert "**********" in saved
    assert "${env.REFERRED}" in saved
    assert CANARY not in saved
    assert REFERRED not in saved
