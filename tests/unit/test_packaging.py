from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

import workbench

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)


def canonical(requirement: str) -> str:
    name = re.split(r"[\[<>=~! ]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_changelog_begins_with_this_version() -> None:
    first = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first is not None
    assert first.group(1) == workbench.__version__


def test_the_installed_distribution_has_this_version() -> None:
    assert metadata.version("inference-workbench") == workbench.__version__


def test_every_direct_dependency_is_pinned() -> None:
    extras = [item for group in PROJECT["optional-dependencies"].values() for item in group]
    direct = {canonical(item) for item in PROJECT["dependencies"] + extras} - {"inference-workbench"}
    assert direct <= {canonical(name) for name in PINS}


def test_pins_are_exact_and_leave_the_build_of_torch_to_pip() -> None:
    assert all(re.fullmatch(r"[\w.]+", version) for version in PINS.values())
    assert PINS["torch"] == "2.13.0"


def test_the_versions_that_run_these_tests_are_the_pinned_ones() -> None:
    installed = {canonical(item.name): item.version.partition("+")[0] for item in metadata.distributions()}
    differing = {
        name: (installed[canonical(name)], version)
        for name, version in PINS.items()
        if installed.get(canonical(name), version) != version
    }
    assert not differing, f"installed, pinned: {differing}; run `make setup`"


def test_every_pin_runs_on_the_oldest_python_that_the_project_names() -> None:
    """Distributions patch the last number little: Debian 12 has 3.11.2."""
    oldest = re.fullmatch(r">=(3\.\d+)", PROJECT["requires-python"])
    assert oldest is not None
    named = {item.name: item.metadata.json.get("requires_python") for item in metadata.distributions()}
    newer = {
        name: given
        for name, given in named.items()
        if given and not SpecifierSet(str(given)).contains(f"{oldest[1]}.0")
    }
    assert not newer


def test_what_checks_the_javascript_is_pinned_by_checksum_from_no_registry_in_particular() -> None:
    package = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))
    locked = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert package["private"] is True
    assert locked[""]["devDependencies"] == package["devDependencies"]
    assert all(re.fullmatch(r"[\d.]+", version) for version in package["devDependencies"].values())
    assert all(
        item["integrity"].startswith("sha512-") and "resolved" not in item for key, item in locked.items() if key
    )


def test_make_help_lists_every_target_a_person_would_call() -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    targets = {line.split()[1] for line in listed.splitlines()}
    assert {"help", "setup", "play", "lab", "test", "check", "lint", "bench", "notebooks", "docs", "clean"} == targets


def test_every_listed_target_is_phony() -> None:
    phony = set(re.findall(r"^\.PHONY:(.*)$", MAKEFILE, re.MULTILINE)[0].split())
    assert set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE)) <= phony


def test_make_says_what_to_do_where_python_is_too_old(tmp_path: Path) -> None:
    old = tmp_path / "python-old"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.10.2" && exit 0\nexit 1\n', encoding="utf-8")
    old.chmod(0o755)
    command = ["make", "setup", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Python 3.11 or newer is required" in done.stderr
    assert "is Python 3.10.2" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize("command", [[sys.executable, "-m", "workbench"], ["workbench"]])
def test_the_command_says_its_version(command: list[str]) -> None:
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run([*command, "--version"], check=True, capture_output=True, text=True, env={"PATH": path})
    assert done.stdout == f"workbench {workbench.__version__}\n"
