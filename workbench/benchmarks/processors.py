"""Smaller processors than this machine's, to which the measured programs are held.

A program picks its instruction sets when it starts, by what the processor reports; each library has an environment
variable that makes it see less. The variables have to be there before the library is imported, so contestants are
measured in processes that start with them. A library may lack such a variable, or ignore it, so each contestant also
says which set it uses (`contestants.Entrant`), and one that uses more is not compared.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

from workbench.errors import InvalidRequestError
from workbench.machine import is_x86, processor_features

RECIPES = {
    "avx2": {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx2,+fma,+f16c,+bmi,+bmi2,+sse4.2",
        "ATEN_CPU_CAPABILITY": "avx2",  # torch's own loops
        "ONEDNN_MAX_CPU_ISA": "AVX2",  # the copies of oneDNN in torch and in OpenVINO
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",  # torch's float32 matrix products
        "OV_CPU_MAX_ISA": "AVX2",  # OpenVINO's own kernels
    }
}
"""Environment variables by processor."""

_INSTRUCTION_SETS = ("", "avx2", "avx512", "amx")
"""Names of instruction sets, each of which includes those before it."""


def check_processor(name: str) -> None:
    """Raise InvalidRequestError unless this machine can act as the processor ``name``."""
    if name not in RECIPES:
        raise InvalidRequestError("--processor", name, f"one of {', '.join(RECIPES)}")
    if not is_x86():
        allowed = f"left out on this machine ({platform.machine()}): {name} is a set of instructions of x86 processors"
        raise InvalidRequestError("--processor", name, allowed)
    known = processor_features()  # empty where the system does not report them
    if known and name not in known:
        raise InvalidRequestError("--processor", name, "left out on this machine, whose processor does not have it")


@contextmanager
def held_to(name: str | None) -> Iterator[None]:
    """Make processes that start in this context use no more than the processor ``name`` has; do nothing for None."""
    recipe = RECIPES[name] if name else {}
    before = {variable: os.environ.get(variable) for variable in recipe}
    os.environ.update(recipe)
    try:
        yield
    finally:
        for variable, value in before.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value


def exceeds(instruction_set: str, processor: str | None) -> bool:
    """Return whether a program that uses ``instruction_set`` uses more than ``processor`` has."""
    if processor is None:
        return False
    return _INSTRUCTION_SETS.index(instruction_set) > _INSTRUCTION_SETS.index(processor)


def widest(names: str) -> str:
    """Return the largest instruction set that a text names, in any case and form (``AVX512``, ``+avx512f``)."""
    lower = names.lower()
    return next((name for name in reversed(_INSTRUCTION_SETS) if name in lower), "")
