"""Which tests need what, and which of them one process runs together when several share the suite.

Whatever takes long to start (a real model, a browser, a Ray cluster, another program's server) is started once in each
process that needs it, so tests that share it make one group; all other files are a group each. Groups that take long
come first, so that no process is left with one at the end.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

TESTS = Path(__file__).parent
_BROWSER = TESTS / "browser"
_LESSON_CHECKS = TESTS / "notebooks"
_CONFORMANCE = TESTS / "conformance"

_REAL_MODEL_FIXTURES = frozenset({"smollm2_path", "minilm_path"})
_MODEL_FIXTURES = _REAL_MODEL_FIXTURES | {"family_folder", "tiny_folders", "tiny_llama", "tiny_model"}
_MODEL_MODULES = frozenset(
    f"tests.{name}"
    for name in (
        *("exact_logits", "fakes.gguf_models", "sentence_models", "tiny_adapters", "tiny_classifiers", "tiny_models"),
        *("tiny_structures", "tiny_vision_models", "zoo", "zoo_models"),
    )
)
_TOKENIZERS = frozenset({"bpe_tokenizer", "sentencepiece_tokenizer", "unigram_tokenizer"})
_SERVER_MODULES = frozenset(
    f"tests.fakes.{name}" for name in ("dialect_servers", "http_server", "real_servers", "scripted_server")
)
_SERVER_FIXTURES = frozenset({"client", "echoed", "serve", "served", "server"})


def share_cores() -> None:
    """Leave each process of the suite its share of the cores, and the processes that it starts.

    Threads that wait for each other lose whenever another process takes a core from one of them.
    """
    if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
        share = max(1, (os.cpu_count() or 1) // workers)
        os.environ.setdefault("CPU_LIMIT", str(share))
        os.environ.setdefault("OMP_NUM_THREADS", str(share))


def arrange(items: list[pytest.Item]) -> None:
    """Mark each test with what it needs and with its group, and order them."""
    for item in items:
        for need in _needs(item):
            item.add_marker(need)
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=_turn)


def _needs(item: pytest.Item) -> list[str]:
    """Markers that follow from what a test uses, so that nobody forgets one."""
    fixtures = set(getattr(item, "fixturenames", ()))
    provider = _conforming_provider(item)
    needs = {
        "browser": _is_below(item.path, _BROWSER),
        "kernel": item.path.suffix == ".ipynb",
        "model": provider != "inline::echo" if provider else _computes_with_a_model(item, fixtures),
        "ray": "ray_start" in fixtures or provider == "inline::ray",
        "real_model": bool(fixtures & _REAL_MODEL_FIXTURES) or item.path.suffix == ".ipynb",
        "server": provider.startswith("remote::") if provider else _speaks_to_server(item, fixtures),
    }
    return [name for name, needed in needs.items() if needed]


def _computes_with_a_model(item: pytest.Item, fixtures: set[str]) -> bool:
    """Whether a test, or another of its module, makes a small random model or loads an embedded one."""
    return bool(fixtures & _MODEL_FIXTURES) or (isinstance(item, pytest.Function) and _makes_models(item.module))


def _speaks_to_server(item: pytest.Item, fixtures: set[str]) -> bool:
    return bool(fixtures & _SERVER_FIXTURES) or (isinstance(item, pytest.Function) and _asks_servers(item.module))


@cache
def _makes_models(module: ModuleType) -> bool:
    named = _named_in(module)
    if any(".modeling_" in origin for origin, _ in named):  # a model of transformers
        return True
    return bool({name for origin, name in named if origin in _MODEL_MODULES} - _TOKENIZERS)


@cache
def _asks_servers(module: ModuleType) -> bool:
    return any(origin in _SERVER_MODULES for origin, _ in _named_in(module))


def _named_in(module: ModuleType) -> frozenset[tuple[str, str]]:
    """Return module and name of the functions and classes that a test's module names, imported ones too."""
    values = [value for value in vars(module).values() if hasattr(value, "__module__") and hasattr(value, "__name__")]
    return frozenset((value.__module__, value.__name__) for value in values if isinstance(value.__module__, str))


def _conforming_provider(item: pytest.Item) -> str:
    """The provider type that a conformance test is about."""
    if not _is_below(item.path, _CONFORMANCE):
        return ""
    return str(_parameters(item).get("served", ""))


@cache
def _is_below(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder)


def _parameters(item: pytest.Item) -> dict[str, object]:
    callspec = getattr(item, "callspec", None)
    return callspec.params if callspec is not None else {}


def _lesson(item: pytest.Item) -> str:
    """The lesson that a test runs or plays."""
    if item.path.suffix == ".ipynb":
        return item.path.stem
    lesson = _parameters(item).get("lesson")
    return lesson.stem if isinstance(lesson, Path) and _is_below(item.path, _LESSON_CHECKS) else ""


def _group(item: pytest.Item) -> str:
    if lesson := _lesson(item):
        return f"lesson {lesson}"  # it is played from what is recorded while it runs
    for shared in ("ray", "browser"):
        if item.get_closest_marker(shared):
            return shared
    if provider := _conforming_provider(item):
        return f"conformance of {provider}"
    return item.path.relative_to(TESTS.parent).as_posix()


def _turn(item: pytest.Item) -> tuple[int, bool]:
    order = ("ray", "browser", "real_model", "kernel", "server")
    place = next((index for index, need in enumerate(order) if item.get_closest_marker(need)), len(order))
    if _lesson(item):
        place = order.index("real_model")
    return place, bool(_lesson(item)) and item.path.suffix != ".ipynb"
