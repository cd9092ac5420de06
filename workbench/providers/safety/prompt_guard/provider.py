"""Provider of shields against prompts that take over a model."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from workbench.errors import ConfigError, InvalidRequestError
from workbench.protocol import HealthInfo, SafetyViolation, ToolResponseMessage
from workbench.providers.safety.interface import SafetyConfig, SafetyProvider, ShieldConfig, ShieldParams
from workbench.providers.safety.judgments import Threshold, WarnBand, level_of, warns_from
from workbench.providers.safety.message_text import judged_text
from workbench.providers.safety.prompt_guard.classifiers import (
    DEFENDER,
    PromptClassifier,
    TextPart,
    folder_problem,
    load_classifier,
)

if TYPE_CHECKING:
    from workbench.protocol import Message, Provider
    from workbench.providers.model_access import ModelAccess

_HARMLESS = frozenset({"benign", "safe", "legit", "legitimate", "harmless", "clean"})
"""Labels of harmless texts, in lower case."""

_SHOWN_CHARACTERS = 200


class PromptGuardParams(ShieldParams):
    """Parameters of a shield against prompt injections and jailbreaks."""

    labels: Annotated[list[str], Field(min_length=1)] | None = None
    """Labels of the classifier that count as violations. None counts all but the harmless one; of a user's message it
    leaves out INJECTION where there is JAILBREAK too, because every instruction is an injection to such a model."""
    threshold: Threshold = 0.5
    """Probability of these labels from which on a part of the message is a violation of level ``error``."""
    warn_band: WarnBand = 0.0
    """Width of the band below the threshold in which it is a violation of level ``warn``, at most half the threshold;
    0 for none."""


class PromptGuardConfig(SafetyConfig):
    """Settings of a prompt guard."""

    shields: list[ShieldConfig] = Field(default_factory=lambda: [ShieldConfig(identifier="prompt_guard")])
    """Shields that run from the start; one named ``prompt_guard`` unless others are given."""
    model: str = Field(min_length=1)
    """Text classifier: a local folder in Hugging Face layout or a hub id, with a label such as ``BENIGN`` for harmless
    texts; or ``stackone-defender`` for the classifier in the package of that name."""
    harmless_label: str | None = None
    """Label of harmless texts, if it has an unusual name."""


class PromptGuardProvider(SafetyProvider):
    """Shields that judge the last message with a text classifier, which is loaded by the first request."""

    Config = PromptGuardConfig
    Params = PromptGuardParams
    shield_types = ("prompt_guard",)

    def __init__(self, provider: Provider, models: ModelAccess) -> None:
        super().__init__(provider, models)
        if self.config.model == DEFENDER:
            _require_defender(self.provider_id)
        self._classifier: PromptClassifier | None = None
        self._loading = threading.Lock()

    async def judge(self, messages: Sequence[Message], params: Any) -> SafetyViolation | None:
        """Return the violation of the part of the last message that is most probably an attack.

        Raises:
            ModelLoadError: the classifier cannot be loaded.
            InvalidRequestError: the classifier has no such label.
        """
        text = judged_text(messages)
        if not text.strip():
            return None
        classifier = await asyncio.to_thread(self._ready)
        labels = self._counted_labels(classifier, messages[-1], params)
        judged = [
            (*_most_probable(await asyncio.to_thread(part.probabilities), labels, classifier), part)
            for part in await asyncio.to_thread(classifier.parts, text)
        ]
        worst = max(judged, key=lambda one: one[0], default=None)
        if worst is None or worst[0] < warns_from(params.threshold, params.warn_band):
            return None
        return _violation(*worst, params.threshold)

    async def health(self) -> HealthInfo:
        """Return the status ``OK``, or that there is no such folder."""
        return HealthInfo(status=folder_problem(self.config.model) or "OK")

    def close(self) -> None:
        self._classifier = None

    def _ready(self) -> PromptClassifier:
        """Return the classifier, loaded once. Blocks."""
        with self._loading:
            if self._classifier is None:
                classifier = load_classifier(self.config.model)
                self._harmless(classifier)
                self._classifier = classifier
            return self._classifier

    def _harmless(self, classifier: PromptClassifier) -> str:
        named = self.config.harmless_label
        found = [label for label in classifier.labels if label == named or (not named and label.lower() in _HARMLESS)]
        if len(found) != 1 or len(classifier.labels) == 1:
            labels = ", ".join(classifier.labels)
            raise ConfigError(
                f"provider {self.provider_id!r}: config.harmless_label must be the label of harmless texts among the "
                f"labels of {self.config.model}: {labels}; got {named!r}"
            )
        return found[0]

    def _counted_labels(
        self, classifier: PromptClassifier, message: Message, params: PromptGuardParams
    ) -> Sequence[str]:
        attacks = [label for label in classifier.labels if label != self._harmless(classifier)]
        if params.labels is not None:
            for index, label in enumerate(params.labels):
                if label not in attacks:
                    raise InvalidRequestError(f"params.labels[{index}]", label, f"one of {', '.join(attacks)}")
            return list(dict.fromkeys(params.labels))
        if isinstance(message, ToolResponseMessage) or "JAILBREAK" not in attacks:
            return attacks
        return [label for label in attacks if label != "INJECTION"]


def _most_probable(
    probabilities: Sequence[float], labels: Sequence[str], classifier: PromptClassifier
) -> tuple[float, str]:
    """Return the probability of any of the labels, and the most probable one of them."""
    of_labels = dict(zip(classifier.labels, probabilities, strict=True))
    counted = [of_labels[label] for label in labels]
    probability = min(1.0, sum(counted)) if classifier.is_exclusive else max(counted)
    return probability, max(labels, key=lambda label: of_labels[label])


def _violation(probability: float, label: str, part: TextPart, threshold: float) -> SafetyViolation:
    return SafetyViolation(
        violation_level=level_of(probability, threshold),
        user_message=f"This message was flagged: it looks like an attempt to take over the model ({label}).",
        metadata={
            "category": label,
            "probability": probability,
            "threshold": threshold,
            "text": part.text[:_SHOWN_CHARACTERS],
            "start": part.start,
            "end": part.end,
        },
    )


def _require_defender(provider_id: str) -> None:
    missing = [name for name in ("stackone_defender", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"provider {provider_id!r}: the model {DEFENDER} needs the package {missing[0]}; install it with: "
            "pip install 'inference-workbench[guard]'"
        )
