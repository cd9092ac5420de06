"""The sides of a comparison: checks of the arguments, choices for the page, and titles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.errors import InvalidRequestError
from workbench.protocol import SamplingParams, SamplingStrategy, effective_sampling
from workbench.widgets.contract import SessionLike
from workbench.widgets.model_picker import served_cards
from workbench.widgets.precisions import precision_choices
from workbench.widgets.wire.comparison import LETTERS

Side = tuple[str | None, SamplingParams]
"""A model and its parameters; None is the session's default model."""
Models = Sequence[str | None] | str | None
Params = Sequence[SamplingParams] | SamplingParams | None

DEFAULT = SamplingParams(max_tokens=128)


def sides_of(models: Models, sampling_params: Params) -> list[Side]:
    """Return the sides of a comparison.

    Raises:
        InvalidRequestError: there are too few or too many, or one of them is invalid.
    """
    names = [models] if models is None or isinstance(models, str) else models
    params = [DEFAULT] if sampling_params is None else sampling_params
    params = [params] if isinstance(params, SamplingParams) else params
    if not isinstance(names, list | tuple):
        raise InvalidRequestError("models", models, "a list of models")
    if not isinstance(params, list | tuple):
        raise InvalidRequestError("sampling_params", sampling_params, "a list of SamplingParams")
    for index, one in enumerate(params):
        if not isinstance(one, SamplingParams):
            raise InvalidRequestError(f"sampling_params[{index}]", one, "a SamplingParams")
    count = max(len(names), len(params))
    if not 2 <= count <= len(LETTERS):
        counts = f"{len(names)} and {len(params)}"
        raise InvalidRequestError("models, sampling_params", counts, f"for 2 to {len(LETTERS)} sides")
    if len(names) not in (1, count) or len(params) not in (1, count):
        counts = f"{len(names)} and {len(params)}"
        raise InvalidRequestError("models, sampling_params", counts, "equal in number, or one of either for all sides")
    names, params = list(names) * (count // len(names)), list(params) * (count // len(params))
    return [(name, one.model_copy()) for name, one in zip(names, params, strict=True)]


def seeded(params: SamplingParams, seed: int) -> SamplingParams:
    """Return the parameters with a seed if they sample without one."""
    draws = effective_sampling(params).strategy != SamplingStrategy.greedy
    return params.model_copy(update={"seed": seed}) if draws and params.seed is None else params


def titles(models: Sequence[str], precisions: Sequence[str | None], settings: Sequence[str]) -> list[dict[str, Any]]:
    """Return the title of each side: letter, model and a description of its settings."""
    return [
        {"letter": letter, "model": model, "settings": " · ".join(filter(None, [precision, words]))}
        for letter, model, precision, words in zip(LETTERS, models, precisions, settings, strict=False)
    ]


def choosable(session: SessionLike) -> list[dict[str, Any]]:
    """Return the models for a side, each with its precision and the precisions in which it can be registered."""
    providers = session.config.providers.get("inference", ())
    precisions = {one.provider_id: [choice["value"] for choice in precision_choices(one)] for one in providers}
    return [
        {
            **{name: card[name] for name in ("value", "identifier", "provider_id", "precision")},
            "precisions": [
                name for name in precisions.get(card["provider_id"], ()) if name not in ("", card["precision"])
            ],
        }
        for card in served_cards(session, "causal")
    ]


def choice_of(session: SessionLike, models: Sequence[Mapping[str, Any]], model: str | None) -> dict[str, str]:
    """Return the choice of a model in the precision in which it is served; None is the session's default model.

    Raises:
        ModelNotFoundError: the model is not served.
    """
    card = session.card(model)
    wanted = (card.provider_id, card.identifier)
    named = (one["value"] for one in models if (one["provider_id"], one["identifier"]) == wanted)
    return {"model": next(named, model or card.identifier), "precision": ""}


def served_as(session: SessionLike, choice: Mapping[str, str]) -> str:
    """Return the name of a model in the chosen precision; register it if it is not served in that precision.

    Raises:
        InvalidRequestError: the model's files would have to be downloaded first.
    """
    name, precision = choice["model"], choice["precision"]
    card = session.card(name)
    if precision in ("", card.precision):
        return name
    for other in served_cards(session, "causal"):
        if [other[fact] for fact in ("provider_id", "source", "precision")] == [
            card.provider_id,
            card.source,
            precision,
        ]:
            return str(other["value"])
    if card.architecture is None:
        allowed = f"the one {name} is served in until its files are downloaded"
        in_form = f"{name} is not downloaded yet. Run it once as it is served, then choose {precision}."
        raise InvalidRequestError("precision", precision, allowed, in_form=in_form)
    registered = session.register_model(
        f"{card.identifier}-{precision}", card.source, provider_id=card.provider_id, precision=precision
    )
    return choice_of(session, choosable(session), f"{registered.provider_id}/{registered.identifier}")["model"]
