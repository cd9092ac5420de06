from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

import workbench
from tests.fakes.hub_server import COMMIT, REPO, FakeHub, Serve, sha256
from workbench import Workbench, catalog
from workbench.catalog.downloading import sha256_of
from workbench.catalog.progress import reported_to
from workbench.errors import WorkbenchError

TAGGED = "f" * 40
TOKEN = "hf_" + "x" * 30
RESOLVE = """
import os, signal, sys
from workbench import Workbench, catalog
from workbench.catalog.progress import reported_to
from workbench.errors import WorkbenchError

killed_after, first = int(sys.argv[3]), []

def report(stage, done, total):
    first.append(done)
    if killed_after and done - first[0] >= killed_after:
        os.kill(os.getpid(), signal.SIGKILL)

try:
    with reported_to(report):
        print("found", catalog.resolve(sys.argv[1], allow_download=sys.argv[2] == "True"))
except WorkbenchError as error:
    print(type(error).__name__, error)
"""


class Ask:
    """Resolves a model whose repository is in the hub of a test; returns its folder or the error as text."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.progress: list[tuple[str, int, int | None]] = []
        """Progress of the last call."""

    def __call__(
        self,
        *,
        endpoint: str,
        model: str = REPO,
        offline: bool = False,
        allow_download: bool = True,
        token: str | None = None,
    ) -> str:
        from huggingface_hub import close_session, constants

        settings: dict[str, Any] = {
            "ENDPOINT": endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(self.folder / "hf" / "hub"),
            "HF_TOKEN_PATH": str(self.folder / "token"),
            "HF_HUB_OFFLINE": offline,
            "HF_HUB_DISABLE_TELEMETRY": True,
        }
        for name, value in settings.items():
            self.monkeypatch.setattr(constants, name, value)
        self.monkeypatch.delenv("HF_TOKEN", raising=False)
        if token:
            self.monkeypatch.setenv("HF_TOKEN", token)
        self.progress = []
        try:
            with reported_to(lambda *report: self.progress.append(report)):
                return f"found {catalog.resolve(model, allow_download=allow_download)}"
        except WorkbenchError as error:
            return f"{type(error).__name__} {error}"
        finally:
            close_session()

    def apart(self, *, endpoint: str, offline: bool = False, allow_download: bool = True, killed_after: int = 0) -> str:
        """Resolve in a process of its own, which reads the hub's variables and can be killed after some bytes."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {
            "HF_HOME": str(self.folder / "hf"),
            "HF_ENDPOINT": endpoint,
            "HF_HUB_OFFLINE": str(int(offline)),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "*",
            "PYTHONPATH": str(Path(workbench.__file__).parents[1]),
        }
        command = [sys.executable, "-c", RESOLVE, REPO, str(allow_download), str(killed_after)]
        answer = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=not killed_after, cwd=self.folder
        )
        return answer.stdout.strip()

    def files(self, *, endpoint: str, token: str | None = None) -> set[str]:
        """Return the names of the files of the model's snapshot."""
        found = Path(self(endpoint=endpoint, token=token).removeprefix("found "))
        return {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()}


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    return Ask(tmp_path, monkeypatch)


@pytest.fixture
def nowhere(closed_port: int) -> str:
    return f"http://127.0.0.1:{closed_port}"


def cached_snapshot(tmp_path: Path, *names: str) -> Path:
    """A repository in the hub's cache, as an earlier download would have left it."""
    repo = tmp_path / "hf" / "hub" / "models--org--tiny"
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    for name in names:
        (snapshot / name).write_bytes(WEIGHTS if name.endswith("safetensors") else b"{}")
    return snapshot


def refusing(status: int, code: str, message: str = "") -> type[BaseHTTPRequestHandler]:
    """A hub that answers every request in the same way."""

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", message)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *_args: object) -> None:
            pass

    return Hub


def weights(nbytes: int, seed: int = 0) -> bytes:
    """A safetensors file with one tensor."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [nbytes], "data_offsets": [0, nbytes]}}).encode()
    return len(header).to_bytes(8, "little") + header + random.Random(seed).randbytes(nbytes)


WEIGHTS = weights(10)
MODEL = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": WEIGHTS}
INDEX = "model.safetensors.index.json"


def index(*names: str) -> dict[str, bytes]:
    return {INDEX: json.dumps({"weight_map": {f"weight {name}": name for name in names}}).encode()}


def modules(**paths: str) -> dict[str, bytes]:
    listed = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in paths.items()]
    return {"modules.json": json.dumps(listed).encode()}


def downloads(hub: FakeHub) -> list[str]:
    """The files that were downloaded, or asked for their size."""
    return sorted({one.rpartition("/resolve/")[2].partition("/")[2] for one in hub.requests if "/resolve/" in one})


def test_only_the_files_that_a_model_needs_are_downloaded(ask: Ask, serve: Serve) -> None:
    needed = MODEL | {
        "generation_config.json": b"{}",
        "chat_template.jinja": b"{}",
        "additional_chat_templates/tool_use.jinja": b"{}",
    }
    others = dict.fromkeys(
        (
            *("pytorch_model.bin", "consolidated.00.pth", "original/model.safetensors", "original/params.json"),
            *("onnx/model.onnx", "model-Q4_K.gguf", "flax_model.msgpack", "tf_model.h5", "consolidated.safetensors"),
            *("model.fp8.safetensors", "training_args.bin", "README.md", "1_Pooling/config.json"),
        ),
        b"x",
    )
    hub = FakeHub(needed | others)
    assert ask.files(endpoint=serve(hub.handler())) == set(needed)
    assert downloads(hub) == sorted(needed)


def test_of_a_model_in_parts_those_in_its_index_are_downloaded(ask: Ask, serve: Serve) -> None:
    shards = {f"model-{number}.safetensors": WEIGHTS for number in (1, 2)}
    needed = {name: MODEL[name] for name in ("config.json", "tokenizer.json")} | shards | index(*shards)
    assert ask.files(
        endpoint=serve(FakeHub(needed | {"model.safetensors": WEIGHTS, "x.safetensors": WEIGHTS}).handler())
    ) == set(needed)


def test_a_sentence_models_parts_come_along_and_nothing_beside_them(ask: Ask, serve: Serve) -> None:
    parts = modules(Transformer="", Pooling="1_Pooling", Dense="2_Dense", LayerNorm="odd [3]", Normalize="4_Normalize")
    taken = MODEL | parts | {"sentence_bert_config.json": b"{}", "sentence_xlnet_config.json": b"{}"}
    taken |= {"1_Pooling/config.json": b"{}", "2_Dense/config.json": b"{}", "2_Dense/model.safetensors": WEIGHTS}
    taken |= {"odd [3]/config.json": b"{}", "odd [3]/model.safetensors": WEIGHTS}
    left = {"2_Dense/pytorch_model.bin": b"pickle", "onnx/model.safetensors": WEIGHTS, "odd 3/config.json": b"{}"}
    left |= {"consolidated.safetensors": WEIGHTS, "9_Dense/config.json": b"{}", "README.md": b"text"}
    assert ask.files(endpoint=serve(FakeHub(taken | left).handler())) == set(taken)


@pytest.mark.parametrize("kind", ["Asym", "CLIPModel", "StaticEmbedding"])
def test_a_part_that_is_not_supported_is_refused_by_its_name(ask: Ask, serve: Serve, kind: str) -> None:
    hub = FakeHub(MODEL | modules(**{kind: ""}) | {f"0_{kind}/config.json": b"{}"})
    answer = ask(endpoint=serve(hub.handler()))
    assert answer.startswith("ModelFormatError ")
    assert f"models.{kind}, which is not supported" in answer
    assert downloads(hub) == ["modules.json"]


def without(name: str, **others: bytes) -> dict[str, bytes]:
    return {one: content for one, content in (MODEL | others).items() if one != name}


@pytest.mark.parametrize(
    "files, kind, advice",
    [
        (without("model.safetensors") | {"pytorch_model.bin": b"x"}, "UnsafeModelError", "org/tiny@refs/pr/NUMBER"),
        (without("model.safetensors") | {"consolidated.00.pth": b"x"}, "UnsafeModelError", "consolidated.00.pth"),
        (without("model.safetensors") | {"a.gguf": b"x"}, "ModelFormatError", "hf download org/tiny a.gguf"),
        (without("model.safetensors") | {"onnx/a.onnx": b"x"}, "ModelFormatError", "offers onnx/a.onnx"),
        (without("config.json"), "ModelFormatError", "no config.json"),
        (without("tokenizer.json"), "ModelFormatError", "no tokenizer.json or tokenizer.model"),
        (MODEL | index("model-1.safetensors"), "ModelFormatError", "lacks 1 of the 1 weight files"),
        (MODEL | index("../model.safetensors"), "ModelFormatError", "outside its folder"),
        (MODEL | {INDEX: b"[]"}, "ModelFormatError", "is damaged"),
        (MODEL | {"adapter_config.json": b"{}"}, "ModelFormatError", "beside a whole model"),
    ],
    ids=[
        "bin",
        "pth",
        "gguf",
        "onnx",
        "no config",
        "no tokenizer",
        "lacks a part",
        "part outside",
        "damaged index",
        "adapter",
    ],
)
def test_what_cannot_be_loaded_is_refused_before_a_download(
    ask: Ask, serve: Serve, files: dict[str, bytes], kind: str, advice: str
) -> None:
    hub = FakeHub(files)
    answer = ask(endpoint=serve(hub.handler()))
    assert answer.startswith(f"{kind} ")
    assert advice in answer
    assert set(downloads(hub)) <= {INDEX}


@pytest.mark.parametrize(
    "revision, commit", [("v1.0", TAGGED), ("main", COMMIT), (TAGGED, TAGGED), ("refs/pr/1", TAGGED)]
)
def test_a_branch_a_tag_and_a_commit_name_a_revision(ask: Ask, serve: Serve, revision: str, commit: str) -> None:
    hub = FakeHub(MODEL | {"model.safetensors": weights(2000)}, {"main": COMMIT, "v1.0": TAGGED, "refs/pr/1": TAGGED})
    endpoint, model = serve(hub.handler()), f"{REPO}@{revision}"
    found = ask(endpoint=endpoint, model=model)
    assert found.endswith(commit)
    assert ask(endpoint=endpoint, model=model, offline=True) == found
    assert ask.progress == []


def test_a_revision_that_is_not_there_is_told_with_those_that_are(ask: Ask, serve: Serve) -> None:
    hub = FakeHub(MODEL, {"main": COMMIT, "v1.0": TAGGED})
    answer = ask(endpoint=serve(hub.handler()), model=f"{REPO}@v2")
    assert answer.startswith("UnknownModelError org/tiny has no revision 'v2'")
    assert "main, v1.0" in answer


def test_a_download_that_breaks_off_20_times_continues_where_it_ended(ask: Ask, serve: Serve) -> None:
    """Connections break 15 times, and the process is killed 5 times, always in the middle of a file."""
    seeded = random.Random(8)
    shards = {f"model-{number}.safetensors": weights(3_000_000, number) for number in (1, 2)}
    hub = FakeHub({**MODEL, **shards, **index(*shards)})
    endpoint = serve(hub.handler())
    for _ in range(5):
        hub.breaks = iter([seeded.randrange(70_000, 150_000) for _ in range(3)])
        assert not ask.apart(endpoint=endpoint, killed_after=500_000 + seeded.randrange(300_000))
    partly = ask(endpoint=endpoint, offline=True)
    assert partly.startswith("OfflineError org/tiny is in the hub's cache only in part: ")
    assert "model-2.safetensors" in partly
    hub.breaks = None
    found = Path(ask(endpoint=endpoint).removeprefix("found "))
    assert {name: sha256_of(found / name) for name in shards} == {name: sha256(shards[name]) for name in shards}
    starts = [start for name in shards for start in hub.starts[name]]
    assert len(starts) >= 21  # one for each shard, and one after each break
    assert all(hub.starts[name] == sorted(set(hub.starts[name])) for name in shards)  # none begins anew
    (_, first, total), (_, last, _) = ask.progress[0], ask.progress[-1]
    small = sum(len(hub.files[name]) for name in ("config.json", "tokenizer.json", INDEX))
    assert 2_500_000 < first < last == total == small + sum(map(len, shards.values()))


@pytest.mark.parametrize("digest, size", [("../../../../evil", 2000), ("0" * 63, 2000), (sha256(b""), -5)])
def test_a_file_without_a_valid_checksum_is_not_stored(
    ask: Ask, serve: Serve, tmp_path: Path, digest: str, size: int
) -> None:
    class Hostile(FakeHub):
        def _lfs(self, content: bytes, key: str = "sha256") -> dict[str, object]:
            return {"lfs": {key: digest, "size": size, "pointerSize": 130}} if len(content) > 1000 else {}

    hub = Hostile(MODEL | {"model.safetensors": weights(2000)})
    answer = ask(endpoint=serve(hub.handler()))
    assert answer.startswith("DownloadError the hub describes model.safetensors of org/tiny without a valid SHA-256")
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name or path.name.endswith(".incomplete")]


def test_an_adapter_alone_is_fetched_and_called_one(ask: Ask, serve: Serve) -> None:
    files = {"adapter_config.json": b"{}", "adapter_model.safetensors": WEIGHTS}
    for more in ({}, {"config.json": b"{}", "additional_chat_templates/../../x.jinja": b"x"}):
        answer = ask(endpoint=serve(FakeHub({**files, **more}).handler()))
        assert answer.startswith("ModelFormatError ")
        assert "is an adapter, not a whole model: name the model that it belongs to as well" in answer


def layout(cache: Path) -> dict[str, str]:
    """The files of a cache with a hash of their content, or where they link to."""
    files = [path for path in cache.rglob("*") if path.is_symlink() or path.is_file()]
    return {
        path.relative_to(cache).as_posix(): str(path.readlink()) if path.is_symlink() else sha256(path.read_bytes())
        for path in files
    }


def test_the_cache_is_the_one_that_huggingface_hub_itself_fills(ask: Ask, serve: Serve, tmp_path: Path) -> None:
    """Each finds, offline, what the other has downloaded, and the files and links of both are the same."""
    from huggingface_hub import scan_cache_dir, snapshot_download

    shards = {f"model-{number}.safetensors": weights(20_000, number) for number in (1, 2)}
    files = without("model.safetensors") | shards | index(*shards) | {"additional_chat_templates/x.jinja": b"{{ x }}"}
    hub = FakeHub(files | {"model-2.safetensors": shards["model-1.safetensors"]}, {"main": COMMIT, "v1.0": TAGGED})
    endpoint, mine, theirs = serve(hub.handler()), tmp_path / "hf/hub", tmp_path / "theirs"
    found = [Path(ask(endpoint=endpoint, model=f"{REPO}{at}").removeprefix("found ")) for at in ("", "@v1.0")]
    for revision in ("main", "v1.0"):
        snapshot_download(REPO, revision=revision, cache_dir=theirs)
    assert layout(mine) == layout(theirs)

    scan = scan_cache_dir(mine)
    (repository,) = scan.repos
    assert (repository.repo_id, scan.warnings) == (REPO, [])
    commits = {revision.commit_hash: revision for revision in repository.revisions}
    assert {commit: revision.refs for commit, revision in commits.items()} == {COMMIT: {"main"}, TAGGED: {"v1.0"}}
    assert {file.file_name for file in commits[COMMIT].files} == {Path(name).name for name in files}
    for path, at in zip(found, (None, "v1.0"), strict=True):
        assert snapshot_download(REPO, revision=at, local_files_only=True) == str(path)

    shutil.rmtree(mine)
    theirs.rename(mine)
    sent = dict(hub.sent)
    assert ask(endpoint=endpoint, offline=True) == f"found {found[0]}"
    assert ask(endpoint=endpoint, model=f"{REPO}@v1.0") == f"found {found[1]}"
    assert hub.sent == sent


def test_a_list_of_files_that_is_not_there_is_named_offline(ask: Ask, serve: Serve) -> None:
    shards = {f"model-{number}.safetensors": weights(2000, number) for number in (1, 2)}
    endpoint = serve(FakeHub({**MODEL, **shards, **index(*shards)}).handler())
    found = Path(ask(endpoint=endpoint).removeprefix("found "))
    (found / INDEX).unlink()
    answer = ask(endpoint=endpoint, offline=True)
    assert answer.startswith("OfflineError org/tiny is in the hub's cache only in part: ")
    assert INDEX in answer
    assert ask(endpoint=endpoint) == f"found {found}"


def test_nothing_is_sent_twice_when_only_the_connection_breaks(ask: Ask, serve: Serve) -> None:
    seeded = random.Random(9)
    content = weights(2_000_000)
    hub = FakeHub(
        MODEL | {"model.safetensors": content}, breaks=iter([seeded.randrange(1, 200_000) for _ in range(12)])
    )
    found = Path(ask(endpoint=serve(hub.handler())).removeprefix("found "))
    assert (found / "model.safetensors").read_bytes() == content
    assert hub.sent == {"model.safetensors": len(content)}


def test_the_progress_of_a_download_reaches_who_registers_the_model(ask: Ask, serve: Serve) -> None:
    hub = FakeHub(MODEL | {"model.safetensors": weights(300_000)})
    ask(endpoint=serve(hub.handler()), model="org/other")  # the settings stay for the rest of the test
    reports: list[tuple[str, int, int | None]] = []
    local = {"provider_id": "local", "provider_type": "inline::transformers", "config": {"models": []}}
    with Workbench({"providers": {"inference": [local]}}) as bench:
        bench.register_model("mine", REPO, progress=lambda *report: reports.append(report))
    total = sum(map(len, hub.files.values()))
    assert reports[0][0] == "download"
    assert reports[-1] == ("download", total, total)


def test_a_server_that_sends_no_parts_sends_the_file_again(ask: Ask, serve: Serve) -> None:
    content = weights(200_000)
    hub = FakeHub(MODEL | {"model.safetensors": content}, breaks=iter([100_000]), sends_ranges=False)
    found = Path(ask(endpoint=serve(hub.handler())).removeprefix("found "))
    assert (found / "model.safetensors").read_bytes() == content


def test_a_file_with_another_checksum_is_deleted_unopened(ask: Ask, serve: Serve) -> None:
    hub = FakeHub(MODEL | {"model.safetensors": weights(2000)}, corrupts=True)
    endpoint = serve(hub.handler())
    answer = ask(endpoint=endpoint)
    assert answer.startswith("ChecksumError ")
    assert sha256(hub.files["model.safetensors"]) in answer
    hub.corrupts = False
    assert ask(endpoint=endpoint).startswith("found ")


@pytest.mark.parametrize("how", [{"offline": True}, {"allow_download": False}], ids=["offline", "not allowed"])
def test_what_the_hubs_cache_has_is_found_without_a_network(
    ask: Ask, nowhere: str, tmp_path: Path, how: dict[str, Any]
) -> None:
    snapshot = cached_snapshot(tmp_path, "config.json", "model.safetensors", "tokenizer.json")
    assert ask(endpoint=nowhere, **how) == f"found {snapshot}"


def test_what_the_hubs_cache_has_is_found_while_the_hub_cannot_be_reached(
    ask: Ask, nowhere: str, tmp_path: Path
) -> None:
    snapshot = cached_snapshot(tmp_path, "config.json", "model.safetensors", "tokenizer.json")
    assert ask(endpoint=nowhere) == f"found {snapshot}"


def test_a_repository_without_safetensors_is_refused(ask: Ask, nowhere: str, tmp_path: Path) -> None:
    cached_snapshot(tmp_path, "config.json", "tokenizer.json")
    assert "safetensors only" in ask(endpoint=nowhere, offline=True)


@pytest.mark.parametrize(
    "how, reason",
    [
        ({"offline": True}, "HF_HUB_OFFLINE switches downloads off"),
        ({"allow_download": False}, "workbench models pull org/tiny"),
        ({}, "the hub cannot be reached"),
    ],
    ids=["offline", "not allowed", "no network"],
)
def test_what_is_not_on_this_machine_is_told_with_the_reason(
    ask: Ask, nowhere: str, how: dict[str, bool], reason: str
) -> None:
    answer = ask.apart(endpoint=nowhere, **how)
    assert answer.startswith("OfflineError org/tiny")
    assert reason in answer


@pytest.mark.parametrize(
    "status, code, message, kind, advice",
    [
        (404, "RepoNotFound", "", "UnknownModelError", "Check the spelling"),
        (401, "", "", "UnknownModelError", "set HF_TOKEN"),
        (401, "", "Invalid credentials in Authorization header", "GatedModelError", "settings/tokens"),
        (403, "GatedRepo", "", "GatedModelError", "huggingface.co/org/tiny"),
        (500, "Broken", "", "DownloadError", "Try again later"),
    ],
)
def test_each_refusal_of_the_hub_has_its_type_and_advice(
    ask: Ask, serve: Serve, status: int, code: str, message: str, kind: str, advice: str
) -> None:
    answer = ask(endpoint=serve(refusing(status, code, message)))
    assert answer.startswith(f"{kind} ")
    assert advice in answer


@pytest.mark.parametrize("large", [False, True], ids=["small files", "large files"])
def test_a_gated_model_is_told_with_what_to_do(ask: Ask, serve: Serve, large: bool) -> None:
    hub = FakeHub(MODEL | {"model.safetensors": weights(2000)} if large else MODEL, token=TOKEN)
    endpoint = serve(hub.handler())
    answer = ask(endpoint=endpoint)
    assert answer.startswith("GatedModelError ")
    assert "set HF_TOKEN" in answer
    hub.allowed = False
    answer = ask(endpoint=endpoint, token=TOKEN)
    assert answer.startswith("GatedModelError ")
    assert "the account of your token has no access" in answer
    hub.allowed = True
    assert ask.files(endpoint=endpoint, token=TOKEN) == set(MODEL)
    assert not hub.leaked
