"""What is sent to the browser: modules that stand alone, and no way for a text to become a page."""

from __future__ import annotations

import re
from typing import Any

import pytest

from workbench import widgets
from workbench.widgets.assets import STATIC, module_source, style_source
from workbench.widgets.base import WorkbenchWidget

CLASSES = [
    value
    for name in widgets.__all__
    if isinstance(value := getattr(widgets, name), type) and issubclass(value, WorkbenchWidget)
]
WIDGETS = [re.sub(r"(?<!^)(?=[A-Z])", "_", widget.__name__).lower() for widget in CLASSES]
FILES = sorted(STATIC.glob("*.js"))


@pytest.mark.parametrize("widget", CLASSES)
def test_every_trait_has_a_help_text(widget: Any) -> None:
    for name, trait in widget.class_own_traits().items():
        assert trait.help, name


@pytest.mark.parametrize("name", WIDGETS)
def test_a_module_needs_no_other_file(name: str) -> None:
    source = module_source(name)
    assert not re.search(r"^\s*import\b", source, re.MULTILINE)
    assert re.findall(r"^export .*", source, re.MULTILINE) == ["export default { render };"] or name == "run_feed"
    assert source.count("export ") == 1


@pytest.mark.parametrize("name", WIDGETS)
def test_siblings_that_share_a_scope_share_no_name(name: str) -> None:
    names = re.findall(r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)", module_source(name), re.MULTILINE)
    assert len(names) == len(set(names)), sorted(one for one in set(names) if names.count(one) > 1)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_text_becomes_no_html_and_nothing_is_loaded(path: object) -> None:
    source = STATIC.joinpath(getattr(path, "name")).read_text(encoding="utf-8")  # noqa: B009
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert word not in source
    for word in ("fetch(", "XMLHttpRequest", "WebSocket", "import("):
        assert word not in source
    assert set(re.findall(r"https?://\S+", source)) <= {'http://www.w3.org/2000/svg";'}


@pytest.mark.parametrize("name", WIDGETS)
def test_styles_touch_nothing_but_our_own_classes(name: str) -> None:
    style = re.sub(r"/\*.*?\*/", "", style_source(name), flags=re.DOTALL)
    for selector in re.findall(r"([^{}]+)\{", style):
        if not selector.strip().startswith("@"):
            for part in re.split(r",(?![^(]*\))", selector):
                assert ".wb-" in part, part
    assert "url(" not in style
    assert "@import" not in style
