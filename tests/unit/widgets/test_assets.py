"""What is sent to the browser: modules that stand alone, and no way for a text to become a page."""

from __future__ import annotations

import re
from typing import Any

import pytest

from workbench.widgets import (
    ChatView,
    CompareView,
    ModelPicker,
    Playground,
    PredictionGame,
    RunFeed,
    SamplingControls,
    SamplingWaterfall,
    StreamView,
    TokenInspector,
    TokenTable,
    TokenTree,
    ToolCallMicroscope,
)
from workbench.widgets.assets import STATIC, module_source, style_source

CLASSES = [
    ChatView,
    CompareView,
    ModelPicker,
    Playground,
    PredictionGame,
    RunFeed,
    SamplingControls,
    SamplingWaterfall,
    StreamView,
    TokenInspector,
    TokenTable,
    TokenTree,
    ToolCallMicroscope,
]
WIDGETS = [
    "chat_view",
    "compare_view",
    "model_picker",
    "playground",
    "prediction_game",
    "run_feed",
    "sampling_controls",
    "sampling_waterfall",
    "stream_view",
    "token_inspector",
    "token_table",
    "token_tree",
    "tool_call_microscope",
]
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
