"""Provider types that are ready to be asked: each with a run config's entry and the names of its models.

A new provider type adds its fixture here and its name to `FIXTURES`; `test_providers.py` does the rest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.dialect_servers import dialect_server
from tests.fakes.real_servers import ascii_gguf, ascii_llama, llama_cpp_server, transformers_server
from tests.tiny_models import bpe_tokenizer, llama_like, save_config, save_model, save_sentence_model
from workbench.protocol import RunConfig
from workbench.providers.capabilities import Capabilities
from workbench.providers.trace.recording import Recorder
from workbench.stack import Stack

FIXTURES = {
    "inline::echo": "echo",
    "inline::ray": "ray_pool",
    "inline::trace": "trace",
    "inline::transformers": "transformers",
    "remote::llama_cpp": "llama_cpp",
    "remote::ollama": "ollama",
    "remote::openai": "transformers_serve",
    "remote::tgi": "tgi",
    "remote::vllm": "vllm",
}
"""By provider type, the fixture that gives its candidate, or what to await for it."""


@dataclass(frozen=True)
class Candidate:
    """One provider type, ready to be asked."""

    provider_type: str
    config: dict[str, Any] = field(default_factory=dict)
    generates: str = ""
    """A model that continues texts and answers chats."""
    embeds: str = ""
    """A model that makes embeddings, where the provider has one."""
    registers: str = ""
    """Where a further model would come from, where the provider takes one."""


@pytest.fixture(scope="session")
def echo() -> Candidate:
    return Candidate("inline::echo", {}, generates="echo", embeds="echo-embedding", registers="another echo")


@pytest.fixture(scope="session")
def transformers(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    root = tmp_path_factory.mktemp("conforming")
    tokenizer = bpe_tokenizer()
    from transformers import LlamaConfig

    long = LlamaConfig(vocab_size=len(tokenizer), **llama_like(max_position_embeddings=4096))  # room to tell of tools
    folders = [save_config(root / "tiny-llama", long, tokenizer), save_sentence_model(root / "tiny-bert")]
    another = save_model(root / "tiny-gpt2", "gpt2")
    return Candidate(
        "inline::transformers",
        {"models": [str(folder) for folder in folders]},
        generates="tiny-llama",
        embeds="tiny-bert",
        registers=str(another),
    )


@pytest.fixture(scope="session")
def ascii_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that servers of others serve too."""
    return ascii_llama(tmp_path_factory.mktemp("remote") / "ascii")


@pytest.fixture(scope="session")
def llama_cpp(ascii_folder: Path) -> Iterator[Candidate]:
    """llama.cpp's own server, which takes the model's path for its name."""
    gguf = ascii_gguf(ascii_folder, ascii_folder.parent / "ascii.gguf")
    with llama_cpp_server(gguf) as url:
        name = str(gguf)
        yield Candidate("remote::llama_cpp", {"url": url}, generates=name, embeds=name, registers=name)


@pytest.fixture(scope="session")
def transformers_serve(ascii_folder: Path) -> Iterator[Candidate]:
    """``transformers serve``: it does not list its model, and drops what it lacks without a word."""
    lacks = ["embeddings", "images", "logprobs", "required_tool_choice", "response_formats", "sampling"]
    with transformers_server(ascii_folder) as url:
        name = str(ascii_folder)
        yield Candidate(
            "remote::openai", {"url": url, "models": [name], "lacks": lacks}, generates=name, registers=name
        )


@pytest.fixture(scope="session")
def vllm(ascii_folder: Path) -> Iterator[Candidate]:
    with dialect_server("vllm", ascii_folder) as (url, name):
        yield Candidate("remote::vllm", {"url": url}, generates=name, embeds=name, registers=name)


@pytest.fixture(scope="session")
def tgi(ascii_folder: Path) -> Iterator[Candidate]:
    with dialect_server("tgi", ascii_folder) as (url, name):
        yield Candidate("remote::tgi", {"url": url}, generates=name, registers=name)


@pytest.fixture(scope="session")
def ollama(ascii_folder: Path) -> Iterator[Candidate]:
    with dialect_server("ollama", ascii_folder) as (url, name):
        yield Candidate("remote::ollama", {"url": url}, generates=name, embeds=name, registers=name)


@pytest.fixture(scope="session")
def ray_pool(ray_cluster: None) -> Candidate:
    """Over echoes: what actors add is the same for every engine, and a process without torch starts at once."""
    config = {"actors": 1, "engine_type": "inline::echo"}
    return Candidate("inline::ray", config, generates="echo", embeds="echo-embedding", registers="another echo")


@pytest.fixture
def trace(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Awaitable[Candidate]]:
    """Plays what an echo said to the very same test, which therefore runs twice."""

    async def recorded() -> Candidate:
        path = tmp_path / "echo.jsonl"
        original = await opened(Candidate("inline::echo", {}, "echo", "echo-embedding", "another echo"))
        others = {name: value for name, value in request.node.callspec.params.items() if name != "served"}
        with Recorder(path) as recorder:
            for known in original.stack.models.registrations():
                recorder.note(known.provider, known.definition.identifier, known.name)
            original.router.recorder = recorder
            await request.function(original, **others)
        original.stack.close()
        return Candidate("inline::trace", {"path": str(path), "timing": "skipped"}, "echo", "echo-embedding")

    return recorded


# ------------------------------------------------------------------------------------------------------------------


@dataclass
class Served:
    """A candidate behind a stack of its own."""

    stack: Stack
    candidate: Candidate
    closed: bool = False

    @property
    def router(self) -> Any:
        return self.stack.inference

    @property
    def provider(self) -> Any:
        return self.stack.providers["one"]

    @property
    def can(self) -> Capabilities:
        capabilities: Capabilities = self.provider.capabilities
        return capabilities

    @property
    def model(self) -> str:
        return self.candidate.generates

    def close(self) -> None:
        self.closed = True
        self.stack.close()


async def opened(candidate: Candidate) -> Served:
    entry = {"provider_id": "one", "provider_type": candidate.provider_type, "config": candidate.config}
    config = {"built_at": "2026-01-01T00:00:00", "image_name": "one", "providers": {"inference": [entry]}}
    stack = Stack(RunConfig.model_validate(config))
    await stack.open()
    return Served(stack, candidate)


KEPT = "inline::ray"
"""The provider type whose one stack serves test after test, until one closes it: its actors take seconds to start."""

SLOW_TO_START = pytest.mark.timeout(600)
"""Ray's processes take half a minute to come up, and longer where others compute."""


@pytest.fixture(scope="session")
def kept() -> Iterator[list[Served]]:
    """The stacks of `KEPT`; the last one is in use."""
    stacks: list[Served] = []
    yield stacks
    for one in stacks:
        one.close()


@pytest.fixture(params=[pytest.param(name, marks=SLOW_TO_START) if name == KEPT else name for name in sorted(FIXTURES)])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    found: Candidate | Callable[[], Awaitable[Candidate]] = request.getfixturevalue(FIXTURES[request.param])
    candidate = found if isinstance(found, Candidate) else await found()
    assert candidate.provider_type == request.param
    if request.param != KEPT:
        served = await opened(candidate)
        yield served
        served.close()
        return
    stacks: list[Served] = request.getfixturevalue("kept")
    if not stacks or stacks[-1].closed:
        stacks.append(await opened(candidate))
    yield stacks[-1]
