"""What a caller is told of an error that a step of the engine raised."""

from __future__ import annotations

import traceback

import torch

from workbench.errors import GenerationError, OutOfMemoryError


def told(error: BaseException, model_name: str) -> BaseException:
    """The error as the caller gets it: typed, with the place as text, and holding no frame of the engine's thread."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return OutOfMemoryError(f"out of memory in a step of {model_name}: shorten the prompt or close a model")
    place = "On the inference thread:\n" + "".join(traceback.format_tb(error.__traceback__))
    if not isinstance(error, Exception):  # SystemExit and its like would end the caller's event loop
        error = GenerationError(f"{model_name} raised {type(error).__name__} in a step: {error}")
    error.add_note(place)
    # Frames would keep tensors of the failed step alive for as long as the caller keeps the error.
    chain: BaseException | None = error
    while chain is not None:
        chain.__traceback__ = None
        chain = chain.__cause__ or chain.__context__
    return error
