"""``workbench models list --found``: the models that other programs have downloaded."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections.abc import Iterator, Sequence
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
        for line in _commands(models):
            print(line)
    else:
        print("No models of Ollama, LM Studio, Hugging Face or llama.cpp were found on this machine.")
    return 0


def _commands(models: Sequence[FoundModel]) -> Iterator[str]:
    """Return lines with the commands that serve Ollama's models, whose names do not say where their files are."""
    named = [model for model in models if model.place == "Ollama" and model.servable]
    if named:
        yield "\nServe a model by its name, and one of Ollama's by its file:"
    for model in named:
        yield f"  workbench models register {shlex.quote(model.name.rpartition('/')[2])} {shlex.quote(model.path)}"


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
