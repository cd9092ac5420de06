"""Opening a workbench from ``--model``, ``--precision``, ``--device`` and ``--config``."""

from __future__ import annotations

import argparse
import gc
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import ConfigError, InvalidRequestError, StateError
from workbench.garbage import paused_collections

if TYPE_CHECKING:
    from workbench.session.workbench import Workbench

PRECISIONS = ("float32", "bf16", "fp8", "int8", "int4")
DEFAULT_MODEL = "smollm2-135m-instruct"
PRECISION_HELP = (
    "precision of the weights (default: the run config's; without one, int4 for catalog models, its own for a GGUF"
    " file, and float32, the reference, for all others)"
)
DEVICE_HELP = (
    "auto, cpu, cuda, cuda:N, mps, xpu, or torch:cpu, the reference for devices (default: the run config's; without"
    " one, auto: the first of cuda, mps, xpu and cpu that is there)"
)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--model``, ``--precision``, ``--device`` and ``--config``, which ``open_from`` reads."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="NAME",
        help="catalog name, local folder, GGUF file or hub id, followed by +./adapter for a LoRA adapter;"
        " with a run config, a model that it serves"
        f" (default: the run config's first chat model; without a run config, {DEFAULT_MODEL})",
    )
    group.add_argument("--precision", choices=PRECISIONS, help=PRECISION_HELP)
    add_device_option(group)
    group.add_argument("--config", metavar="FILE", type=Path, help="run config (default: $WORKBENCH_CONFIG)")


def add_device_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", metavar="NAME", help=DEVICE_HELP)


def check_device(name: str | None) -> None:
    """Raise `InvalidRequestError` unless ``--device`` is absent or names a device that is there."""
    if name is not None:
        from workbench.providers.transformers.config import present_device

        present_device(name, "--device")


def open_workbench(config: dict[str, Any] | Path | None, device: str | None = None) -> Workbench:
    """Return a real workbench; tests replace this function."""
    with paused_collections():
        from workbench.session.workbench import Workbench

        bench = Workbench(config=config, device=device)
        gc.freeze()  # what was imported stays, so no later search has to look at it
        return bench


def open_from(args: argparse.Namespace) -> tuple[Workbench, str | None]:
    """Return the workbench of the options, and the model for its calls (None is its first chat model)."""
    if args.model == "":
        raise InvalidRequestError("--model", "", "a model name; `workbench models list` lists those in the catalog")
    if args.precision is not None:
        refuse_with_config("--precision", "quantization", args.config)
    check_device(args.device)
    if args.precision or (args.model and not _is_served(args)):
        return open_workbench(_config_for(args.model or DEFAULT_MODEL, args.precision, args.device)), None
    return open_workbench(args.config, args.device), args.model


def refuse_with_config(option: str, key: str, config: Path | None) -> None:
    """Raise `ConfigError` if there is a run config, which an option cannot change."""
    if found := config or os.environ.get("WORKBENCH_CONFIG"):
        raise ConfigError(f"{option} cannot change the run config {found}: set {key} in it, or use no run config")


def _is_served(args: argparse.Namespace) -> bool:
    """Return whether ``--model`` is a model of the run config; without one, of the catalog or a registered model."""
    from workbench import catalog

    if args.config or os.environ.get("WORKBENCH_CONFIG"):
        return True
    return any(entry.name == args.model for entry in catalog.entries()) or args.model in _registered()


def _registered() -> set[str]:
    """Return the names of registered models, with and without their providers."""
    from workbench.paths import state_dir
    from workbench.stack.models import MODEL
    from workbench.stack.registrations import FILE_NAME, RegistrationStore

    try:
        rows = RegistrationStore(state_dir() / FILE_NAME).rows(MODEL.name)
    except StateError:  # a folder or a hub id needs no registry
        return set()
    return {name for row in rows for name in (row.identifier, f"{row.provider_id}/{row.identifier}")}


def _config_for(model: str, precision: str | None, device: str | None) -> dict[str, Any]:
    """Return a run config with one local model, under an id of its own so that no registered model is served.

    It has the shields of the default run config, and the sentence model that they judge with.
    """
    from workbench.stack.run_config import SENTENCE_MODEL, default_device, default_run_config

    provider: dict[str, Any] = {"models": [model], "device": default_device(device)}
    if precision is not None:
        # In the protocol, float32 is no quantization.
        provider["quantization"] = None if precision == "float32" else {"type": precision}
    return {
        "version": "2",
        "built_at": datetime.now(UTC).isoformat(),
        "image_name": "command-line",
        "providers": {
            "inference": [
                {"provider_id": "asked", "provider_type": "inline::transformers", "config": provider},
                {
                    "provider_id": "sentences",
                    "provider_type": "inline::transformers",
                    "config": {"models": [SENTENCE_MODEL]},
                },
            ],
            "safety": [one.model_dump() for one in default_run_config().providers["safety"]],
        },
    }
