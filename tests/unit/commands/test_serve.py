from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.commands.conftest import Cli

ECHO = "providers: {inference: [{provider_id: echo, provider_type: 'inline::echo', config: {}}]}"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(ECHO, encoding="utf-8")
    return path


@contextmanager
def started(*options: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "workbench", "serve", "--port", "0", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    lines = []
    while (line := process.stdout.readline().rstrip()) not in ("}", ""):
        lines.append(line)
    facts: dict[str, Any] = json.loads("".join([*lines, "}"]))
    return facts


@pytest.mark.server
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_serves_wants_its_token_and_stops_by_a_signal(config: Path, number: int) -> None:
    with started("--config", str(config), "--json") as process:
        facts = told(process)
        assert httpx.get(f"{facts['url']}/health").status_code == 401
        with_token = {"Authorization": f"Bearer {facts['token']}"}
        assert httpx.get(f"{facts['url']}/health", headers=with_token).status_code == 200
        process.send_signal(number)
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.stdout is not None
        assert process.stdout.read() == ""


@pytest.mark.server
def test_it_says_all_that_a_person_needs_and_takes_the_environments_token(config: Path) -> None:
    with started("--config", str(config), WORKBENCH_TOKEN="mine") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        assert lines[0].startswith("Serving at http://127.0.0.1:")
        assert lines[1] == "Token: mine\n"
        assert lines[2].endswith("/docs?token=mine\n")
        address = lines[2].removeprefix("Routes: ").strip()
        assert httpx.get(address).status_code == 200


@pytest.mark.server
def test_two_tokens_are_never_the_same(config: Path) -> None:
    tokens = []
    for _ in range(2):
        with started("--config", str(config), "--json") as process:
            tokens.append(told(process)["token"])
    assert len(set(tokens)) == 2
    assert all(len(token) >= 40 for token in tokens)


@pytest.mark.server
def test_without_a_token_it_says_so(config: Path) -> None:
    with started("--config", str(config), "--json", "--no-token") as process:
        facts = told(process)
        assert facts["token"] is None
        assert httpx.get(f"{facts['url']}/health").status_code == 200
        assert httpx.get(f"{facts['url']}/health", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.server
@pytest.mark.parametrize("options, status", [((), 404), (("--insides",), 501)])
def test_the_numbers_inside_models_are_served_only_with_the_option(
    config: Path, options: tuple[str, ...], status: int
) -> None:
    with started("--config", str(config), "--json", "--no-token", *options) as process:
        url = told(process)["url"]
        found = httpx.get(f"{url}/insides/points", params={"model": "echo"})
        assert found.status_code == status, "echo has none"
        edit = {"point": "resid_post.0", "operation": "add", "value": 1.0}
        body = {"model": "echo", "content": "x", "edits": [edit]}
        refused = httpx.post(f"{url}/inference/completion", json=body).json()["error"]
        assert refused["param"] == "edits"
        assert ("--insides" in refused["message"]) == (not options)


@pytest.mark.parametrize(
    "options, named",
    [
        (("--host", "0.0.0.0", "--no-token"), "--no-token"),
        (("--host", "models.example", "--no-token"), "--no-token"),
        (("--max-batch", "0"), "--max-batch"),
        (("--max-body-mb", "-1"), "--max-body-mb"),
        (("--grace", "-1"), "--grace"),
        (("--port", "70000"), "--port"),
        (("--port", "-1"), "--port"),
        (("--config", "/not/there.yaml"), "/not/there.yaml"),
        (("--allow-origin", "https://x.example/"), "--allow-origin"),
        (("--allow-origin", "x.example"), "--allow-origin"),
        (("--allow-origin", "*"), "--allow-origin"),
        (("--allow-host", "x.example:80"), "--allow-host"),
        (("--allow-host", "a:80"), "--allow-host"),
        (("--allow-host", ""), "--allow-host"),
    ],
)
def test_contradictions_are_bad_usage_before_anything_starts(cli: Cli, options: tuple[str, ...], named: str) -> None:
    outcome = cli("serve", "--port", "0", *options)
    assert outcome.code == 2
    assert named in outcome.err


@pytest.mark.parametrize("token", ["two words", "schlüssel", "line\n"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("WORKBENCH_TOKEN", token)
    outcome = cli("serve", "--port", "0")
    assert outcome.code == 2
    assert "WORKBENCH_TOKEN" in outcome.err
    assert token not in outcome.err


def test_a_port_that_is_taken_is_named(cli: Cli, config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        outcome = cli("serve", "--config", str(config), "--port", port)
    assert outcome.code == 1
    assert port in outcome.err
