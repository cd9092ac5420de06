"""Say so before pip downloads the CUDA build of torch, which is gigabytes larger than the CPU build.

``make`` runs this in a new virtual environment, with its arguments for pip: it needs nothing but pip, which reads only
the index and torch's metadata here. If that fails, nothing is said: the installation reports why.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
NOTICE = f"""\
pip's index has the CUDA build of torch: several gigabytes, which only a GPU uses.
To download the CPU build instead (200 MB), stop this with Ctrl+C, and run the same target with PyTorch's own index:
  make play PIP_ARGS="--extra-index-url {CPU_INDEX}"
"""
_CUDA = ("cuda-", "nvidia-")


def requirements_of_torch(pip_arguments: Sequence[str]) -> list[str]:
    """Return what the torch that pip would install here requires; nothing if pip finds none or cannot tell."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-", "--no-deps"]
    command += ["--ignore-installed", "--disable-pip-version-check", "--no-input", *pip_arguments, "torch"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    try:
        (item,) = json.loads(done.stdout)["install"]
        requirements: list[str] = item["metadata"].get("requires_dist", [])
    except (ValueError, LookupError):
        return []
    return requirements


def main(pip_arguments: Sequence[str]) -> None:
    if sys.platform != "linux" or importlib.util.find_spec("torch") is not None:
        return  # elsewhere, the builds on the usual index need no CUDA
    if any(requirement.startswith(_CUDA) for requirement in requirements_of_torch(pip_arguments)):
        sys.stderr.write(NOTICE)


if __name__ == "__main__":
    main(sys.argv[1:])
