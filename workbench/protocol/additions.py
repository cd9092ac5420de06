"""All differences between this package and the Llama Stack protocol of October 2024, as data.

The conformance test accepts only these differences, and fails if one of them no longer exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.sampling_stages import SAMPLING_STAGES


@dataclass(frozen=True, slots=True)
class Addition:
    """One documented difference."""

    kind: Literal["field", "parameter", "value", "model", "protocol", "default", "type"]
    path: str
    """``Type.field``, ``Enum.value``, ``Protocol.method.parameter``, or the name of a whole type."""
    declared: str
    """Type and default of a field or parameter, as Python spells them; empty for a value or a whole type."""
    meaning: str


_STAGES = (
    Addition("field", f"SamplingParams.{stage.field}", stage.declared, stage.addition)
    for stage in SAMPLING_STAGES
    if stage.addition
)
_FORMAT = "ResponseFormat | None = None"
_RETRIEVAL = "RetrievalConfig | None = None"
_RETRIEVED = "RetrievedChunks | None = None"
_SHIELDS = "list[str] | None = None"
_EDITS = "list[Edit] | None = None"

ADDITIONS: tuple[Addition, ...] = (
    Addition("field", "SamplingParams.seed", "int | None = None", "reproducible sampling"),
    Addition("field", "SamplingParams.stop", "list[str] | None = None", "stop strings"),
    *_STAGES,
    Addition("field", "LogProbConfig.prompt", "bool = False", "prompt logprobs"),
    Addition("field", "TokenLogProbs.tokens", "list[TokenLogProb] = []", "candidates, best first"),
    Addition("model", "TokenLogProb", "", "entry of that list"),
    Addition("parameter", "Inference.completion.response_format", _FORMAT, "structured output"),
    Addition("parameter", "Inference.chat_completion.response_format", _FORMAT, "structured output"),
    Addition("parameter", "BatchInference.batch_completion.response_format", _FORMAT, "structured output"),
    Addition("parameter", "BatchInference.batch_chat_completion.response_format", _FORMAT, "structured output"),
    Addition("field", "CompletionRequest.response_format", _FORMAT, "structured output"),
    Addition("field", "ChatCompletionRequest.response_format", _FORMAT, "structured output"),
    Addition("field", "BatchCompletionRequest.response_format", _FORMAT, "structured output"),
    Addition("field", "BatchChatCompletionRequest.response_format", _FORMAT, "structured output"),
    Addition("parameter", "Inference.chat_completion.shields", _SHIELDS, "shields of a chat"),
    Addition("field", "ChatCompletionRequest.shields", _SHIELDS, "shields of a chat"),
    Addition("parameter", "Inference.completion.edits", _EDITS, "changes in a model"),
    Addition("parameter", "Inference.chat_completion.edits", _EDITS, "changes in a model"),
    Addition("field", "CompletionRequest.edits", _EDITS, "changes in a model"),
    Addition("field", "ChatCompletionRequest.edits", _EDITS, "changes in a model"),
    Addition("model", "Edit", "", "change in a model"),
    Addition("model", "JsonSchemaResponseFormat", "", "JSON schema"),
    Addition("model", "RegexResponseFormat", "", "regular expression"),
    Addition("model", "GrammarResponseFormat", "", "Lark grammar"),
    Addition("type", "ToolCall.arguments", "dict[str, ToolArgument]", "any nested JSON"),
    Addition("field", "ToolDefinition.json_schema", "dict[str, ToolArgument] | None = None", "schema of arguments"),
    Addition("value", "QuantizationType.int8", "", "8-bit integer weights"),
    Addition("value", "QuantizationType.int4", "", "4-bit integer weights"),
    Addition("model", "Int8QuantizationConfig", "", "config of int8"),
    Addition("model", "Int4QuantizationConfig", "", "config of int4"),
    Addition("field", "StackRunConfig.model_folders", "list[str] = []", "folders of models"),
    Addition("protocol", "ModelsProtocolPrivate", "", "a provider's models"),
    Addition("protocol", "ModelUnregistration", "", "unregisters a model"),
    Addition("protocol", "ShieldsProtocolPrivate", "", "a provider's shields"),
    Addition("protocol", "ShieldUnregistration", "", "unregisters a shield"),
    Addition("protocol", "MemoryBanksProtocolPrivate", "", "a provider's banks"),
    Addition("protocol", "MemoryBankUnregistration", "", "unregisters a bank"),
    Addition("parameter", "Inference.chat_completion.retrieval", _RETRIEVAL, "answer with chunks"),
    Addition("field", "ChatCompletionRequest.retrieval", _RETRIEVAL, "answer with chunks"),
    Addition("field", "ChatCompletionResponse.retrieval", _RETRIEVED, "chunks in the prompt"),
    Addition("field", "ChatCompletionResponseEvent.retrieval", _RETRIEVED, "chunks in the prompt"),
    Addition("model", "RetrievalConfig", "", "bank to query"),
    Addition("model", "RetrievedChunks", "", "chunks in the prompt"),
    Addition("model", "TokenAttribution", "", "effect of each chunk"),
    Addition("field", "Chunk.metadata", "dict[str, Any] = {}", "document's metadata"),
    Addition("protocol", "ProviderHealth", "", "health of each provider"),
    Addition("protocol", "Insides", "", "numbers inside models"),
    Addition("model", "PointInfo", "", "point of a model"),
    Addition("model", "PositionedToken", "", "token with its place"),
    Addition("model", "CapturedPoint", "", "numbers at a point"),
    Addition("model", "CaptureResponse", "", "numbers at points"),
    Addition("model", "LensWord", "", "word after a layer"),
    Addition("model", "LensLayer", "", "what a layer foresaw"),
    Addition("model", "LensToken", "", "what all layers foresaw"),
    Addition("model", "LogitAttribution", "", "parts of a logit"),
    # The originals' defaults are mistakes: the type ``list`` itself, and None for a parameter that must be a dict.
    Addition(
        "default", "BatchInference.batch_chat_completion.tools", "list[ToolDefinition] | None = None", "corrected"
    ),
    Addition("type", "Safety.run_shield.params", "dict[str, Any] | None = None", "corrected"),
)


def additions_table() -> str:
    """Return the additions as an aligned text table."""
    path_width = max(len(addition.path) for addition in ADDITIONS)
    declared_width = max(len(addition.declared) for addition in ADDITIONS)
    return "\n".join(
        f"{addition.path:{path_width}}  {addition.declared or addition.kind:{declared_width}}  {addition.meaning}"
        for addition in ADDITIONS
    )
