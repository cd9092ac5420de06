"""The pages of docs/ as a site: complete, built strictly, and reading nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import docs_tables, screenshots

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_LOADED = re.compile(r"""<(?:script|img|iframe|source)\b[^>]*?\ssrc=["']?([^"'\s>]+)|<link\b([^>]*)>""", re.IGNORECASE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip(), "the build warns"
    return folder


def test_every_page_becomes_a_page_of_the_site(site: Path) -> None:
    pages = {page.stem for page in DOCS.glob("*.md")}
    assert pages | {"404"} == {page.stem for page in site.glob("*.html")}


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = set()
    for page in site.glob("*.html"):
        for source, link in _LOADED.findall(page.read_text(encoding="utf-8")):
            href = re.search(r"""href=["']?([^"'\s>]+)""", link)
            loaded |= {source, href[1] if href else ""}
    assert len(loaded) > 3
    assert [address for address in loaded if re.match(r"(https?:)?//", address)] == []


def test_the_site_names_every_call_of_a_session_and_of_a_run(site: Path) -> None:
    page = (site / "api.html").read_text(encoding="utf-8")
    from workbench import Run, Workbench

    for kind in (Workbench, Run):
        public = [name for name in dir(kind) if not name.startswith("_")]
        missing = [name for name in public if f'id="{kind.__module__}.{kind.__name__}.{name}"' not in page]
        assert missing == []


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_tables_are_what_the_code_says(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert docs_tables.with_tables(text) == text, "run scripts/docs_tables.py"


def test_every_table_stands_in_a_page() -> None:
    marked = re.findall(r"<!-- table: ([\w-]+) -->", "".join(page.read_text("utf-8") for page in DOCS.glob("*.md")))
    assert sorted(marked) == sorted(docs_tables.TABLES)


def test_every_row_of_a_table_says_something() -> None:
    empty = [row for table in docs_tables.TABLES.values() for row in table().splitlines() if "|  |" in row]
    assert empty == []


def test_every_variable_of_the_environment_is_told_of() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "workbench").rglob("*.py"))
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert [name for name in set(re.findall(r'"(WORKBENCH_[A-Z]+)"', source)) if f"`{name}`" not in page] == []


def test_every_widget_has_a_picture_that_the_script_takes() -> None:
    page = (DOCS / "widgets.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"!\[[^\]]+\]\(images/([\w-]+)\.png\)", page))
    assert shown == set(screenshots.SCENES) == {path.stem for path in (DOCS / "images").glob("*.png")}
    named = {re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower() for name in docs_tables.WIDGETS}
    assert named - {"run-feed"} <= shown  # a feed shows nothing
