"""``workbench models list --found``: the models that other programs have downloaded."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from workbench.commands import output

if TYPE_CHECKING:
    from workbench.records import FoundModel

_HEADER = ("NAME", "PLACE", "ARCHITECTURE", "PARAMS", "PRECISION", "SIZE", "FITS IN MEMORY", "CAN BE SERVED")


def list_found(args: argparse.Namespace) -> int:
    """Print the models on this machine; no provider of the run config is started."""
    from workbench.found import find_models
    from workbench.stack.run_config import load_run_config

    models = find_models(load_run_config(args.config).model_folders)
    if args.json:
        output.print_json([dataclasses.asdict(model) | {"servable": model.servable} for model in models])
    elif models:
        print(output.table(_HEADER, map(_row, models)))
        if any(model.servable for model in models):
            print("\nServe one by its name: workbench models register NAME")
    else:
        print("No models of Ollama, LM Studio, Hugging Face or llama.cpp were found on this machine.")
    return 0


def _row(model: FoundModel) -> tuple[str, ...]:
    return (
        model.name,
        model.place,
        model.architecture or "",
        "" if model.parameters is None else output.human_count(model.parameters),
        model.precision or "",
        output.human_size(model.size_bytes),
        _fit(model),
        "yes" if model.servable else f"no: {output.visible(model.problem)}",
    )


def _fit(model: FoundModel) -> str:
    """Return whether the weights fit, and in which precision if not in the reference or the file's own."""
    if model.memory_bytes is None:
        return ""
    if model.fits_in is None:
        return "no"
    return "yes" if model.fits_in in ("float32", model.precision) else f"in {model.fits_in}"
