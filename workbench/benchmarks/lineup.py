"""Loading of the requested precisions and rivals, each in a process of its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from workbench import catalog
from workbench.benchmarks.cold_start import ColdStart, cold_starts
from workbench.benchmarks.contestants import Entrant
from workbench.benchmarks.exactness import Reference
from workbench.benchmarks.gguf_file import gguf_of
from workbench.benchmarks.interleaving import Absence, Log
from workbench.benchmarks.isolated_process import (
    IsolatedContestant,
    IsolatedEmbedder,
    IsolatedReader,
    IsolatedReference,
)
from workbench.benchmarks.llama_cpp import LlamaCppContestant
from workbench.benchmarks.openvino import OpenVinoContestant
from workbench.benchmarks.prompts import QUESTIONS, Encode
from workbench.benchmarks.tasks import Sizes
from workbench.benchmarks.transformers_generate import LoopEmbedder, TransformersContestant
from workbench.benchmarks.workbench_contestant import WorkbenchContestant, WorkbenchEmbedder, contestant_name
from workbench.engine.context_length import context_length
from workbench.engine.precision import Precision
from workbench.engine.transformers_loading import load_tokenizer
from workbench.errors import InsufficientMemoryError, InvalidRequestError

SENTENCE_MODEL = "all-minilm-l6-v2"

RIVAL_MODULES = {"transformers": "transformers", "llama.cpp": "xllamacpp", "openvino": "openvino_genai"}
"""Modules by rival; transformers always takes part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of a benchmark run."""

    model: str
    precisions: tuple[Precision, ...]
    rivals: frozenset[str]
    tasks: frozenset[str]
    rounds: int
    tokens: int
    exactness_tokens: int
    gguf: Path | None = None
    processor: str | None = None
    """Smaller processor to which the programs are held, see `processors`."""
    device: str = "cpu"
    """Device of the workbench; all other programs use the CPU."""
    busy: int = 0
    """Number of cores that other processes keep busy."""
    may_fetch: bool = False
    """Whether a second model is fetched if it is not in the cache."""

    @property
    def file(self) -> Path | None:
        """The GGUF file for rivals that read it, if there is one outside the catalog."""
        return self.gguf or catalog.gguf_path(self.model)


@dataclass(slots=True)
class Lineup:
    """The loaded programs."""

    sizes: Sizes
    encode: Encode
    questions: list[list[int]]
    """Questions to the model, as token ids."""
    contestants: list[IsolatedContestant] = field(default_factory=list)
    embedders: list[IsolatedEmbedder] = field(default_factory=list)
    cold_starts: list[ColdStart] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)

    @property
    def reference(self) -> Reference:
        """`transformers` in float32, which takes part in all tasks of causal models."""
        return next(one for one in self.contestants if isinstance(one, IsolatedReference))

    def of(self, kind: str) -> Sequence[Entrant]:
        by_kind: dict[str, Sequence[Entrant]] = {
            "causal": self.contestants,
            "embedding": self.embedders,
            "program": self.cold_starts,
        }
        return by_kind[kind]


def check(settings: Settings) -> None:
    """Raise InvalidRequestError if a rival is not installed."""
    for rival in sorted(settings.rivals):
        if importlib.util.find_spec(RIVAL_MODULES[rival]) is None:
            raise InvalidRequestError(
                "--against", rival, "a program that is installed: pip install 'inference-workbench[bench]'"
            )


@contextmanager
def open_lineup(settings: Settings, log: Log) -> Iterator[Lineup]:
    """Load the programs for the requested tasks, and close them at the end.

    A precision that does not fit into memory becomes an `Absence`, so that the others are measured.
    """
    with ExitStack() as stack:
        folder = catalog.resolve(settings.model)
        lineup = _empty(folder, settings)
        if settings.tasks - {"embeddings", "cold-start"}:
            _add_causal(lineup, settings, folder, stack, log)
        if "embeddings" in settings.tasks:
            sentences = catalog.local_path(SENTENCE_MODEL)
            log(f"loading {SENTENCE_MODEL}")
            for embedder in (WorkbenchEmbedder, LoopEmbedder):
                lineup.embedders.append(stack.enter_context(closing(IsolatedEmbedder(embedder, sentences))))
        if "cold-start" in settings.tasks:
            gguf = settings.file if "llama.cpp" in settings.rivals else None
            lineup.cold_starts += cold_starts(settings.model, settings.device, gguf)
        yield lineup


def _empty(folder: Path, settings: Settings) -> Lineup:
    tokenizer = load_tokenizer(folder)

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def encode_question(question: str) -> list[int]:
        if not tokenizer.chat_template:
            return list(tokenizer(question, verbose=False)["input_ids"])
        message = [{"role": "user", "content": question}]
        encoding: Any = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=True)
        return list(encoding["input_ids"])

    sizes = Sizes.fitting(settings.tokens, context_length(AutoConfig.from_pretrained(folder, local_files_only=True)))
    return Lineup(sizes, encode, [encode_question(question) for question in QUESTIONS])


def _add_causal(lineup: Lineup, settings: Settings, folder: Path, stack: ExitStack, log: Log) -> None:
    def add(name: str, load: Callable[[], IsolatedContestant]) -> None:
        log(f"loading {name}")
        try:
            contestant = load()
        except InsufficientMemoryError as error:
            lineup.absences.append(Absence(name, "all", str(error)))
            return
        lineup.contestants.append(stack.enter_context(closing(contestant)))

    for precision in settings.precisions:
        name, more = contestant_name(precision, settings.device), (settings.model, settings.device)
        add(name, partial(IsolatedReader, WorkbenchContestant, folder, precision, *more))
    add("transformers float32", partial(IsolatedReference, TransformersContestant, folder, "float32"))
    add("transformers bf16", partial(IsolatedReader, TransformersContestant, folder, "bf16"))
    if settings.rivals - {"transformers"}:
        gguf = stack.enter_context(gguf_of(settings.model, settings.file))
        if "llama.cpp" in settings.rivals:
            add("llama.cpp", partial(IsolatedReader, LlamaCppContestant, gguf, lineup.sizes.context))
        if "openvino" in settings.rivals:
            add("openvino", partial(IsolatedContestant, OpenVinoContestant, gguf))
