#!/usr/bin/env bash
# Run the kernels' tests on an emulated 64-bit ARM processor, on Debian: scripts/arm_check.sh [ARGUMENTS OF PYTEST]
#
# QEMU translates the instructions of an arm64 Python from Debian and of arm64 wheels from pip's index, which this script
# puts into build/arm (3 GB) the first time. The tests take about half an hour there. Needs root for the first step:
#   apt-get install qemu-user-static debootstrap
#
# ARM_CPU    processor that QEMU emulates; `qemu-aarch64-static -cpu help` lists them
# TORCH      its arm64 build on pip's usual index must need no CUDA
# NUMBA_CPU_NAME, NUMBA_CPU_FEATURES  what numba compiles for; under QEMU, LLVM finds the least that every ARM has
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ARM_CPU=${ARM_CPU:-cortex-a76} TORCH=${TORCH:-torch==2.10.0}

ARM=$PWD/build/arm
VERSION=3.11 # Debian's
PACKAGES=(filelock fsspec gguf hypothesis jinja2 jsonschema llguidance lxml nbval networkx numba pillow platformdirs
  protobuf psutil pydantic pytest pytest-asyncio pytest-socket pytest-timeout pytest-xdist pyyaml regex safetensors
  sentencepiece setuptools sympy tokenizers transformers)
TESTS=(tests/unit/engine/test_kernels.py tests/unit/engine/test_panels.py tests/unit/engine/test_bf16_split.py
  tests/unit/engine/test_packed_encoder.py)

install_wheels() { # folder, arguments of pip
  local folder=$1 tag platforms=()
  shift
  for tag in 2014 _2_17 _2_27 _2_28 _2_31; do platforms+=(--platform "manylinux${tag}_aarch64"); done
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --only-binary=:all: --no-compile \
    --python-version "$VERSION" "${platforms[@]}" --target "$folder" "$@"
}

if [ ! -e "$ARM/complete" ]; then
  rm -rf "$ARM"
  mkdir -p "$ARM"
  debootstrap --arch=arm64 --foreign --variant=minbase --include="python$VERSION,libgomp1,libstdc++6" bookworm "$ARM/root"
  for package in "$ARM"/root/var/cache/apt/archives/*.deb; do dpkg --extract "$package" "$ARM/root"; done
  install_wheels "$ARM/packages" --constraint constraints.txt "${PACKAGES[@]}"
  install_wheels "$ARM/torch" --no-deps "$TORCH" # pip would judge its requirements by this machine
  touch "$ARM/complete"
fi

export PYTHONPATH=$PWD:$ARM/packages:$ARM/torch PYTHONDONTWRITEBYTECODE=1 NUMBA_CACHE_DIR=$ARM/compiled
[ $# -gt 0 ] || set -- -q "${TESTS[@]}"
# The tests that start a process of their own are left out: it would not be emulated.
exec qemu-aarch64-static -cpu "$ARM_CPU" -L "$ARM/root" "$ARM/root/usr/bin/python$VERSION" -P -m pytest \
  -p no:cacheprovider --timeout 3600 --deselect tests/unit/engine/test_kernels.py::test_a_second_process_compiles_nothing \
  "$@"
