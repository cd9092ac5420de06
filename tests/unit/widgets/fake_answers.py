"""A session whose models answer differently, with one vocabulary between them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from tests.unit.widgets.fake_session import FakeRun, FakeSession, token, words
from workbench.records import Alternative, TokenRecord

MODELS = ["smollm2-135m-instruct", "exact/smollm2-135m-instruct"]
SEA = "The sea is salty because rivers carry minerals from rocks into it, and they stay when water evaporates."
OTHER_SEA = "The sea is salty because rivers bring dissolved salts from rocks into it over millions of years."
PARTED = 6  # " carry" and " bring"


class AnsweringSession(FakeSession):
    """Every model says its own answer; how sure it is differs a little from model to model."""

    def __init__(self, answers: dict[str, str] | None = None, *, tokens_per_s: float = 5000.0) -> None:
        super().__init__(tokens_per_s=tokens_per_s)
        self.answers = answers or dict(zip(MODELS, [SEA, OTHER_SEA], strict=True))
        self._ids: dict[str, int] = {}

    def _run(self, method: str, prompt: Any, model: str | None, *options: Any) -> FakeRun:
        name = model or MODELS[0]
        at = list(self.answers).index(name)
        said = words(self.answers[name])
        others = [words(answer) for answer in self.answers.values()]
        records = [self._record(position, text, at, others) for position, text in enumerate(said)]
        self.calls.append({"method": method, "prompt": prompt, "model": model, "sampling_params": options[0]})
        run = FakeRun(
            f"run-{len(self.runs) + 1}",
            records=records,
            prompt=prompt,
            model=name,
            sampling_params=options[0],
            started=self._start,
        )
        self._start(run)
        return run

    def _record(self, position: int, text: str, model: int, answers: list[list[str]]) -> TokenRecord:
        record = token(position, text, alternatives=4)
        logprob = record.logprob * (1 + 0.08 * model)
        rest = (1 - math.exp(logprob)) * 0.6
        heard = dict.fromkeys(answer[position] for answer in answers if position < len(answer))
        candidates = [other for other in heard if other != text] + [item.text for item in record.alternatives]
        shares = [rest * 0.5 ** (k + 1) for k in range(len(candidates))]
        others = tuple(
            Alternative(self._id(other), other, other.encode(), math.log(max(share, 1e-9)), k + 2)
            for k, (other, share) in enumerate(zip(candidates, shares, strict=True))
        )
        return replace(record, token_id=self._id(text), logprob=logprob, rank=1, alternatives=others)

    def _id(self, text: str) -> int:
        return self._ids.setdefault(text, 300 + len(self._ids))
