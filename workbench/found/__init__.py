"""Models that are on this machine already: those of Ollama, LM Studio, Hugging Face and llama.cpp, and of the user.

Only known places are searched, only headers are read, and nothing is stored: `places` has the folders, `searching`
finds files and folders by their names, `describing` reads them. Importing this package loads neither torch nor
transformers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path

from workbench.found.describing import describe
from workbench.found.places import Place, known_places
from workbench.found.searching import Candidate, candidates
from workbench.machine import thread_count
from workbench.records import FoundModel

__all__ = ["Place", "find_models", "known_places", "ollama_file"]


def find_models(model_folders: Sequence[str | Path] = ()) -> list[FoundModel]:
    """Return the models in the known places, each file once, in the order of the places and of their names.

    Args:
        model_folders: folders of the user to search as well.
    """
    named: dict[tuple[int, int] | Path, list[Candidate]] = {}
    for candidate in chain.from_iterable(map(candidates, known_places(model_folders))):
        if (identity := _identity(candidate.path)) is not None:
            named.setdefault(identity, []).append(candidate)
    with ThreadPoolExecutor(max(1, min(thread_count(), len(named)))) as pool:
        described = pool.map(describe, [first for first, *_ in named.values()])
    return [
        replace(model, aliases=tuple(dict.fromkeys(other.name for other in others if other.name != model.name)))
        for model, (_, *others) in zip(described, named.values(), strict=True)
        if model is not None
    ]


def ollama_file(name: str) -> Path | None:
    """Return the file of a model by its name in Ollama, such as ``llama3.2:1b``; None if Ollama has none here."""
    places = (place for place in known_places() if place.layout == "ollama")
    found = (each.path for place in places for each in candidates(place) if each.name == name)
    return next(found, None)


def _identity(path: Path) -> tuple[int, int] | Path | None:
    """Return what all names of one file have in common, hard links too; None if the file has gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status.st_ino else Path(os.path.realpath(path))
