"""Detection of the token that ends the assistant's turn in a model's chat template."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from workbench import prompts
from workbench._version import __version__
from workbench.errors import WorkbenchError
from workbench.paths import contents_hash, write_whole
from workbench.protocol import CompletionMessage, StopReason, UserMessage

if TYPE_CHECKING:
    from workbench.prompts.encoding import PromptEncoder
    from workbench.text_tokenizer import TextTokenizer

_ANSWER = "seven"


def cached_turn_ends(encoder: PromptEncoder, tokenizer: TextTokenizer, cache_folder: Path) -> frozenset[int]:
    """Return `turn_ends`, from a file if this template was rendered before: its process takes a while to start.

    Args:
        tokenizer: the tokenizer of the encoder.
        cache_folder: folder of the files, one for each template; created if necessary.
    """
    if encoder.template is None:
        return frozenset()
    rendered = (encoder.template.sources, dict(tokenizer.special_tokens_map), dict(encoder.special_ids))
    key = hashlib.sha256(repr((rendered, __version__, _sources())).encode()).hexdigest()
    path = cache_folder / f"turn-ends-{key}.json"
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, list) and all(type(one) is int for one in found):
            return frozenset(found)
    ends = turn_ends(encoder)
    with suppress(OSError):  # they are then detected again by the next process
        write_whole(path, json.dumps(sorted(ends)))
    return ends


def turn_ends(encoder: PromptEncoder) -> frozenset[int]:
    """Return the control token that the template writes directly after an assistant's message; empty without one.

    Some configs name another end than the template writes; answers would continue with turns that the model makes up.
    """
    if encoder.template is None:
        return frozenset()
    answer = CompletionMessage(content=_ANSWER, stop_reason=StopReason.end_of_turn, tool_calls=[])
    try:
        prompt = encoder.chat_prompt([UserMessage(content="Hi"), answer, UserMessage(content="Bye")])
    except WorkbenchError:  # a template that fails; chats raise its error
        return frozenset()
    _, is_found, after = prompt.text.rpartition(_ANSWER)
    named = [text for text in encoder.special_ids if is_found and text and after.lstrip().startswith(text)]
    return frozenset([encoder.special_ids[max(named, key=len)]]) if named else frozenset()


@cache
def _sources() -> str:
    """Return a hash of the code that renders templates."""
    return contents_hash(path for folder in prompts.__path__ for path in Path(folder).rglob("*.py"))
