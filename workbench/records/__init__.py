"""Records beyond the protocol's wire format: tokens, usage, properties of a model, and the control of a run.

They are plain dataclasses: providers make them, the session stores them, widgets and the command line show them.
"""

from __future__ import annotations

from workbench.records.attribution import Attribution
from workbench.records.control import AnswerPrefix, Breakpoint, Control, Pausable
from workbench.records.emission import Embeddings, Emission, TokenSpans
from workbench.records.found_models import FoundModel
from workbench.records.insides import Insides, LensCell, LensColumn, LensFit, LensWord, LogitParts
from workbench.records.logprobs import token_logprobs
from workbench.records.runs import ReadableRun, RunState
from workbench.records.tokens import (
    Alternative,
    CallAttempt,
    CallStep,
    Inspector,
    KeptPosition,
    ModelCard,
    Prompt,
    PromptToken,
    RunProgress,
    SamplingStage,
    SamplingTrace,
    Score,
    TokenRecord,
    Usage,
)

__all__ = [
    "Alternative",
    "AnswerPrefix",
    "Attribution",
    "Breakpoint",
    "CallAttempt",
    "CallStep",
    "Control",
    "Embeddings",
    "Emission",
    "FoundModel",
    "Insides",
    "Inspector",
    "KeptPosition",
    "LensCell",
    "LensColumn",
    "LensFit",
    "LensWord",
    "LogitParts",
    "ModelCard",
    "Pausable",
    "Prompt",
    "PromptToken",
    "ReadableRun",
    "RunProgress",
    "RunState",
    "SamplingStage",
    "SamplingTrace",
    "Score",
    "TokenRecord",
    "TokenSpans",
    "Usage",
    "token_logprobs",
]
