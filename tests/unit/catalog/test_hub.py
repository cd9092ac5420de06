"""The hub's settings are read once per process, so each case asks in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import workbench

REPO = "org/tiny"
REVISION = "0" * 40
ASK = """
import sys
from workbench import catalog
from workbench.errors import WorkbenchError

try:
    print("found", catalog.resolve(sys.argv[1], allow_download=sys.argv[2] == "True"))
except WorkbenchError as error:
    print(type(error).__name__, error)
"""

Ask = Callable[..., str]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    def run(*, endpoint: str, offline: bool = False, allow_download: bool = True) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {
            "HF_HOME": str(tmp_path / "hf"),
            "HF_ENDPOINT": endpoint,
            "HF_HUB_OFFLINE": str(int(offline)),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "*",
            "PYTHONPATH": str(Path(workbench.__file__).parents[1]),
        }
        command = [sys.executable, "-c", ASK, REPO, str(allow_download)]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
        return answer.stdout.strip()

    return run


@pytest.fixture
def nowhere(closed_port: int) -> str:
    return f"http://127.0.0.1:{closed_port}"


def cached_snapshot(tmp_path: Path, *names: str) -> Path:
    """A repository in the hub's cache, as an earlier download would have left it."""
    repo = tmp_path / "hf" / "hub" / "models--org--tiny"
    snapshot = repo / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(REVISION)
    for name in names:
        (snapshot / name).write_bytes((2).to_bytes(8, "little") + b"{}" if name.endswith("safetensors") else b"{}")
    return snapshot


def refusing(status: int, code: str) -> type[BaseHTTPRequestHandler]:
    """A hub that answers every request in the same way."""

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *_args: object) -> None:
            pass

    return Hub


def holding(files: dict[str, bytes]) -> type[BaseHTTPRequestHandler]:
    """A hub with one repository."""
    repo_info = {"id": REPO, "sha": REVISION, "siblings": [{"rfilename": name} for name in files]}
    tree = [
        {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        for name, content in files.items()
    ]

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            answers = {f"/api/models/{REPO}/revision/main": repo_info, f"/api/models/{REPO}/tree/{REVISION}": tree}
            listed = {place: json.dumps(answer).encode() for place, answer in answers.items()}
            bodies = listed | {f"/{REPO}/resolve/{REVISION}/{name}": content for name, content in files.items()}
            body = bodies.get(path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("ETag", f'"{hashlib.sha1(body or b"").hexdigest()}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body or b"")

        do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *_args: object) -> None:
            pass

    return Hub


WEIGHTS = (2).to_bytes(8, "little") + b"{}"
MODEL = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": WEIGHTS}


def modules(**paths: str) -> dict[str, bytes]:
    listed = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in paths.items()]
    return {"modules.json": json.dumps(listed).encode()}


def test_a_sentence_models_parts_come_along_and_nothing_beside_them(
    ask: Ask, serve: Callable[[type[BaseHTTPRequestHandler]], str]
) -> None:
    parts = modules(Transformer="", Pooling="1_Pooling", Dense="2_Dense", LayerNorm="odd [3]", Normalize="4_Normalize")
    taken = MODEL | parts | {"sentence_bert_config.json": b"{}", "sentence_xlnet_config.json": b"{}"}
    taken |= {"1_Pooling/config.json": b"{}", "2_Dense/config.json": b"{}", "2_Dense/model.safetensors": WEIGHTS}
    taken |= {"odd [3]/config.json": b"{}", "odd [3]/model.safetensors": WEIGHTS}
    left = {"2_Dense/pytorch_model.bin": b"pickle", "onnx/model.safetensors": WEIGHTS, "odd 3/config.json": b"{}"}
    left |= {"consolidated.safetensors": WEIGHTS, "9_Dense/config.json": b"{}", "README.md": b"text"}
    found = Path(ask(endpoint=serve(holding(taken | left))).removeprefix("found "))
    assert {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()} == set(taken)


def test_what_is_no_sentence_model_is_fetched_without_its_folders(
    ask: Ask, serve: Callable[[type[BaseHTTPRequestHandler]], str]
) -> None:
    left = {"1_Pooling/config.json": b"{}", "2_Dense/model.safetensors": WEIGHTS}
    found = Path(ask(endpoint=serve(holding(MODEL | left))).removeprefix("found "))
    assert {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()} == set(MODEL)


@pytest.mark.parametrize("kind", ["Asym", "CLIPModel", "StaticEmbedding"])
def test_a_part_that_is_not_supported_is_refused_by_its_name(
    ask: Ask, serve: Callable[[type[BaseHTTPRequestHandler]], str], kind: str
) -> None:
    answer = ask(endpoint=serve(holding(modules(**{kind: ""}) | {f"0_{kind}/config.json": b"{}"})))
    assert answer.startswith("ModelFormatError ")
    assert f"models.{kind}, which is not supported" in answer


@pytest.mark.parametrize("how", [{"offline": True}, {"allow_download": False}], ids=["offline", "not allowed"])
def test_what_the_hubs_cache_has_is_found_without_a_network(
    ask: Ask, nowhere: str, tmp_path: Path, how: dict[str, bool]
) -> None:
    snapshot = cached_snapshot(tmp_path, "config.json", "model.safetensors", "tokenizer.json")
    assert ask(endpoint=nowhere, **how) == f"found {snapshot}"


def test_a_repository_without_safetensors_is_refused(ask: Ask, nowhere: str, tmp_path: Path) -> None:
    cached_snapshot(tmp_path, "config.json", "tokenizer.json")
    assert "safetensors only" in ask(endpoint=nowhere, offline=True)


@pytest.mark.parametrize(
    "how, reason",
    [
        ({"offline": True}, "HF_HUB_OFFLINE switches downloads off"),
        ({"allow_download": False}, "downloading is not allowed"),
        ({}, "the hub cannot be reached"),
    ],
    ids=["offline", "not allowed", "no network"],
)
def test_what_is_not_on_this_machine_is_told_with_the_reason(
    ask: Ask, nowhere: str, how: dict[str, bool], reason: str
) -> None:
    answer = ask(endpoint=nowhere, **how)
    assert answer.startswith("OfflineError org/tiny")
    assert reason in answer


@pytest.mark.parametrize(
    "status, code, kind, advice",
    [
        (404, "RepoNotFound", "UnknownModelError", "Check the spelling"),
        (403, "GatedRepo", "GatedModelError", "huggingface.co/org/tiny"),
        (500, "Broken", "DownloadError", "Try again later"),
    ],
)
def test_each_refusal_of_the_hub_has_its_type_and_advice(
    ask: Ask, serve: Callable[[type[BaseHTTPRequestHandler]], str], status: int, code: str, kind: str, advice: str
) -> None:
    answer = ask(endpoint=serve(refusing(status, code)))
    assert answer.startswith(f"{kind} ")
    assert advice in answer
