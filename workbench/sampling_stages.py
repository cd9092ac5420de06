"""The table of the sampling stages, in the order in which they are applied.

The protocol, the command line, the widgets, the servers and the documentation read the rows. The function that applies
a stage is in `workbench.engine.adjustments` or `workbench.engine.sampling`, under the row's name.

The stages that can change the argmax come first, and greedy requests use them too. A grammar's mask follows, so that
truncation chooses among the tokens that are allowed. Greedy requests skip the stages after it.

A new stage is a row here, the function that applies it, and a field of `protocol.SamplingParams`, of
`protocol.EffectiveSampling`, of `engine.sampling.Sampling` and of `providers.capabilities.Capabilities`; a test
compares them. Its name in the API of a remote server is in `providers.openai.dialects`.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_TEMPERATURE = 1e6
"""Largest temperature: above it, float32 sampling is uniform for any logits, so a larger value must be a mistake."""

STRATEGIES = ("greedy", "top_p", "top_k")
"""Values of `protocol.SamplingStrategy`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Range of a numeric parameter; it excludes bools, NaN and infinity."""

    low: float
    high: float | None = None
    above_low: bool = False
    """Whether ``low`` itself is excluded."""
    is_whole: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, numbers.Integral if self.is_whole else numbers.Real):
            return False
        number: Any = value
        if not self.is_whole and not _is_finite(number):
            return False
        is_above = number > self.low if self.above_low else number >= self.low
        return bool(is_above and (self.high is None or number <= self.high))


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeByToken(Range):
    """Range of a map from token ids to numbers; an id may be a string, as in JSON."""

    max_entries: int

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, Mapping) or len(value) > self.max_entries:
            return False
        return all(map(_is_token_id, value)) and all(Range.__contains__(self, number) for number in value.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of a request: its field, its range and its description."""

    field: str
    """Name in `protocol.SamplingParams` and, with dashes, on the command line."""
    label: str
    help: str
    """Description in the widgets."""
    option: str
    """Description on the command line, where ``metavar`` represents the value."""
    metavar: str
    range: Range
    allowed: str
    """Range in the words of an error message, with notes in parentheses."""
    neutral: Any
    """Value that has no effect."""
    step: float = 1
    """Change by an arrow key in the widgets."""
    decimals: int = 0
    slider: tuple[float, float] | None = None
    """Ends of the slider; None for a text field only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec(Parameter):
    """One stage of sampling."""

    trace_name: str = ""
    """Name in a sampling trace; empty for that of the field."""
    heading: str = ""
    """Heading in the waterfall, before the value; empty for the label."""
    changes_argmax: bool = False
    """Whether the stage can change the argmax, so that greedy requests use it too."""
    cuts: bool = False
    """Whether the stage removes tokens."""
    strategy: str | None = None
    """The only strategy that uses the stage; None for no restriction."""
    addition: str = ""
    """Purpose of a field that the original protocol lacks; empty for the protocol's own fields."""

    @property
    def name(self) -> str:
        return self.trace_name or self.field

    @property
    def title(self) -> str:
        return self.heading or self.label

    @property
    def used_by(self) -> tuple[str, ...]:
        """Strategies that use the stage."""
        if self.strategy is not None:
            return (self.strategy,)
        return STRATEGIES if self.changes_argmax else STRATEGIES[1:]

    @property
    def is_ability(self) -> bool:
        """Whether `Capabilities` has a field for the stage; strategies imply the others."""
        return self.strategy is None and self.field != "temperature"

    @property
    def declared(self) -> str:
        """Type and default of the field in Python syntax, for additions."""
        kind = "dict[int, float]" if isinstance(self.range, RangeByToken) else "float"
        return f"{kind} | None = {self.neutral}"

    def words(self, value: Any) -> str:
        """Return a value as text to append to the title or the label."""
        if isinstance(self.range, RangeByToken):
            return f"for {len(value)} token{'' if len(value) == 1 else 's'}"
        return str(value) if self.range.is_whole else f"{value:g}"


SAMPLING_STAGES = (
    StageSpec(
        field="logit_bias",
        label="Logit bias",
        help="Adds a number to the logits of tokens, by id: -100 all but bans a token, 100 all but forces it.",
        option="add BIAS, from -100 to 100, to the logit of a token; can be repeated",
        metavar="ID:BIAS",
        range=RangeByToken(low=-100, high=100, max_entries=300),
        allowed="at most 300 token ids with a number from -100 to 100 each",
        neutral=None,
        changes_argmax=True,
        addition="bias by token id",
    ),
    StageSpec(
        field="repetition_penalty",
        trace_name="penalty",
        label="Repetition penalty",
        heading="Penalty",
        help="Above 1, tokens that have already occurred become less likely. 1 is off.",
        option="above 1, repeated tokens become less likely (default: 1)",
        metavar="R",
        range=Range(low=0, above_low=True),
        allowed="a finite number above 0 (1 is off)",
        neutral=1.0,
        step=0.05,
        decimals=2,
        changes_argmax=True,
    ),
    StageSpec(
        field="frequency_penalty",
        label="Frequency penalty",
        help="Lowers a token's logit by this for each time that the answer already contains it. 0 is off.",
        option="lower a token's logit by F for each time that the answer contains it (default: 0)",
        metavar="F",
        range=Range(low=-2, high=2),
        allowed="a number from -2 to 2 (0 is off)",
        neutral=0.0,
        step=0.1,
        decimals=2,
        changes_argmax=True,
        addition="penalty by count",
    ),
    StageSpec(
        field="presence_penalty",
        label="Presence penalty",
        help="Lowers a token's logit by this once the answer contains it. 0 is off.",
        option="lower a token's logit by F once the answer contains it (default: 0)",
        metavar="F",
        range=Range(low=-2, high=2),
        allowed="a number from -2 to 2 (0 is off)",
        neutral=0.0,
        step=0.1,
        decimals=2,
        changes_argmax=True,
        addition="penalty by occurrence",
    ),
    StageSpec(
        field="temperature",
        label="Temperature",
        help="Divides the logits: below 1 the likely tokens gain, above 1 the unlikely ones. 0 is greedy.",
        option="sampling temperature; 0 is greedy",
        metavar="T",
        range=Range(low=0, high=MAX_TEMPERATURE),
        allowed=f"a finite number from 0 (greedy) to {MAX_TEMPERATURE:,.0f}",
        neutral=1.0,
        step=0.05,
        decimals=2,
        slider=(0, 2),
    ),
    StageSpec(
        field="top_k",
        label="Top-k",
        help="Keeps this many of the most probable tokens. 0 keeps all.",
        option="sample from the K most probable tokens; 0: from all",
        metavar="K",
        range=Range(low=0, is_whole=True),
        allowed="a whole number, 0 (off) or above",
        neutral=0,
        cuts=True,
        strategy="top_k",
    ),
    StageSpec(
        field="top_p",
        label="Top-p",
        help="Keeps the most probable tokens that together reach this probability. 1 keeps all.",
        option="sample from the most probable tokens whose probabilities add up to P",
        metavar="P",
        range=Range(low=0, high=1, above_low=True),
        allowed="a number above 0 and at most 1 (off)",
        neutral=1.0,
        step=0.01,
        decimals=2,
        slider=(0.01, 1),
        cuts=True,
        strategy="top_p",
    ),
    StageSpec(
        field="min_p",
        label="Min-p",
        help="Removes tokens less probable than this share of the most probable one. 0 keeps all.",
        option="sample only from tokens at least P times as probable as the most probable one; 0: from all",
        metavar="P",
        range=Range(low=0, high=1),
        allowed="a number from 0 (off) to 1",
        neutral=0.0,
        step=0.01,
        decimals=2,
        slider=(0, 1),
        cuts=True,
        addition="relative cut-off",
    ),
)

MAX_TOKENS = Parameter(
    field="max_tokens",
    label="Max tokens",
    help="Stops after this many tokens. 0 sets no limit but the model's context.",
    option="generate at most N tokens; 0: until the model stops or its context is full (default: %(default)s)",
    metavar="N",
    range=Range(low=0, is_whole=True),
    allowed="a whole number, 0 (until the end of the turn or the context) or above",
    neutral=0,
    step=16,
)

_FIRST_IN_FORMS = ("temperature", "top_p", "top_k")

PARAMETERS: tuple[Parameter, ...] = (
    *sorted(
        (stage for stage in SAMPLING_STAGES if not stage.changes_argmax),
        key=lambda stage: [*_FIRST_IN_FORMS, stage.field].index(stage.field),
    ),
    MAX_TOKENS,
    *sorted(
        (stage for stage in SAMPLING_STAGES if stage.changes_argmax),
        key=lambda stage: isinstance(stage.range, RangeByToken),
    ),
)
"""Parameters in the order of forms and option lists: stages of the draw, length, stages that change the argmax."""


def _is_token_id(value: object) -> bool:
    if isinstance(value, str):
        return value.isascii() and value.isdigit()
    return value in Range(low=0, is_whole=True)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number with more than 308 digits
        return False
