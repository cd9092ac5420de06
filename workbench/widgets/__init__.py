"""Notebook widgets that show what a language model computes; each takes an open `Workbench` or one of its runs.

The names are imported on first use, because ``run_html`` works without Jupyter.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.widgets.attention_view import AttentionView, attention
    from workbench.widgets.attribution_view import AttributionView, attribution
    from workbench.widgets.chat_view import ChatView, chat
    from workbench.widgets.compare_view import CompareView, compare
    from workbench.widgets.edit_view import EditView, edit
    from workbench.widgets.html.twins import run_html
    from workbench.widgets.layers_view import LayersView, layers
    from workbench.widgets.model_picker import ModelPicker
    from workbench.widgets.playground_view import Playground, playground
    from workbench.widgets.prediction_game import PredictionGame
    from workbench.widgets.prompt_view import PromptView
    from workbench.widgets.read_view import ReadView, read
    from workbench.widgets.run_feed import RunFeed
    from workbench.widgets.sampling_controls import SamplingControls
    from workbench.widgets.sampling_waterfall import SamplingWaterfall
    from workbench.widgets.stream_view import StreamView
    from workbench.widgets.token_inspector import TokenInspector
    from workbench.widgets.token_table import TokenTable
    from workbench.widgets.token_tree import TokenTree
    from workbench.widgets.tool_call_microscope import ToolCallMicroscope

_HOME = {
    "AttentionView": "attention_view",
    "AttributionView": "attribution_view",
    "ChatView": "chat_view",
    "CompareView": "compare_view",
    "LayersView": "layers_view",
    "EditView": "edit_view",
    "ModelPicker": "model_picker",
    "Playground": "playground_view",
    "PredictionGame": "prediction_game",
    "PromptView": "prompt_view",
    "ReadView": "read_view",
    "RunFeed": "run_feed",
    "SamplingControls": "sampling_controls",
    "SamplingWaterfall": "sampling_waterfall",
    "StreamView": "stream_view",
    "TokenInspector": "token_inspector",
    "TokenTable": "token_table",
    "TokenTree": "token_tree",
    "ToolCallMicroscope": "tool_call_microscope",
    "attention": "attention_view",
    "attribution": "attribution_view",
    "chat": "chat_view",
    "compare": "compare_view",
    "layers": "layers_view",
    "edit": "edit_view",
    "playground": "playground_view",
    "read": "read_view",
    "run_html": "html.twins",
}

__all__ = [
    "AttentionView",
    "AttributionView",
    "ChatView",
    "CompareView",
    "EditView",
    "LayersView",
    "ModelPicker",
    "Playground",
    "PredictionGame",
    "PromptView",
    "ReadView",
    "RunFeed",
    "SamplingControls",
    "SamplingWaterfall",
    "StreamView",
    "TokenInspector",
    "TokenTable",
    "TokenTree",
    "ToolCallMicroscope",
    "attention",
    "attribution",
    "chat",
    "compare",
    "edit",
    "layers",
    "playground",
    "read",
    "run_html",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
