"""Sampling parameters: their fields, their ranges, and the fields that each strategy uses.

Constructing ``SamplingParams`` checks its ranges, those of `workbench.sampling_stages` among them. Providers call
``validate_sampling`` once more before any compute, because fields can be assigned after construction.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from workbench.errors import InvalidRequestError
from workbench.protocol.base import ProtocolModel
from workbench.sampling_stages import PARAMETERS, SAMPLING_STAGES

MIN_SAMPLING_TEMPERATURE = 1e-5
"""Lowest temperature that samples. Below it the argmax is certain, and dividing float32 logits could overflow."""
MAX_SEED = 2**63 - 1
"""Largest seed: the signed 64-bit maximum, which every backend accepts."""
MAX_STOP_STRINGS = 16
MAX_STOP_LENGTH = 256
"""Maximum number of characters of a stop string; a stream buffers as many, since they may become one."""


class SamplingStrategy(StrEnum):
    """Sampling strategy, which decides which parameters are used."""

    greedy = "greedy"
    top_p = "top_p"
    top_k = "top_k"


class SamplingParams(ProtocolModel):
    """Sampling and stopping parameters. A value of the wrong type or out of range raises ``InvalidRequestError``.

    Numbers are strict: strings and bools are refused, and so is 2.5 for a whole number. None means the default.
    ``seed`` and all fields after it are additions to the protocol; they are omitted from JSON if they are not set.
    """

    strategy: SamplingStrategy = SamplingStrategy.greedy
    temperature: float | None = 0.0
    """Divisor of the logits, from 0 to 1e6; below 1e-5 is greedy. Ignored by the strategy ``greedy``."""
    top_p: float | None = 0.95
    """Probability mass to sample from, above 0 and at most 1 (off). Used only by the strategy ``top_p``."""
    top_k: int | None = 0
    """Number of tokens to sample from; 0 is off. Clipped to the vocabulary. Used only by the strategy ``top_k``."""
    max_tokens: int | None = 0
    """Maximum number of tokens to generate; 0 is until the end of the turn or the context."""
    repetition_penalty: float | None = 1.0
    """Penalty for repeated tokens, above 0; 1 is off, above 1 makes them less likely. Used by every strategy."""
    seed: int | None = Field(default=None, exclude_if=lambda seed: seed is None)
    """Random seed, 0 to 2**63 - 1: the same request and seed give the same tokens. None uses a new one each time."""
    stop: list[str] | None = Field(default=None, exclude_if=lambda stop: not stop)
    """Stop strings, before the first of which generation ends; at most 16, of 1 to 256 characters each."""

    min_p: float | None = Field(default=0.0, exclude_if=lambda min_p: not min_p)
    """Lowest probability relative to that of the most probable token, from 0 (off) to 1; tokens below it are removed.
    Used by the strategies that sample, after ``top_k`` and ``top_p``."""
    frequency_penalty: float | None = Field(default=0.0, exclude_if=lambda penalty: not penalty)
    """Penalty subtracted from a token's logit for each earlier occurrence in the answer, from -2 to 2; 0 is off. The
    prompt does not count, as in OpenAI's formula and in vLLM. Used by every strategy."""
    presence_penalty: float | None = Field(default=0.0, exclude_if=lambda penalty: not penalty)
    """Penalty subtracted once from the logit of each token that the answer already contains, from -2 to 2; 0 is off."""

    logit_bias: dict[int, float] | None = Field(default=None, exclude_if=lambda bias: not bias)
    """Numbers from -100 to 100 that are added to the logits of tokens, by id, before everything else; at most 300. Used
    by every strategy. A grammar still decides what is allowed."""

    @field_validator("*", mode="before")
    @classmethod
    def _within_range(cls, value: object, info: ValidationInfo) -> object:
        name = str(info.field_name)
        if name == "strategy":
            return value
        _check(name, value, name)
        if value is None and cls.model_fields[name].exclude_if:  # an addition omits only its default from JSON
            return cls.model_fields[name].default
        if isinstance(value, Mapping):
            return _by_token_id(value)
        if isinstance(value, numbers.Integral):  # such as a NumPy integer, which pydantic does not accept as an int
            return int(value)
        if isinstance(value, numbers.Real):
            return float(value)
        return value or None  # no stop strings are None


def validate_sampling(params: SamplingParams, field: str = "sampling_params") -> None:
    """Raise ``InvalidRequestError`` for the first field out of range, naming it below ``field``."""
    if not isinstance(params, SamplingParams):
        raise InvalidRequestError(field, params, "a SamplingParams")
    for name in _RANGES:
        _check(name, getattr(params, name), f"{field}.{name}")


@dataclass(frozen=True, slots=True)
class EffectiveSampling:
    """Parameters that a strategy uses; unused ones have their neutral value."""

    strategy: SamplingStrategy
    temperature: float
    """Divisor of the logits: 0 for greedy, otherwise above 0."""
    top_p: float
    """Probability mass to sample from; 1 is off."""
    top_k: int
    """Number of tokens to sample from, not clipped to the vocabulary; 0 is off."""
    repetition_penalty: float = 1.0
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[int, float] | None = None


def effective_sampling(params: SamplingParams) -> EffectiveSampling:
    """Return the parameters that the strategy uses.

    ========  =====================================  =====================================
    strategy  fields used                            greedy if
    ========  =====================================  =====================================
    greedy    none
    top_p     ``temperature``, ``top_p``, ``min_p``  temperature 0 (or below 1e-5)
    top_k     ``temperature``, ``top_k``, ``min_p``  the same, or ``top_k`` 1; 0 keeps all
    ========  =====================================  =====================================
    """
    strategy = params.strategy
    one_candidate = strategy == SamplingStrategy.top_k and params.top_k == 1
    if one_candidate or _or_default(params, "temperature") < MIN_SAMPLING_TEMPERATURE:
        strategy = SamplingStrategy.greedy
    used: dict[str, Any] = {
        stage.field: _or_default(params, stage.field) if strategy in stage.used_by else stage.neutral
        for stage in SAMPLING_STAGES
    }
    if strategy == SamplingStrategy.greedy:
        used["temperature"] = 0.0
    return EffectiveSampling(strategy, **used)


def effective_strategy(params: SamplingParams) -> SamplingStrategy:
    """Return the effective strategy: a sampling strategy that leaves no choice is ``greedy``."""
    return effective_sampling(params).strategy


def sampling_conflict(params: SamplingParams) -> str | None:
    """Return a warning about contradictory parameters; None if there are none. Callers warn once per call."""
    if params.strategy == SamplingStrategy.greedy and _or_default(params, "temperature") > 0:
        return (
            f"strategy is greedy, so temperature={params.temperature:g} is ignored; "
            "choose strategy top_p or top_k to sample, or temperature 0 to stay greedy"
        )
    return None


def _or_default(params: SamplingParams, name: str) -> Any:
    value, default = getattr(params, name), SamplingParams.model_fields[name].default
    if isinstance(value, Mapping):
        return _by_token_id(value)
    return default if value is None else type(default)(value)


def _by_token_id(bias: Mapping[Any, float]) -> dict[int, float] | None:
    return {int(token_id): float(value) for token_id, value in bias.items()} or None


def is_count(value: object) -> bool:
    """Return whether the value is a whole number, 0 or above: an int or NumPy integer, but not a bool."""
    return not isinstance(value, bool) and isinstance(value, numbers.Integral) and int(value) >= 0


def _is_stop_list(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) <= MAX_STOP_STRINGS and all(map(_is_stop_string, value))


def _is_stop_string(value: object) -> bool:
    # A lone surrogate is not a character: it can neither be generated nor encoded as JSON.
    if not isinstance(value, str) or any("\ud800" <= character <= "\udfff" for character in value):
        return False
    return 0 < len(value) <= MAX_STOP_LENGTH


_RANGES: dict[str, tuple[Callable[..., bool], str]] = {
    "strategy": (lambda v: v in list(SamplingStrategy), "greedy, top_p or top_k"),
    **{one.field: (one.range.__contains__, one.allowed) for one in PARAMETERS},
    "seed": (lambda v: is_count(v) and v <= MAX_SEED, "None or a whole number from 0 to 2**63 - 1"),
    "stop": (
        _is_stop_list,
        f"None or a list of at most {MAX_STOP_STRINGS} texts of 1 to {MAX_STOP_LENGTH} characters each",
    ),
}


def _check(name: str, value: object, field: str) -> None:
    allows, words = _RANGES[name]
    if value is None and name != "strategy":
        return
    if not allows(value):
        raise InvalidRequestError(field, value, words)
