"""What tests of many folders share; fixtures of one folder stand in its own conftest."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.budget import budget
from tests.grouping import arrange, share_cores

if TYPE_CHECKING:
    from tests.fakes.ray_starts import Start
    from tests.fakes.serving import FakeModels
    from workbench.engine.scheduler import Engine

# Set before anything imports the workbench, so that kernels and processes that tests start see the same: no hub, no
# registrations or run config of the user. The cache stays the user's: a model that is there is not pulled again.
share_cores()
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A suite that was started in the background ignores Ctrl+C, and so would each process that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["HF_HUB_OFFLINE"] = "1"
STATE = Path(tempfile.mkdtemp(prefix="workbench-state-"))
os.environ["WORKBENCH_STATE"] = str(STATE)
os.environ.pop("WORKBENCH_CONFIG", None)
os.environ.pop("WORKBENCH_DEVICE", None)

# A busy machine makes any example slow: what a test may take in all is bounded by its timeout alone.
hypothesis.settings.register_profile("suite", deadline=None, max_examples=budget(100))
hypothesis.settings.load_profile("suite")

LESSON_TRACES = Path(tempfile.mkdtemp(prefix="workbench-traces-"))


gc.disable()  # until all tests are collected, which makes a million objects and leaves none of them


def pytest_collection_finish() -> None:
    gc.set_threshold(10_000, 20, 20)
    gc.enable()


@pytest.fixture(autouse=True, scope="module")
def quick_garbage_collections() -> None:
    """Spare the collections that tests request, which are hundreds, whatever the tests before have imported."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    allowed = "cpu, torch:cpu or a device of torch such as cuda"
    parser.addoption("--device", default="cpu", help=f"device that computes the models of the engine's laws: {allowed}")


@pytest.hookimpl(tryfirst=True)  # groups are read by the hook of pytest-xdist
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    arrange(items)


def traces_of(lesson: Path) -> Path:
    """Where the calls of a lesson are recorded; the folder is there once the lesson has been run."""
    return LESSON_TRACES / lesson.stem


class _Recording:
    """Records lessons that nbval runs; a plugin of its own, for the hooks of this file see only tests below it."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """The kernel of a lesson takes over the environment as it is when its first cell runs."""
        if item.path.suffix == ".ipynb":
            os.environ["WORKBENCH_RECORD"] = str(traces_of(item.path))
        else:
            os.environ.pop("WORKBENCH_RECORD", None)


def pytest_configure(config: pytest.Config) -> None:
    os.environ["WORKBENCH_PROGRESS"] = "0"  # a bar that shows on a slow machine is in no stored output
    config.pluginmanager.register(_Recording())


def pytest_unconfigure() -> None:
    for folder in (LESSON_TRACES, STATE):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The embedded chat model's folder in Hugging Face layout."""
    from workbench import catalog

    return catalog.local_path("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    """The embedded sentence model's folder in Hugging Face layout."""
    from workbench import catalog

    return catalog.local_path("all-minilm-l6-v2")


@pytest.fixture(autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What one test registers, no other finds; the folder does not exist before something is kept."""
    folder = tmp_path_factory.getbasetemp() / "state" / uuid.uuid4().hex
    monkeypatch.setenv("WORKBENCH_STATE", str(folder))
    return folder


# Engine fixtures (a small random model, a loaded real one) go below this line.


@pytest.fixture
def fake_models(monkeypatch: pytest.MonkeyPatch) -> FakeModels:
    """Offer models without weights to the local provider."""
    from tests.fakes.serving import FakeModels

    return FakeModels(monkeypatch)


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> str:
    """The device of ``--device``."""
    chosen: str = pytestconfig.getoption("--device")
    return chosen


@pytest.fixture(scope="session")
def smollm2_engine(smollm2_path: Path, device: str) -> Iterator[Engine]:
    """The embedded chat model in float32, loaded once for all tests; prefixes are not kept, so runs are cold."""
    from workbench.engine.loading import load
    from workbench.engine.scheduler import Engine

    engine = Engine(load(smollm2_path, precision="float32", device=device), prefix_cache_bytes=0)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def ray_start() -> Iterator[Start]:
    """How the cluster of these tests was started: at a second attempt, for the law of the first one."""
    from tests.fakes.ray_starts import joined
    from workbench.providers.ray import cluster

    yield joined(cpus=8)
    cluster.leave()


@pytest.fixture(scope="session")
def ray_cluster(ray_start: Start) -> None:
    """A Ray cluster on this machine for as long as the tests run: starting one takes half a minute."""
