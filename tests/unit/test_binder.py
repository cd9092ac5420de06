"""Binder's folder: taken by repo2docker as it stands, and within the limits of what Binder gives."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BINDER = ROOT / "binder"
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def started(command: str, **environment: str) -> str:
    """What a command prints that Binder's start script starts."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(BINDER / "start"), "bash", "-c", command],
        env={"PATH": path, "PYTHONPATH": str(ROOT), "HOME": os.environ["HOME"], **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def test_repo2docker_takes_the_configuration_and_runs_both_scripts(tmp_path: Path) -> None:
    shutil.copytree(BINDER, tmp_path / "binder")  # alone: it would read every file beside them, of .venv too
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for step in ("binder/environment.yml", "RUN ./binder/postBuild", 'R2D_ENTRYPOINT="${REPO_DIR}/binder/start"'):
        assert step in done.stdout + done.stderr


@pytest.mark.parametrize("limit, threads", [("1.0", "1"), ("0.5", "1"), ("2", "2"), ("3.9", "3")])
def test_the_start_script_gives_every_library_the_threads_that_binder_allows(limit: str, threads: str) -> None:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    shown = started(f"echo {' '.join(f'${name}' for name in names)}", CPU_LIMIT=limit)
    assert shown.split() == [threads] * len(names)


def test_without_a_limit_it_changes_no_thread_and_hands_on_the_command_as_it_stands() -> None:
    assert started('echo "[$OMP_NUM_THREADS] $0 a  b"') == "[] bash a  b"


def test_it_brings_our_defaults_of_jupyterlab() -> None:
    (folder,) = started("echo $JUPYTER_CONFIG_PATH").split(os.pathsep)
    assert (Path(folder) / "labconfig" / "default_setting_overrides.json").is_file()


@pytest.mark.parametrize("script", ["postBuild", "start"])
def test_the_scripts_can_be_executed_and_are_bash(script: str) -> None:
    assert os.access(BINDER / script, os.X_OK)
    subprocess.run(["bash", "-n", str(BINDER / script)], check=True)


def test_binder_has_the_python_and_the_torch_that_are_tested() -> None:
    environment = (BINDER / "environment.yml").read_text(encoding="utf-8")
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    (torch,) = re.findall(r"^torch==(.+)$", constraints, re.MULTILINE)
    assert f"pytorch-cpu={torch}\n" in environment
    assert "python=3.11\n" in environment


def test_post_build_installs_what_make_setup_installs() -> None:
    (extras,) = re.findall(r"^\$\(STAMPS\)/lab:.*?--editable '(.+?)'", MAKEFILE, re.MULTILINE | re.DOTALL)
    assert f"--editable '{extras}'" in (BINDER / "postBuild").read_text(encoding="utf-8")


def test_the_badge_opens_the_playground() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (address,) = re.findall(r"\]\((https://mybinder\.org/\S+)\)", readme)
    (notebook,) = re.findall(r"urlpath=lab/tree/(\S+)$", address)
    assert (ROOT / notebook).is_file()
