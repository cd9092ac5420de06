"""The end tokens of a model, from all its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.engine.model_folder import GENERATION, read_json

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from workbench.text_tokenizer import TextTokenizer


def eos_ids(folder: Path, config: PreTrainedConfig, tokenizer: TextTokenizer, vocab_size: int) -> frozenset[int]:
    """Return the end tokens of all files together: without one of them, an answer would run on into invented turns.

    Ids outside the vocabulary, which some configs have from another model, are dropped.
    """
    path = folder / GENERATION
    generation: Any = read_json(path).get("eos_token_id") if path.exists() else None
    named = (generation, config.get_text_config(decoder=True).eos_token_id, tokenizer.eos_token_id)
    found = {
        one for source in named if source is not None for one in (source if isinstance(source, list) else [source])
    }
    return frozenset(one for one in found if 0 <= one < vocab_size)
