"""What is asked of every model of the zoo: our answers are those of transformers, or the model is refused by name."""

from __future__ import annotations

import random
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.fakes.listening import Heard, generate, submit
from tests.tiny_models import bpe_tokenizer
from tests.zoo_models import VOCAB, kinds, save_small
from workbench.engine.fused import FusedDecoder
from workbench.engine.loading import LoadedModel, load
from workbench.engine.precision import PRECISIONS
from workbench.engine.requests import GenerationRequest
from workbench.engine.scheduler import Engine
from workbench.errors import WorkbenchError

__all__ = ["Found", "check", "check_folder", "kinds"]

ANSWER = 32
_TIE = 1e-3
"""Nats between two tokens that either may be chosen of."""


_PATIENCE_S = 300.0
"""Some small models have many experts, and a busy machine takes its time."""


@dataclass(frozen=True)
class Found:
    verdict: str
    """Such as ``clean``, ``refused`` or ``wrong``; ``general`` if the fused step was wanted and does not serve it."""
    why: str = ""


def check(kind: str, folder: Path, *, fast: bool = False) -> Found:
    """Make a small random model of a type and see whether it is right, or refused.

    Args:
        fast: whether the fused step computes it, which must serve it then; else transformers' own forward does.
    """
    try:
        save_small(kind, folder, bpe_tokenizer(VOCAB))
    except Exception as error:  # noqa: BLE001 - a library's own code may raise anything
        return Found("not made", _first_line(error))
    return check_folder(folder, fast=fast)


def check_folder(folder: Path, *, fast: bool = False) -> Found:
    """The same of a folder that is there."""
    try:
        model = load(folder, fast=fast)
    except WorkbenchError as error:
        return Found("refused", f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return Found("untyped", traceback.format_exc(limit=-2) + _first_line(error))
    if fast and not isinstance(model.decoder, FusedDecoder):
        return Found("general")
    try:
        _check_answers(model)
        reasons = {precision: _refusal(folder, precision, fast=fast) for precision in PRECISIONS[1:]}
        refused = [f"no {precision} ({why})" for precision, why in reasons.items() if why]
    except AssertionError as error:
        return Found("wrong", str(error) or traceback.format_exc(limit=-1))
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return Found("untyped", traceback.format_exc(limit=-3) + _first_line(error))
    return Found("clean", ", ".join([*model.proof.switched_off, *refused]))


def _check_answers(model: LoadedModel) -> None:
    rng = random.Random(5)
    prompts = [[rng.randrange(3, 380) for _ in range(count)] for count in (1, 40, 7)]
    reference = _reference(model.folder)
    cold, warm = Engine(model, prefix_cache_bytes=0), Engine(model, prefix_cache_bytes=2**26)
    try:
        heard = {index: _answer(cold, prompt) for index, prompt in enumerate(prompts)}
        for index, prompt in enumerate(prompts):
            _check_ids(reference, prompt, heard[index])
            _check_logprobs(reference, prompt, heard[index])
        together = [submit(cold, _request(prompt))[1] for prompt in prompts]
        for index, one in enumerate(together):
            assert one.wait(_PATIENCE_S).ids == heard[index].ids, (
                f"together with others {one.ids} instead of {heard[index].ids}"
            )
        _check_prefixes(cold, warm, prompts[1], heard[1])
    finally:
        cold.close()
        warm.close()


def _check_prefixes(cold: Engine, warm: Engine, prompt: list[int], heard: Heard) -> None:
    """A conversation that goes on, one that begins alike, and the same once more."""
    _answer(warm, prompt, prompt_logprobs=False)
    longer, other = [*prompt, *heard.ids[:20], 9, 10, 11], [*prompt[:30], 17, 18, 19, 20]
    for text in (longer, other, prompt):
        reused, anew = (_answer(engine, text, prompt_logprobs=False) for engine in (warm, cold))
        assert reused.ids == anew.ids, f"after a kept beginning {reused.ids} instead of {anew.ids}"


def _answer(engine: Engine, prompt: list[int], *, prompt_logprobs: bool = True) -> Heard:
    return submit(engine, _request(prompt, prompt_logprobs=prompt_logprobs))[1].wait(_PATIENCE_S)


def _request(prompt: list[int], *, prompt_logprobs: bool = True) -> GenerationRequest:
    return GenerationRequest(
        prompt_ids=tuple(prompt), max_tokens=ANSWER, stop_ids=frozenset(), prompt_logprobs=prompt_logprobs
    )


def _reference(folder: Path) -> Any:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    make: Any = transformers.GenerationConfig
    model.generation_config = make(pad_token_id=0)  # greedy choice alone: no end, and no token that is forced
    return model


def _check_ids(reference: Any, prompt: list[int], heard: Heard) -> None:
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        output = reference.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=ANSWER, do_sample=False)
        expected = output[0, len(prompt) :].tolist()
        if heard.ids == expected:
            return
        first = next(index for index, pair in enumerate(zip(heard.ids, expected, strict=True)) if pair[0] != pair[1])
        row = reference(torch.tensor([[*prompt, *expected[:first]]]), use_cache=False).logits[0, -1].log_softmax(-1)
    gap = float(abs(row[heard.ids[first]] - row[expected[first]]))
    assert gap < _TIE, f"{heard.ids} instead of {expected}, {gap:.3g} nats apart at token {first}"


def _check_logprobs(reference: Any, prompt: list[int], heard: Heard) -> None:
    ids = [*prompt, *heard.ids]
    with torch.inference_mode():
        exact = reference(torch.tensor([ids]), use_cache=False).logits[0].float().log_softmax(-1)
    stats = [*heard.started.prompt_stats, *(step.stats for step in heard.steps)]
    for position, one in enumerate(stats):
        apart = abs(one.logprob - float(exact[position, ids[position + 1]]))
        assert apart < _TIE, f"the logprob at {position} of {len(prompt)} + {ANSWER} is off by {apart:.3g}"


def _refusal(folder: Path, precision: Any, *, fast: bool) -> str:
    """Why a precision is refused; empty where it runs."""
    try:
        model = load(folder, precision=precision, fast=fast)
    except WorkbenchError as error:
        return str(error).rpartition("refused: ")[2]
    engine = Engine(model)
    try:
        heard = generate(engine, GenerationRequest(prompt_ids=(5, 6, 7), max_tokens=4, stop_ids=frozenset()))
        assert len(heard.ids) == 4, f"{precision} says {heard.events}"
    finally:
        engine.close()
    return ""


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
