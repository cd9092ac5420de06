"""Sampling parameters that a folder's ``generation_config.json`` recommends; they are never applied automatically."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.engine.model_folder import GENERATION, read_json
from workbench.errors import InvalidRequestError
from workbench.protocol import SamplingParams
from workbench.sampling_stages import MAX_TOKENS, PARAMETERS, SAMPLING_STAGES

_SUPPORTED = tuple(one.field for one in PARAMETERS if one is not MAX_TOKENS)
_NEUTRAL: dict[str, Any] = {
    "encoder_repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "num_beams": 1,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "diversity_penalty": 0.0,
}
_UNSUPPORTED = (
    *_NEUTRAL,
    "bad_words_ids",
    "begin_suppress_tokens",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_decoder_ids",
    "forced_eos_token_id",
    "guidance_scale",
    "min_length",
    "min_new_tokens",
    "no_repeat_ngram_size",
    "penalty_alpha",
    "sequence_bias",
    "suppress_tokens",
)
"""Settings that change what transformers generates, and that no field of a request has."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Recommended sampling parameters of a model."""

    params: dict[str, Any]
    """Arguments of `SamplingParams`."""
    notes: tuple[str, ...]
    """Notes for the reader, including the settings that ``params`` omits."""


def read_advice(folder: Path) -> Advice:
    """Return a folder's recommendations, empty if it has none."""
    path = folder / GENERATION
    config = read_json(path) if path.exists() else {}
    params = {name: config[name] for name in _SUPPORTED if config.get(name) is not None}
    try:
        SamplingParams(**params)
    except InvalidRequestError as error:
        return Advice({}, (f"the sampling settings of generation_config.json are not valid: {error}",))
    notes = []
    if not config.get("do_sample"):
        greedy = {stage.field: stage.neutral for stage in SAMPLING_STAGES if stage.changes_argmax}
        params = {name: value for name, value in params.items() if value != greedy.get(name, value)}
    elif params.get("top_p", 1) < 1 or not params.get("top_k"):
        if params.pop("top_k", 0):
            notes.append(
                f"top_k {config['top_k']} of generation_config.json is left out: a strategy takes top_p or top_k"
            )
        params = {"strategy": "top_p", "temperature": 1.0, "top_p": 1.0} | params
    else:
        params.pop("top_p", None)
        params = {"strategy": "top_k", "temperature": 1.0} | params
    unsupported = [name for name in _UNSUPPORTED if config.get(name) not in (None, [], 0, _NEUTRAL.get(name))]
    if unsupported:
        notes.append(f"generation_config.json also sets {', '.join(unsupported)}: not supported")
    if params:
        listed = ", ".join(f"{name} {value}" for name, value in params.items())
        notes.insert(
            0, f"generation_config.json recommends {listed}: available as sampling_defaults, not applied automatically"
        )
    return Advice(params, tuple(notes))
