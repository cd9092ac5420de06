"""Measurements of the decoder of a device beside `transformers.generate`, as a table; see scripts/device_check.sh."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM

from tests.fakes.listening import Heard, submit
from workbench import catalog
from workbench.engine.loading import LoadedModel, load
from workbench.engine.precision import Precision
from workbench.engine.requests import GenerationRequest
from workbench.engine.scheduler import Engine
from workbench.engine.transformers_loading import quiet

PATIENCE_S = 240.0

Generate = Callable[[Sequence[Sequence[int]], int], None]
"""Generates exactly so many tokens after each of several prompts of one length."""


class Size(NamedTuple):
    """How much is measured."""

    tokens: int
    prompt: int
    batch: int
    rounds: int


ON_GPU = Size(tokens=128, prompt=512, batch=16, rounds=3)
ON_CPU = Size(tokens=3, prompt=32, batch=2, rounds=1)
"""Enough to see that the script runs."""


class Speeds(NamedTuple):
    """Tokens per second of one contestant."""

    name: str
    decode: float
    batch: float
    prefill: float


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="a device of torch, or torch:cpu")
    standard = "smollm2-135m-instruct"
    parser.add_argument("--model", default=standard, help="catalog name or folder (default: %(default)s)")
    options = parser.parse_args(argv)
    has_gpu = options.device != "torch:cpu"
    size = ON_GPU if has_gpu else ON_CPU
    folder = catalog.resolve_folders(options.model).model
    print(f"{options.model} on {options.device}, torch {torch.__version__}\n")
    rows = []
    print("| precision | dtype | KL, nat | argmax equal | tokens/s | CPU, tokens/s | notes |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    precisions: tuple[Precision, ...] = ("float32", "bf16")
    for precision in precisions:
        model = load(folder, precision=precision, device=options.device)
        print(_proof_row(model, precision), flush=True)
        engine = Engine(model, prefix_cache_bytes=0)
        try:
            rows.append(measured(f"workbench {precision}", partial(_generate_here, engine), size))
        finally:
            engine.close()
    print(f"\n| contestant | decode, tokens/s | batch of {size.batch}, tokens/s | prefill of {size.prompt}, tokens/s |")
    print("| --- | --- | --- | --- |")
    # Each row at once: whatever stops a later contestant leaves the earlier ones on paper.
    for row in chain(rows, _rivals(folder, options.device, size, with_compile=has_gpu)):
        print(f"| {row.name} | {row.decode:.1f} | {row.batch:.1f} | {row.prefill:.0f} |", flush=True)
    return 0


def measured(name: str, generate: Generate, size: Size) -> Speeds:
    """Return medians of a few rounds, after one that is not counted."""
    prompts = [[(7 * row + index) % 300 + 5 for index in range(size.prompt)] for row in range(size.batch)]
    short = [prompt[:16] for prompt in prompts]

    def seconds(asked: Sequence[Sequence[int]], count: int) -> float:
        times = []
        for _ in range(1 + size.rounds):
            started = time.perf_counter()
            generate(asked, count)
            times.append(time.perf_counter() - started)
        return statistics.median(times[1:])

    # The first token is the prompt's: what the others take is the decode.
    one, together = (max(seconds(some, size.tokens) - seconds(some, 1), 1e-9) for some in (short[:1], short))
    later = size.tokens - 1
    return Speeds(name, later / one, size.batch * later / together, size.prompt / seconds(prompts[:1], 1))


def _proof_row(model: LoadedModel, precision: str) -> str:
    proof = model.device_proof
    assert proof is not None, "a device has one"
    notes = "; ".join(proof.notes)
    return (
        f"| {precision} | {proof.dtype} | {proof.kl:.2g} | {proof.argmax_equal} | {proof.tokens_per_second:.1f} | "
        f"{proof.cpu_tokens_per_second:.1f} | {notes} |"
    )


def _generate_here(engine: Engine, prompts: Sequence[Sequence[int]], tokens: int) -> None:
    running: list[Heard] = []
    for prompt in prompts:
        request = GenerationRequest(prompt_ids=tuple(prompt), max_tokens=tokens, stop_ids=frozenset())
        running.append(submit(engine, request)[1])
    for heard in running:
        assert len(heard.wait(PATIENCE_S).ids) == tokens


def _rivals(folder: Path, device: str, size: Size, *, with_compile: bool) -> Iterator[Speeds]:
    """Yield the speeds of transformers in bf16, as it is and with a static cache, which it compiles on a GPU."""
    with quiet():
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True)
    model = loaded.eval().to("cpu" if device == "torch:cpu" else device)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    yield measured("transformers bf16", partial(_generate_there, model, {}), size)
    if with_compile:
        with suppress(NotImplementedError):  # a device that cannot compile
            static = partial(_generate_there, model, {"cache_implementation": "static"})
            yield measured("transformers bf16, static cache, compiled", static, size)


@torch.inference_mode()
def _generate_there(model: Any, settings: dict[str, Any], prompts: Sequence[Sequence[int]], tokens: int) -> None:
    rows = torch.tensor([list(prompt) for prompt in prompts], device=model.device)
    found = model.generate(
        rows, attention_mask=torch.ones_like(rows), do_sample=False, max_new_tokens=tokens, **settings
    )
    assert found[:, rows.shape[1] :].cpu().shape == (len(prompts), tokens)  # waits for the device


if __name__ == "__main__":
    sys.exit(main())
