"""Fit the Jacobian lens of an embedded model to text of this project and text that the model writes.

    .venv/bin/python -m scripts.fit_lens --minutes 60              # as many of the texts as an hour allows
    .venv/bin/python -m scripts.fit_lens --resume --minutes 60     # go on, also after an interruption
    .venv/bin/python -m scripts.fit_lens --texts 4 --write         # fit, and store the lens in the package

A text of 128 tokens takes one to four minutes of two cores. Texts and sums are kept in build/lens, where ``--resume``
finds them; the lens is written beside them, or into the package, with the checksum to put into
``workbench/catalog/lenses.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import workbench as wb
from workbench import catalog
from workbench.catalog.lenses import LENSES
from workbench.engine.insides.jacobian_lens import LensFacts
from workbench.engine.insides.lens_fitting import SKIPPED, FitProgress, fit_lens, load_differentiable
from workbench.engine.transformers_loading import load_tokenizer

ROOT = Path(__file__).parents[1]
STATE = ROOT / "build" / "lens"
SEED = 21

TOPICS = (
    "a garden", "the moon", "learning to swim", "an old clock", "honey bees", "a train journey", "rivers", "a bakery",
    "music at school", "volcanoes", "a lost letter", "bicycles", "the sea in winter", "vaccines",
    "a good night's sleep", "bridges", "the history of paper", "a small shop", "planets", "baking bread", "maps",
    "a football team", "whales", "how magnets work", "a birthday", "electric cars", "trees in a city",
    "the first computers", "a mountain village", "saving money", "dinosaurs", "a violin", "the human heart",
    "a storm", "chess", "libraries", "rice", "a new neighbor",
)  # fmt: skip
REQUESTS = (
    "Tell me about {}.", "Write a short story about {}.", "List five facts about {}.", "Explain {} to a child.",
    "Write a Python program about {}.", "Write a letter to a friend about {}.", "What should I know about {}?",
    "Give me step-by-step advice about {}.",
)  # fmt: skip
OPENINGS = (
    "A report on {}:\n\n", "Yesterday she told us about {}.", "# Notes on {}\n\n",
    "Question: what is special about {}?", "In this chapter we turn to {},", "The newspaper wrote about {} that",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct", help="catalog name")
    parser.add_argument("--texts", type=int, default=64, help="number of texts")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each text")
    parser.add_argument("--minutes", type=float, help="time after which no other text is begun")
    parser.add_argument("--resume", action="store_true", help="go on from the sums in build/lens")
    parser.add_argument("--bf16", action="store_true", help="round the factors of backward products to bf16")
    parser.add_argument("--write", action="store_true", help="store the lens in the package")
    args = parser.parse_args()
    folder = catalog.local_path(args.model)
    state, texts = STATE / f"{args.model}.state.safetensors", STATE / f"{args.model}.texts.json"
    if not args.resume:
        state.unlink(missing_ok=True)
        texts.unlink(missing_ok=True)
    if not texts.exists():
        texts.parent.mkdir(parents=True, exist_ok=True)
        texts.write_text(json.dumps(list(fitting_texts(args.model, args.texts, args.tokens))))
    lens = fit_lens(
        load_differentiable(folder),
        json.loads(texts.read_text()),
        LensFacts(args.model, catalog.weights_digest(folder)),
        state=state,
        products="bf16" if args.bf16 else "float32",
        seconds=None if args.minutes is None else 60 * args.minutes,
        progress=print_progress,
    )
    fitted = STATE / f"{args.model}.safetensors"
    lens.save(fitted)
    facts = lens.facts
    print(f"{facts.texts} texts, {facts.positions} positions, {facts.seconds:.0f} s")
    print(f"{fitted}: {fitted.stat().st_size:,} bytes, SHA-256 {hashlib.sha256(fitted.read_bytes()).hexdigest()}")
    if args.write:
        shutil.copyfile(fitted, LENSES / fitted.name)


def print_progress(progress: FitProgress) -> None:
    each = progress.seconds / progress.texts_done
    done = f"{progress.texts_done} of {progress.texts} texts in {progress.seconds:.0f} s, {each:.0f} s each"
    print(f"{done}; {progress.remaining_s:.0f} s left", flush=True)


def fitting_texts(model: str, count: int, tokens: int) -> Iterator[list[int]]:
    """Yield the token ids of texts: of each four, two are answers in a chat, one is a completion, one is prose."""
    chosen = random.Random(SEED)  # noqa: S311 - for variety, not for secrecy
    requests, openings = ([form.format(topic) for form in forms for topic in TOPICS] for forms in (REQUESTS, OPENINGS))
    passages = project_passages(model, tokens)
    for some in (requests, openings, passages):
        chosen.shuffle(some)
    with wb.Workbench() as bench:
        started: list[wb.Run[Any, Any] | None] = []
        for index in range(count):
            params = wb.SamplingParams(
                strategy=wb.SamplingStrategy.top_p, temperature=0.9, top_p=0.95, seed=index, max_tokens=tokens
            )
            if index % 4 < 2:
                question = wb.UserMessage(content=requests[index % len(requests)])
                started.append(bench.chat_completion([question], model=model, sampling_params=params))
            elif index % 4 == 2:
                opening = openings[index // 4 % len(openings)]
                started.append(bench.completion(opening, model=model, sampling_params=params))
            else:
                started.append(None)
        for index, run in enumerate(started):
            written = passages[index // 4 % len(passages)] if run is None else written_ids(run)[:tokens]
            if len(written) > 2 * SKIPPED:
                yield written


def written_ids(run: wb.Run[Any, Any]) -> list[int]:
    """Return the token ids of a prompt and its answer."""
    run.result()
    return [*(run.capsule.prompt_ids or ()), *run.capsule.token_ids]


def project_passages(model: str, tokens: int) -> list[list[int]]:
    """Return the token ids of passages of the readme, the documentation, the prose of lessons and labelled messages."""
    tokenizer = load_tokenizer(catalog.local_path(model))
    texts = [re.sub(r"<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL) for path in prose_files()]
    for lesson in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
        texts.append("\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"))
    passages = []
    for text in texts:
        ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        passages += [ids[start : start + tokens] for start in range(0, len(ids) - tokens + 1, tokens)]
    return passages


def prose_files() -> list[Path]:
    own = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "tests/laws/harmless_answers.txt")]
    return [*own, *sorted((ROOT / "docs").glob("*.md"))]


if __name__ == "__main__":
    main()
