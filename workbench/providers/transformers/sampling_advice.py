"""What a folder's ``generation_config.json`` advises about sampling: told and offered, and never applied by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.engine.model_folder import GENERATION, read_json
from workbench.errors import InvalidRequestError
from workbench.protocol import SamplingParams
from workbench.sampling_stages import MAX_TOKENS, PARAMETERS, SAMPLING_STAGES

_TAKEN = tuple(one.field for one in PARAMETERS if one is not MAX_TOKENS)
_NEUTRAL: dict[str, Any] = {
    "encoder_repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "num_beams": 1,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "diversity_penalty": 0.0,
}
_OTHERS = (
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
    "min_p",
    "no_repeat_ngram_size",
    "penalty_alpha",
    "sequence_bias",
    "suppress_tokens",
)
"""Settings that change what transformers generates, and that no request here has."""


@dataclass(frozen=True, slots=True)
class Advice:
    """The advice in our own words."""

    params: dict[str, Any]
    """As `SamplingParams` takes them."""
    notes: tuple[str, ...]
    """What is left out of them."""


def read_advice(folder: Path) -> Advice:
    """Read a folder's advice; empty where it gives none."""
    path = folder / GENERATION
    advised = read_json(path) if path.exists() else {}
    given = {name: advised[name] for name in _TAKEN if advised.get(name) is not None}
    try:
        SamplingParams(**given)
    except InvalidRequestError as error:
        return Advice({}, (f"the sampling settings of generation_config.json are not valid: {error}",))
    notes = []
    if not advised.get("do_sample"):
        greedy = {stage.field: stage.neutral for stage in SAMPLING_STAGES if stage.changes_argmax}
        given = {name: value for name, value in given.items() if value != greedy.get(name, value)}
    elif given.get("top_p", 1) < 1 or not given.get("top_k"):
        if given.pop("top_k", 0):
            notes.append(
                f"top_k {advised['top_k']} of generation_config.json is left out: a strategy takes top_p or top_k"
            )
        given = {"strategy": "top_p", "temperature": 1.0, "top_p": 1.0} | given
    else:
        given.pop("top_p", None)
        given = {"strategy": "top_k", "temperature": 1.0} | given
    others = [
        name for name in _OTHERS if name not in _TAKEN and advised.get(name) not in (None, [], 0, _NEUTRAL.get(name))
    ]
    if others:
        notes.append(f"generation_config.json also sets {', '.join(others)}: not supported")
    if given:
        told = ", ".join(f"{name} {value}" for name, value in given.items())
        notes.insert(
            0, f"generation_config.json recommends {told}: available as sampling_defaults, not applied automatically"
        )
    return Advice(given, tuple(notes))
