"""Conversion of an error of the engine to the error that its caller gets, and its message in one line."""

from __future__ import annotations

import traceback

import torch

from workbench.errors import GenerationError, OutOfMemoryError


def error_for_caller(error: BaseException, model_name: str) -> BaseException:
    """Return a typed error that has the traceback as a note, and references no frame of the engine's thread."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return OutOfMemoryError(f"out of memory in a step of {model_name}: shorten the prompt or close a model")
    traceback_text = "On the inference thread:\n" + "".join(traceback.format_tb(error.__traceback__))
    if not isinstance(error, Exception):  # SystemExit, for one, would end the caller's event loop
        error = GenerationError(f"{model_name} raised {type(error).__name__} in a step: {error}")
    error.add_note(traceback_text)
    # Frames would keep the failed step's tensors alive as long as the error.
    chain: BaseException | None = error
    while chain is not None:
        chain.__traceback__ = None
        chain = chain.__cause__ or chain.__context__
    return error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, with the second after a colon, or its type if it has none."""
    first, _, rest = str(error).strip().partition("\n")
    second = rest.strip().partition("\n")[0]
    return (f"{first} {second}" if first.endswith(":") and second else first) or type(error).__name__
