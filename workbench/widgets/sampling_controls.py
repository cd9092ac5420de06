"""Controls for the sampling parameters: ``controls.value`` has those of the next run; setting it moves the sliders."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import traitlets

from workbench.errors import InvalidRequestError
from workbench.protocol import MAX_SEED, MAX_STOP_LENGTH, MAX_STOP_STRINGS, SamplingParams, SamplingStrategy
from workbench.sampling_stages import PARAMETERS, STRATEGIES, Parameter, RangeByToken, StageSpec
from workbench.widgets.assets import module_source, style_source
from workbench.widgets.base import LOCK, WorkbenchWidget
from workbench.widgets.code import sampling_code
from workbench.widgets.html import twins

DEFAULT = SamplingParams(strategy=SamplingStrategy.top_p, temperature=0.7, top_p=0.95, max_tokens=256)

_NUMBERS = [one for one in PARAMETERS if not isinstance(one.range, RangeByToken)]
_OFF = {one.field: one.neutral for one in _NUMBERS if isinstance(one, StageSpec) and one.is_ability}

PRESETS: dict[str, dict[str, Any]] = {
    "Precise": {"strategy": "greedy", **_OFF},
    "Balanced": {"strategy": "top_p", "temperature": 0.7, "top_p": 0.95, **_OFF},
    "Creative": {"strategy": "top_p", "temperature": 1.1, "top_p": 0.98, **_OFF},
    # The model's own distribution, neither truncated nor sharpened.
    "Neutral": {"strategy": "top_p", "temperature": 1.0, "top_p": 1.0, "top_k": 0, **_OFF},
}


class SamplingControls(WorkbenchWidget):
    """Strategy, sampling parameters, length, seed and stop strings of the next run."""

    _esm = module_source("sampling_controls")
    _css = style_source("sampling_controls")
    _twin_shows = ("params",)

    value = traitlets.Instance(SamplingParams, help="The parameters of the next run; setting it moves the controls.")
    params = traitlets.Dict(help="The state of all controls, including those the strategy ignores.").tag(sync=True)
    presets = traitlets.Dict(
        help="Named settings; a preset leaves max tokens, logit bias, seed and stop strings as they are."
    ).tag(sync=True)
    recommended = traitlets.Dict(
        help="The sampling that the model's own files recommend, empty for none; never applied by itself."
    ).tag(sync=True)
    neutral = traitlets.Dict(help="The values of the parameters that are off by default.").tag(sync=True)
    code = traitlets.Unicode(help="The Python expression of `value`.").tag(sync=True)
    expanded = traitlets.Bool(
        True, help="Whether the controls are shown; otherwise one line sums up their settings."
    ).tag(sync=True)
    fields: Any = traitlets.List(help="The parameters that can be set: what each is called, does and may be.").tag(
        sync=True
    )
    limits = traitlets.Dict(help="The limits of seed and stop strings.").tag(sync=True)

    def __init__(self, value: SamplingParams | None = None, *, expanded: bool = True) -> None:
        value = DEFAULT if value is None else value
        super().__init__(
            value=value,
            params=_positions(value, _positions(DEFAULT, {})),
            presets=PRESETS,
            neutral=_OFF,
            code=sampling_code(value),
            expanded=expanded,
            fields=[wire_field(one) for one in PARAMETERS],
            limits={"most_stops": MAX_STOP_STRINGS, "stop_length": MAX_STOP_LENGTH, "largest_seed": str(MAX_SEED)},
        )
        self.observe(self._move, "value")
        self.observe(self._read, "params")

    def apply_preset(self, name: str) -> None:
        """Apply a preset: Precise, Balanced, Creative or Neutral."""
        if name not in PRESETS:
            raise InvalidRequestError("name", name, f"one of {', '.join(PRESETS)}")
        with LOCK:
            self.params = {**self.params, **PRESETS[name]}

    def recommend(self, params: Mapping[str, Any] | None) -> None:
        """Offer a model's ``sampling_defaults`` as a button; None removes it. The current parameters stay."""
        with LOCK:
            self.recommended = dict(params or {})

    def apply_recommended(self) -> None:
        """Apply what the model recommends, as its button does; max tokens, logit bias, seed and stop strings stay."""
        if not self.recommended:
            raise InvalidRequestError("recommended", None, "recommended by the model; this one recommends nothing")
        with LOCK:
            self.params = {**self.params, **_OFF, **self.recommended}

    def static_html(self) -> str:
        return twins.sampling_html(self.value)

    def __repr__(self) -> str:
        return f"SamplingControls({sampling_code(self.value, prefix='')})"

    def _move(self, change: Any) -> None:
        with LOCK:
            if _value(self.params) != change.new:
                self.params = _positions(change.new, self.params)
            self.code = sampling_code(change.new)

    def _read(self, change: Any) -> None:
        with LOCK:
            try:
                value = _value(change.new)
            except (InvalidRequestError, KeyError, TypeError, ValueError):
                # The page checks first, so this one has another version: keep the last valid value.
                self.params = change.old
                return
            # An equivalent value (greedy with a temperature) may have been set: do not replace it.
            if _positions(self.value, change.new) != change.new:
                self.value = value


def wire_field(one: Parameter) -> dict[str, Any]:
    """Return a row of the table as static/sampling_fields.js reads it."""
    stage = one if isinstance(one, StageSpec) else None
    return {
        "name": one.field,
        "label": one.label,
        "help": one.help,
        "allowed": re.sub(r" \([^)]*\)|finite ", "", one.allowed),  # the notes are for error messages only
        "range": asdict(one.range),
        "step": one.step,
        "decimals": one.decimals,
        "slider": one.slider,
        "usedBy": STRATEGIES if stage is None else stage.used_by,
        "neutral": one.neutral,
        # The other fields have phrases of their own in a summary.
        "inSummary": stage is not None and stage.is_ability,
    }


def _positions(value: SamplingParams, before: dict[str, Any]) -> dict[str, Any]:
    """Return the state of the controls for a value; a temperature that greedy does not define stays as before."""
    numbers = {one.field: _or_default(value, one.field) for one in _NUMBERS}
    if value.strategy == SamplingStrategy.greedy and not value.temperature:
        numbers["temperature"] = before.get("temperature", numbers["temperature"])
    return {
        "strategy": value.strategy.value,
        **numbers,
        "logit_bias": {str(token_id): bias for token_id, bias in (value.logit_bias or {}).items()},
        "seed": None if value.seed is None else str(value.seed),
        "stop": list(value.stop or []),
    }


def _value(params: dict[str, Any]) -> SamplingParams:
    strategy = SamplingStrategy(params["strategy"])
    numbers = {one.field: params[one.field] for one in PARAMETERS}
    if strategy == SamplingStrategy.greedy:
        # A run warns of greedy with a temperature; here the temperature is only the position of a disabled slider.
        numbers["temperature"] = 0.0
    seed = params["seed"]
    return SamplingParams(
        strategy=strategy, **numbers, seed=None if seed is None else int(seed), stop=params["stop"] or None
    )


def _or_default(value: SamplingParams, name: str) -> Any:
    current = getattr(value, name)
    return SamplingParams.model_fields[name].default if current is None else current
