"""Compare our results with those of transformers for every causal architecture, as a small random model.

python -m scripts.zoo             all of them
python -m scripts.zoo mamba bert  some of them
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import transformers

from tests.zoo import check, kinds


def main() -> None:
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    counts: Counter[str] = Counter()
    began = time.perf_counter()
    for kind in sys.argv[1:] or kinds():
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            found = check(kind, Path(folder))
        counts[found.verdict] += 1
        print(f"{found.verdict:10} {kind:24} {time.perf_counter() - start:5.1f} s  {found.why}", flush=True)
    print(
        ", ".join(f"{count} {verdict}" for verdict, count in counts.items()), f"in {time.perf_counter() - began:.0f} s"
    )
    sys.exit(counts["wrong"] + counts["untyped"] > 0)


if __name__ == "__main__":
    main()
