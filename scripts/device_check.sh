#!/usr/bin/env bash
# Check the decoder of devices on a GPU, and measure it beside transformers: scripts/device_check.sh [--device NAME]
#
# NAME is a device of torch such as cuda (the default), cuda:1, mps or xpu. Without a GPU, torch:cpu (or cpu, for short)
# tries the script itself, with few tokens and a part of the laws. Needs no network: the packages of constraints.txt and
# a build of torch for the device must be installed, and the embedded model must be in $WORKBENCH_CACHE. Takes less than
# 8 minutes on a GPU.
#
# PYTHON   the interpreter with these packages (default: .venv/bin/python)
# OUT      folder for the results (default: build/device_check)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-.venv/bin/python} OUT=${OUT:-build/device_check}
export PYTHONPATH=$PWD HF_HUB_OFFLINE=1

device=cuda
while [ $# -gt 0 ]; do
  case $1 in
    --device) device=$2 && shift 2 ;;
    *) echo "usage: scripts/device_check.sh [--device NAME]" >&2 && exit 2 ;;
  esac
done
[ "$device" != cpu ] || device=torch:cpu
mkdir -p "$OUT"

laws=(
  "tests/laws/test_smollm2_on_device.py"
  "tests/unit/engine/on_device"
)
limit=1200 # seconds of each half
if [ "$device" = torch:cpu ]; then
  export FEWER_INPUTS=1
else
  limit=230
  laws+=(
    "tests/laws/test_smollm2.py::test_greedy_ids_equal_transformers_generate"
    "tests/laws/test_smollm2.py::test_logprobs_equal_an_independent_full_forward"
    "tests/laws/test_smollm2.py::test_requests_together_equal_requests_alone"
    "tests/laws/test_smollm2_branching.py::test_in_float32_a_cold_branch_is_the_run_token_by_token"
    tests/unit/engine/test_kv_cache.py tests/unit/engine/test_scoring.py tests/unit/engine/test_inspection.py
    tests/unit/engine/test_branching.py
  )
fi

status=0
echo "== measurements"
timeout $limit "$PYTHON" -m scripts.device_check --device "$device" | tee "$OUT/measurements.md" || status=1

echo "== laws"
timeout $limit "$PYTHON" -m pytest -q -p no:cacheprovider --device "$device" --junitxml "$OUT/laws.xml" "${laws[@]}" |
  tee "$OUT/laws.txt" || status=1
exit $status
