"""Regular expressions of schemas, by an automaton: no pattern takes more than linear time, as ``re`` would."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any


def fault(pattern: str) -> str:
    """What is wrong with a pattern; empty where it can be enforced and checked."""
    from llguidance import LLMatcher

    return " ".join(str(LLMatcher.validate_grammar(_grammar(pattern))).split())


def matches(pattern: str, text: str) -> bool:
    """Whether the pattern is found in the text, as JSON schema has it."""
    from llguidance import LLMatcher

    matcher = LLMatcher(_byte_tokenizer(), _grammar(pattern), log_level=0)
    quoted = list(json.dumps(text, ensure_ascii=False).encode())
    return bool(matcher.try_consume_tokens(quoted) == len(quoted) and matcher.is_accepting())


def _grammar(pattern: str) -> str:
    from llguidance import LLMatcher

    return str(LLMatcher.grammar_from_json_schema({"type": "string", "pattern": pattern}))


@lru_cache(1)
def _byte_tokenizer() -> Any:
    from llguidance import LLTokenizer

    return LLTokenizer("byte")
