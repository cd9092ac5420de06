"""Ways to break what the lessons claim: each is a fault that a change of the workbench might bring in.

`test_broken_claims.py` calls one of them in a lesson's kernel before its first cell, and the lesson has to notice.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any


@dataclass(frozen=True)
class Break:
    """One fault, and the lesson that claims it is none."""

    lesson: str
    """Its number."""
    by: Callable[[], None]

    @property
    def name(self) -> str:
        return f"{self.lesson}-{self.by.__name__}"


def _change(owner: str, name: str, made_of: Callable[[Any], Any]) -> None:
    """Put something made of it in the place of a module's or a class's attribute."""
    holder = resolve_name(owner)
    setattr(holder, name, made_of(getattr(holder, name)))


def _change_draws(change: Callable[[Any], Any]) -> None:
    """Of what chooses the tokens; what looks back at it sees the request as it was."""

    def made_of(original: Any) -> Any:
        return lambda self, asked, *more: original(self, asked if asked.greedy else change(asked), *more)

    _change("workbench.engine.sampling:Sampler", "__init__", made_of)


def _change_cuts(**neutral: Any) -> None:
    """Of drawing and of looking back alike."""
    _change(
        "workbench.engine.sampling",
        "_drawn_places",
        lambda original: lambda logits, asked, number: original(logits, replace(asked, **neutral), number),
    )


def _change_load(precision: str) -> None:
    _change(
        "workbench.providers.transformers.served",
        "load",
        lambda original: lambda folder, **options: original(folder, **options | {"precision": precision}),
    )


def the_seed_is_ignored() -> None:
    _change_draws(lambda asked: replace(asked, seed=None))


def the_temperature_is_ignored() -> None:
    _change_draws(lambda asked: replace(asked, temperature=1.0))


def every_draw_is_cut_to_five_tokens() -> None:
    _change_draws(lambda asked: replace(asked, top_k=5))


def top_k_is_ignored() -> None:
    _change_cuts(top_k=0)


def top_p_is_ignored() -> None:
    _change_cuts(top_p=1.0)


def greedy_takes_the_second_best() -> None:
    _change(
        "workbench.engine.sampling",
        "best",
        lambda _: lambda logits, allowed=None: int(logits.topk(2).indices[1]),
    )


def looking_back_draws_anew() -> None:
    def made_of(original: Any) -> Any:
        return lambda logits, asked, seen_ids, _, mask=None: original(logits, asked, seen_ids, random.random(), mask)

    _change("workbench.engine.inspection", "trace", made_of)


def another_model_answers() -> None:
    """A tiny one of random weights, under the name of the embedded one."""
    from tests.tiny_models import bpe_tokenizer, save_model

    folder = Path(tempfile.mkdtemp()) / "model"
    save_model(folder, "llama", bpe_tokenizer())
    _change(
        "workbench.catalog",
        "resolve",
        lambda original: lambda name, **options: folder if "smollm2" in name else original(name, **options),
    )


def logprobs_are_those_of_the_next_token_id() -> None:
    def made_of(original: Any) -> Any:
        def wrong(row: Any, token_id: int, *more: Any) -> Any:
            return replace(original(row, (token_id + 1) % len(row), *more), token_id=token_id)

        return wrong

    _change("workbench.engine.logprobs", "_measured", made_of)


def stop_strings_are_ignored() -> None:
    _change("workbench.engine.stopping:StopMatcher", "__init__", lambda original: lambda self, _: original(self, ()))


def the_template_is_dropped() -> None:
    def plain(self: Any, messages: Any, *_: Any, **__: Any) -> Any:
        return self.text_prompt("\n".join(str(message.content) for message in messages))

    _change("workbench.prompts.encoding:PromptEncoder", "chat_prompt", lambda _: plain)


def scores_are_in_the_order_of_probability() -> None:
    def made_of(original: Any) -> Any:
        return lambda *asked: sorted(original(*asked), key=lambda tokens: sum(one.logprob for one in tokens))

    _change("workbench.engine.scheduler", "score", made_of)


def vectors_come_in_another_order() -> None:
    _change(
        "workbench.engine.embeddings:EmbeddingModel",
        "_embed",
        lambda original: lambda self, texts: original(self, texts)[::-1],
    )


def vectors_are_twice_as_long() -> None:
    def made_of(original: Any) -> Any:
        return lambda self, texts: [[2 * number for number in vector] for vector in original(self, texts)]

    _change("workbench.engine.embeddings:EmbeddingModel", "_embed", made_of)


def a_batch_mixes_up_its_rows() -> None:
    def made_of(original: Any) -> Any:
        async def mixed(self: Any, requests: Any) -> Any:
            return (await original(self, requests))[::-1]

        return mixed

    _change("workbench.providers.transformers:TransformersProvider", "generate_batch", made_of)


def every_precision_is_fp8() -> None:
    _change_load("fp8")


def changed_capsules_are_taken() -> None:
    _change("workbench.capsule", "_check_seals", lambda _: lambda data, seals: None)


def a_replay_finds_no_difference() -> None:
    _change("workbench.replaying", "first_difference", lambda _: lambda one, other: None)


def a_trace_answers_whatever_it_is_asked() -> None:
    def first(self: Any, method: Any, *_: Any) -> Any:
        return next(calls[0] for calls in self._calls.values() if calls[0].method == method)

    _change("workbench.providers.trace.playing:Playlist", "take", lambda _: first)


def a_provider_is_asked_for_what_it_does_not_offer() -> None:
    _change("workbench.stack.router", "refuse_undeclared", lambda _: lambda provider, request: None)


def registrations_are_forgotten() -> None:
    _change("workbench.stack.registrations:RegistrationStore", "put", lambda _: lambda self, row: None)


BREAKS = (
    Break("00", the_seed_is_ignored),
    Break("00", another_model_answers),
    Break("01", greedy_takes_the_second_best),
    Break("01", logprobs_are_those_of_the_next_token_id),
    Break("01", stop_strings_are_ignored),
    Break("01", the_template_is_dropped),
    Break("01", scores_are_in_the_order_of_probability),
    Break("02", the_seed_is_ignored),
    Break("02", the_temperature_is_ignored),
    Break("02", every_draw_is_cut_to_five_tokens),
    Break("02", top_k_is_ignored),
    Break("02", top_p_is_ignored),
    Break("02", looking_back_draws_anew),
    Break("07", vectors_come_in_another_order),
    Break("07", vectors_are_twice_as_long),
    Break("08", a_batch_mixes_up_its_rows),
    Break("08", every_precision_is_fp8),
    Break("10", changed_capsules_are_taken),
    Break("10", a_replay_finds_no_difference),
    Break("10", a_trace_answers_whatever_it_is_asked),
    Break("11", a_provider_is_asked_for_what_it_does_not_offer),
    Break("11", registrations_are_forgotten),
)
