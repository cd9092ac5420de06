"""The protocol: the types and methods of the Llama Stack's inference, safety and memory APIs of October 2024.

Names, fields, defaults, enum values, parameter order and routes are exactly those of the protocol. The additions
are optional and omitted from ``model_dump()`` and ``model_dump_json()`` if they are not used, so that requests and
answers without them have the original wire format:

::

    SamplingParams.seed                                   int | None = None                      reproducible sampling
    SamplingParams.stop                                   list[str] | None = None                stop strings
    SamplingParams.logit_bias                             dict[int, float] | None = None         bias by token id
    SamplingParams.frequency_penalty                      float | None = 0.0                     penalty by count
    SamplingParams.presence_penalty                       float | None = 0.0                     penalty by occurrence
    SamplingParams.min_p                                  float | None = 0.0                     relative cut-off
    LogProbConfig.prompt                                  bool = False                           prompt logprobs
    TokenLogProbs.tokens                                  list[TokenLogProb] = []                candidates, best first
    TokenLogProb                                          model                                  entry of that list
    Inference.completion.response_format                  ResponseFormat | None = None           structured output
    Inference.chat_completion.response_format             ResponseFormat | None = None           structured output
    BatchInference.batch_completion.response_format       ResponseFormat | None = None           structured output
    BatchInference.batch_chat_completion.response_format  ResponseFormat | None = None           structured output
    CompletionRequest.response_format                     ResponseFormat | None = None           structured output
    ChatCompletionRequest.response_format                 ResponseFormat | None = None           structured output
    BatchCompletionRequest.response_format                ResponseFormat | None = None           structured output
    BatchChatCompletionRequest.response_format            ResponseFormat | None = None           structured output
    Inference.chat_completion.shields                     list[str] | None = None                shields of a chat
    ChatCompletionRequest.shields                         list[str] | None = None                shields of a chat
    Inference.completion.edits                            list[Edit] | None = None               changes in a model
    Inference.chat_completion.edits                       list[Edit] | None = None               changes in a model
    CompletionRequest.edits                               list[Edit] | None = None               changes in a model
    ChatCompletionRequest.edits                           list[Edit] | None = None               changes in a model
    Edit                                                  model                                  change in a model
    JsonSchemaResponseFormat                              model                                  JSON schema
    RegexResponseFormat                                   model                                  regular expression
    GrammarResponseFormat                                 model                                  Lark grammar
    ToolCall.arguments                                    dict[str, ToolArgument]                any nested JSON
    ToolDefinition.json_schema                            dict[str, ToolArgument] | None = None  schema of arguments
    QuantizationType.int8                                 value                                  8-bit integer weights
    QuantizationType.int4                                 value                                  4-bit integer weights
    Int8QuantizationConfig                                model                                  config of int8
    Int4QuantizationConfig                                model                                  config of int4
    StackRunConfig.model_folders                          list[str] = []                         folders of models
    ModelsProtocolPrivate                                 protocol                               a provider's models
    ModelUnregistration                                   protocol                               unregisters a model
    ShieldsProtocolPrivate                                protocol                               a provider's shields
    ShieldUnregistration                                  protocol                               unregisters a shield
    MemoryBanksProtocolPrivate                            protocol                               a provider's banks
    MemoryBankUnregistration                              protocol                               unregisters a bank
    Inference.chat_completion.retrieval                   RetrievalConfig | None = None          answer with chunks
    ChatCompletionRequest.retrieval                       RetrievalConfig | None = None          answer with chunks
    ChatCompletionResponse.retrieval                      RetrievedChunks | None = None          chunks in the prompt
    ChatCompletionResponseEvent.retrieval                 RetrievedChunks | None = None          chunks in the prompt
    RetrievalConfig                                       model                                  bank to query
    RetrievedChunks                                       model                                  chunks in the prompt
    TokenAttribution                                      model                                  effect of each chunk
    Chunk.metadata                                        dict[str, Any] = {}                    document's metadata
    ProviderHealth                                        protocol                               health of each provider
    Insides                                               protocol                               numbers inside models
    PointInfo                                             model                                  point of a model
    PositionedToken                                       model                                  token with its place
    CapturedPoint                                         model                                  numbers at a point
    CaptureResponse                                       model                                  numbers at points
    LensWord                                              model                                  word after a layer
    LensLayer                                             model                                  what a layer foresaw
    LensToken                                             model                                  what all layers foresaw
    LogitAttribution                                      model                                  parts of a logit
    BatchInference.batch_chat_completion.tools            list[ToolDefinition] | None = None     corrected
    Safety.run_shield.params                              dict[str, Any] | None = None           corrected

Validation is stricter than in the original: unknown fields are refused, numbers are strict and never NaN or infinite,
and every error is an ``InvalidRequestError`` (a ``ConfigError`` in a run config) that names the field and what is
allowed.

Importing this package loads pydantic and Pillow, but nothing heavier.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING

from workbench.protocol.additions import ADDITIONS, Addition, additions_table
from workbench.protocol.base import ConfigModel, ProtocolModel
from workbench.protocol.content import URL, ImageMedia, InterleavedTextMedia
from workbench.protocol.edits import Edit
from workbench.protocol.inference import BatchInference, Inference
from workbench.protocol.insides import (
    CapturedPoint,
    CaptureResponse,
    Insides,
    LensLayer,
    LensToken,
    LensWord,
    LogitAttribution,
    PointInfo,
    PositionedToken,
)
from workbench.protocol.inspect import HealthInfo, Inspect, ProviderHealth, ProviderInfo, RouteInfo
from workbench.protocol.logprobs import LOGPROB_FLOOR, LogProbConfig, TokenLogProb, TokenLogProbs
from workbench.protocol.memory import (
    Chunk,
    CommonDef,
    GraphMemoryBankDef,
    KeyValueMemoryBankDef,
    KeywordMemoryBankDef,
    Memory,
    MemoryBankDef,
    MemoryBankDocument,
    MemoryBanks,
    MemoryBanksProtocolPrivate,
    MemoryBankStore,
    MemoryBankType,
    MemoryBankUnregistration,
    QueryDocumentsResponse,
    VectorMemoryBankDef,
    memory_bank,
)
from workbench.protocol.messages import (
    CompletionMessage,
    Message,
    Role,
    StopReason,
    SystemMessage,
    ToolResponseMessage,
    UserMessage,
)
from workbench.protocol.models import (
    ModelDef,
    ModelDefWithProvider,
    Models,
    ModelsProtocolPrivate,
    ModelStore,
    ModelUnregistration,
)
from workbench.protocol.quantization import (
    Bf16QuantizationConfig,
    Fp8QuantizationConfig,
    Int4QuantizationConfig,
    Int8QuantizationConfig,
    QuantizationConfig,
    QuantizationType,
)
from workbench.protocol.refusal import config_error, invalid_request
from workbench.protocol.requests import (
    BatchChatCompletionRequest,
    BatchCompletionRequest,
    ChatCompletionRequest,
    CompletionRequest,
)
from workbench.protocol.response_format import (
    GrammarResponseFormat,
    JsonSchemaResponseFormat,
    RegexResponseFormat,
    ResponseFormat,
)
from workbench.protocol.responses import (
    BatchChatCompletionResponse,
    BatchCompletionResponse,
    ChatCompletionResponse,
    ChatCompletionResponseEvent,
    ChatCompletionResponseEventType,
    ChatCompletionResponseStreamChunk,
    CompletionResponse,
    CompletionResponseStreamChunk,
    EmbeddingsResponse,
    ToolCallDelta,
    ToolCallParseStatus,
)
from workbench.protocol.retrieval import RetrievalConfig, RetrievedChunks, TokenAttribution
from workbench.protocol.run_config import Provider, RunConfig, StackRunConfig
from workbench.protocol.safety import (
    RunShieldResponse,
    Safety,
    SafetyViolation,
    ShieldDef,
    ShieldDefWithProvider,
    Shields,
    ShieldsProtocolPrivate,
    ShieldStore,
    ShieldType,
    ShieldUnregistration,
    ViolationLevel,
)
from workbench.protocol.sampling import (
    MAX_SEED,
    MAX_STOP_LENGTH,
    MAX_STOP_STRINGS,
    MIN_SAMPLING_TEMPERATURE,
    EffectiveSampling,
    SamplingParams,
    SamplingStrategy,
    effective_sampling,
    effective_strategy,
    sampling_conflict,
    validate_sampling,
)
from workbench.protocol.tools import (
    BuiltinTool,
    ToolArgument,
    ToolCall,
    ToolChoice,
    ToolDefinition,
    ToolParamDefinition,
    ToolPromptFormat,
    ToolResponse,
)
from workbench.protocol.webmethod import Route, WebMethod, routes_of, webmethod
from workbench.sampling_stages import MAX_TEMPERATURE

__all__ = [
    "ADDITIONS",
    "LOGPROB_FLOOR",
    "MAX_SEED",
    "MAX_STOP_LENGTH",
    "MAX_STOP_STRINGS",
    "MAX_TEMPERATURE",
    "MIN_SAMPLING_TEMPERATURE",
    "URL",
    "Addition",
    "BatchChatCompletionRequest",
    "BatchChatCompletionResponse",
    "BatchCompletionRequest",
    "BatchCompletionResponse",
    "BatchInference",
    "Bf16QuantizationConfig",
    "BuiltinTool",
    "CaptureResponse",
    "CapturedPoint",
    "ChatCompletionRequest",
    "ChatCompletionResponse",
    "ChatCompletionResponseEvent",
    "ChatCompletionResponseEventType",
    "ChatCompletionResponseStreamChunk",
    "Chunk",
    "CommonDef",
    "CompletionMessage",
    "CompletionRequest",
    "CompletionResponse",
    "CompletionResponseStreamChunk",
    "ConfigModel",
    "Edit",
    "EffectiveSampling",
    "EmbeddingsResponse",
    "Fp8QuantizationConfig",
    "GrammarResponseFormat",
    "GraphMemoryBankDef",
    "HealthInfo",
    "ImageMedia",
    "Inference",
    "Insides",
    "Inspect",
    "Int4QuantizationConfig",
    "Int8QuantizationConfig",
    "InterleavedTextMedia",
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
    "MemoryBankStore",
    "MemoryBankType",
    "MemoryBankUnregistration",
    "MemoryBanks",
    "MemoryBanksProtocolPrivate",
    "Message",
    "ModelDef",
    "ModelDefWithProvider",
    "ModelStore",
    "ModelUnregistration",
    "Models",
    "ModelsProtocolPrivate",
    "PointInfo",
    "PositionedToken",
    "ProtocolModel",
    "Provider",
    "ProviderHealth",
    "ProviderInfo",
    "QuantizationConfig",
    "QuantizationType",
    "QueryDocumentsResponse",
    "RegexResponseFormat",
    "ResponseFormat",
    "RetrievalConfig",
    "RetrievedChunks",
    "Role",
    "Route",
    "RouteInfo",
    "RunConfig",
    "RunShieldResponse",
    "Safety",
    "SafetyViolation",
    "SamplingParams",
    "SamplingStrategy",
    "ShieldDef",
    "ShieldDefWithProvider",
    "ShieldStore",
    "ShieldType",
    "ShieldUnregistration",
    "Shields",
    "ShieldsProtocolPrivate",
    "StackRunConfig",
    "StopReason",
    "SystemMessage",
    "TokenAttribution",
    "TokenLogProb",
    "TokenLogProbs",
    "ToolArgument",
    "ToolCall",
    "ToolCallDelta",
    "ToolCallParseStatus",
    "ToolChoice",
    "ToolDefinition",
    "ToolParamDefinition",
    "ToolPromptFormat",
    "ToolResponse",
    "ToolResponseMessage",
    "UserMessage",
    "VectorMemoryBankDef",
    "ViolationLevel",
    "WebMethod",
    "additions_table",
    "config_error",
    "effective_sampling",
    "effective_strategy",
    "invalid_request",
    "memory_bank",
    "routes_of",
    "sampling_conflict",
    "validate_sampling",
    "webmethod",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Return a name that has moved to `workbench.records`; the name here works for one more version."""
        if name != "token_logprobs":
            raise AttributeError(f"module 'workbench.protocol' has no attribute {name!r}")
        message = f"workbench.protocol.{name} is now workbench.records.{name}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module("workbench.records"), name)
