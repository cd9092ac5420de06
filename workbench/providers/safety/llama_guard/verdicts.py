"""Verdicts of a guard model: read from probabilities where its provider has them, and otherwise from its text.

=============  ==========================================================================================
``logits``     the provider scores continuations: the exact probability of ``unsafe`` against ``safe``
``logprobs``   the provider returns logprobs: the same, from the listed candidates of the deciding token
``text``       the provider returns text only: 0 or 1
=============  ==========================================================================================
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from workbench.errors import ShieldError
from workbench.protocol import LogProbConfig, SamplingParams, SamplingStrategy
from workbench.providers.requests import Request
from workbench.providers.safety.hazards import Category

if TYPE_CHECKING:
    from workbench.protocol import Message
    from workbench.providers.model_access import ModelAccess
    from workbench.records import Score, TokenRecord

_LEADS = ("", "\n\n")
"""What precedes the verdict: Llama Guard 3 begins with an empty line, other models do not."""
_MAX_TOKENS = 48
_MAX_CANDIDATES = 20
_MIN_MASS = 0.5
"""Least probability of all valid answers together; below it, another answer is the likelier one."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Answer of a guard model."""

    probability: float
    """Probability that the message is unsafe, given that the answer is a verdict."""
    source: Literal["logits", "logprobs", "text"]
    """What the probability was read from."""
    categories: tuple[Category, ...] = ()
    """Violated categories, the most probable one first; empty for a safe message."""


async def scored_verdict(
    models: ModelAccess, model: str, messages: list[Message], categories: Sequence[Category], threshold: float
) -> Verdict:
    """Return the verdict from the probabilities of all valid answers, with categories from the threshold on.

    Raises:
        ShieldError: another answer is more probable than all of them, or the answer names no known category.
    """
    answers = [f"{lead}{word}" for word in ("safe", "unsafe") for lead in _LEADS]
    masses = [score.probability for score in await models.score(model, messages, answers)]
    unsafe = masses[len(_LEADS) :]
    total = math.fsum(masses)
    if not total >= _MIN_MASS:  # also true of NaN
        raise ShieldError(
            f"{model} gives no verdict: the probability of 'safe' or 'unsafe' is only {total:.3g}; "
            "choose a model that was trained as a guard"
        )
    verdict = Verdict(math.fsum(unsafe) / total, "logits")
    if verdict.probability < threshold:
        return verdict
    likeliest = max(range(len(_LEADS)), key=lambda index: unsafe[index])
    beginning = answers[len(_LEADS) + likeliest]
    ranked = await _ranked_categories(models, model, messages, beginning, unsafe[likeliest], categories)
    return replace(verdict, categories=ranked)


async def _ranked_categories(
    models: ModelAccess,
    model: str,
    messages: list[Message],
    beginning: str,
    mass: float,
    categories: Sequence[Category],
) -> tuple[Category, ...]:
    """Return the categories in the order of their probability as the first one after ``unsafe``.

    Args:
        beginning: ``unsafe``, with what precedes it.
        mass: probability of the beginning.
    """
    scores = await models.score(model, messages, [f"{beginning}\n{category}" for category in categories])
    masses = [_first_code_mass(score, scores) for score in scores]
    if not math.fsum(masses) >= _MIN_MASS * mass:
        share = math.fsum(masses) / mass
        raise ShieldError(
            f"{model} gives no verdict: after 'unsafe', the probability of a code among {', '.join(categories)} is "
            f"only {share:.3g}"
        )
    order = sorted(range(len(categories)), key=lambda index: -masses[index])
    return tuple(categories[index] for index in order)


def _first_code_mass(score: Score, scores: Sequence[Score]) -> float:
    """Return the probability of a code without that of longer ones, as S1 is the beginning of S10 to S13."""
    ids = [token.token_id for token in score.tokens]
    longer = [one for one in scores if one is not score and [token.token_id for token in one.tokens][: len(ids)] == ids]
    return score.probability - math.fsum(one.probability for one in longer)


async def generated_verdict(
    models: ModelAccess, model: str, messages: list[Message], categories: Sequence[Category], *, with_logprobs: bool
) -> Verdict:
    """Return the verdict that a model generates, greedily.

    Raises:
        ShieldError: the answer is not a verdict, or names a category that was not in the prompt.
    """
    request = Request(
        model=model,
        messages=messages,
        sampling_params=SamplingParams(strategy=SamplingStrategy.greedy, max_tokens=_MAX_TOKENS),
        logprobs=LogProbConfig(top_k=_candidates(models, model)) if with_logprobs else None,
    )
    text = ""
    tokens: list[TokenRecord] = []
    async for emission in models.stream(request):
        text += emission.delta if isinstance(emission.delta, str) else ""
        tokens += emission.tokens
    named = parsed(text, model, categories)
    probability = _unsafe_probability(tokens) if with_logprobs else None
    if probability is None:
        return Verdict(1.0 if named else 0.0, "text", named)
    return Verdict(probability, "logprobs", named)


def parsed(text: str, model: str, categories: Sequence[Category]) -> tuple[Category, ...]:
    """Return the categories that an answer names, none if it is ``safe``; raise `ShieldError` for other answers."""
    lines = text.strip().splitlines()
    verdict = lines[0].strip().lower() if lines else ""
    codes = [code for line in lines[1:] for code in re.split(r"[,\s]+", line.strip()) if code]
    known = tuple(dict.fromkeys(category for code in codes for category in categories if category == code.upper()))
    if verdict == "safe" and not codes:
        return ()
    if verdict == "unsafe" and known and len(known) == len(set(map(str.upper, codes))):
        return known
    allowed = f"'safe', or 'unsafe' and a line with codes among {', '.join(categories)}"
    raise ShieldError(f"{model} gives no verdict: its answer must be {allowed}; got {text[:80]!r}")


def _candidates(models: ModelAccess, model: str) -> int:
    most = models.capabilities_of(model).max_top_k
    return _MAX_CANDIDATES if most is None else min(_MAX_CANDIDATES, most)


def _unsafe_probability(tokens: Sequence[TokenRecord]) -> float | None:
    """Return P(unsafe) at the first token with visible text; None if its logprob is unknown."""
    deciding = next((token for token in tokens if token.text.strip()), None)
    if deciding is None or math.isnan(deciding.logprob):
        return None
    candidates = [(deciding.text, deciding.probability)] + [
        (one.text, one.probability) for one in deciding.alternatives
    ]
    safe = math.fsum(mass for text, mass in candidates if _begins("safe", text))
    unsafe = math.fsum(mass for text, mass in candidates if _begins("unsafe", text))
    return unsafe / (safe + unsafe) if safe + unsafe > 0 else None


def _begins(word: str, token: str) -> bool:
    return bool(token.strip()) and word.startswith(token.strip().lower())
