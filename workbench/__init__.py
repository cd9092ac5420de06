"""A typed inference protocol, a local engine, and notebook widgets that show what a language model computes.

Public names are loaded on first use, so that ``import workbench`` is fast and loads neither torch, transformers nor
pandas.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import TYPE_CHECKING

from workbench._version import __version__

if TYPE_CHECKING:  # for editors and type checkers; at run time __getattr__ finds the same names
    from workbench import catalog, errors, expect, protocol, records, widgets
    from workbench.analysis.comparison import Comparison
    from workbench.errors import *
    from workbench.protocol import *
    from workbench.records import Alternative, Breakpoint, ModelCard, TokenRecord, Usage
    from workbench.session.capsule import Capsule
    from workbench.session.replay import Replay, replay
    from workbench.session.workbench import ConversationResult, Reading, Run, Workbench

__all__ = [
    "URL",
    "Alternative",
    "BatchChatCompletionRequest",
    "BatchChatCompletionResponse",
    "BatchCompletionRequest",
    "BatchCompletionResponse",
    "BatchInference",
    "Bf16QuantizationConfig",
    "Breakpoint",
    "BuiltinTool",
    "BusyError",
    "Capsule",
    "CaptureResponse",
    "CapturedPoint",
    "CatalogError",
    "ChatCompletionRequest",
    "ChatCompletionResponse",
    "ChatCompletionResponseEvent",
    "ChatCompletionResponseEventType",
    "ChatCompletionResponseStreamChunk",
    "ChecksumError",
    "Chunk",
    "ClosedError",
    "Comparison",
    "CompletionMessage",
    "CompletionRequest",
    "CompletionResponse",
    "CompletionResponseStreamChunk",
    "ConfigError",
    "ContextLengthError",
    "ConversationResult",
    "ConversionError",
    "DownloadError",
    "Edit",
    "EmbeddingsResponse",
    "Fp8QuantizationConfig",
    "GatedModelError",
    "GenerationError",
    "GrammarResponseFormat",
    "GraphMemoryBankDef",
    "HealthInfo",
    "ImageMedia",
    "Inference",
    "Insides",
    "Inspect",
    "InsufficientMemoryError",
    "Int4QuantizationConfig",
    "Int8QuantizationConfig",
    "InterleavedTextMedia",
    "InvalidRequestError",
    "JsonSchemaResponseFormat",
    "KeyValueMemoryBankDef",
    "KeywordMemoryBankDef",
    "LensLayer",
    "LensToken",
    "LensWord",
    "LogProbConfig",
    "LogitAttribution",
    "Memory",
    "MemoryBankDef",
    "MemoryBankDocument",
    "MemoryBankNotFoundError",
    "MemoryBankStore",
    "MemoryBankType",
    "MemoryBankUnregistration",
    "MemoryBanks",
    "Message",
    "ModelCard",
    "ModelDef",
    "ModelDefWithProvider",
    "ModelFormatError",
    "ModelLoadError",
    "ModelNotFoundError",
    "ModelStore",
    "ModelUnregistration",
    "Models",
    "NotRecordedError",
    "NumericalError",
    "OfflineError",
    "OutOfMemoryError",
    "PointInfo",
    "PositionedToken",
    "Provider",
    "ProviderHealth",
    "ProviderInfo",
    "QuantizationConfig",
    "QuantizationType",
    "QueryDocumentsResponse",
    "Reading",
    "RegexResponseFormat",
    "RemoteConnectionError",
    "RemoteError",
    "RemoteTimeoutError",
    "Replay",
    "ResourceNotFoundError",
    "ResponseFormat",
    "RetrievalConfig",
    "RetrievedChunks",
    "Role",
    "RouteInfo",
    "Run",
    "RunConfig",
    "RunShieldResponse",
    "Safety",
    "SafetyViolation",
    "SamplingParams",
    "SamplingStrategy",
    "ShieldDef",
    "ShieldDefWithProvider",
    "ShieldError",
    "ShieldNotFoundError",
    "ShieldStore",
    "ShieldType",
    "ShieldUnregistration",
    "ShieldViolationError",
    "Shields",
    "StackRunConfig",
    "StateError",
    "StopReason",
    "SystemMessage",
    "TemplateProcessError",
    "TokenAttribution",
    "TokenLogProb",
    "TokenLogProbs",
    "TokenRecord",
    "ToolArgument",
    "ToolCall",
    "ToolCallDelta",
    "ToolCallError",
    "ToolCallParseStatus",
    "ToolChoice",
    "ToolDefinition",
    "ToolParamDefinition",
    "ToolPromptFormat",
    "ToolResponse",
    "ToolResponseMessage",
    "UnknownModelError",
    "UnprovenModelError",
    "UnsafeModelError",
    "UnsupportedContentError",
    "UnsupportedFieldError",
    "Usage",
    "UserMessage",
    "VectorMemoryBankDef",
    "ViolationLevel",
    "Workbench",
    "WorkbenchError",
    "__version__",
    "catalog",
    "errors",
    "expect",
    "protocol",
    "records",
    "replay",
    "widgets",
]

_MODULES = ("catalog", "errors", "expect", "protocol", "records", "widgets")

# Searched in this order, fast imports first: a name of the protocol never loads the session.
_HOMES = (
    "workbench.errors",
    "workbench.protocol",
    "workbench.records",
    "workbench.session.capsule",
    "workbench.analysis.comparison",
    "workbench.session.replay",
    "workbench.session.workbench",
)


_RENAMED = {"Conversed": "ConversationResult"}
"""Deprecated names, which work for one version, and their replacements."""


if not TYPE_CHECKING:  # with it, type checkers would accept any misspelt name

    def __getattr__(name: str) -> object:
        if name in _RENAMED:
            message = f"workbench.{name} is now workbench.{_RENAMED[name]}"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return getattr(sys.modules[__name__], _RENAMED[name])
        if name not in __all__:
            raise AttributeError(f"module 'workbench' has no attribute {name!r}")
        value = importlib.import_module(f"workbench.{name}") if name in _MODULES else _from_home(name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _from_home(name: str) -> object:
    for home in _HOMES:
        module = importlib.import_module(home)
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(f"{name!r} is listed in workbench.__all__ and defined nowhere")
