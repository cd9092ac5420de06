"""Regular expressions of schemas, matched by an automaton in linear time, unlike by ``re``.

A pattern is searched for in the text, as in JSON schema, unless it is anchored. For texts that are written without
escapes, such as names in a grammar, `whole` returns an expression that matches the whole text.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

_MAX_CACHED = 256
"""Number of patterns that are cached."""

_ANCHORED = re.compile(r"(\^?)((?:[^\\^$|()\[\]]|\\.|\[\^?\]?(?:[^\\\]]|\\.)*\]|\((?!\?[^:])|\)|\|)*)(\$?)", re.DOTALL)
"""A pattern without anchors except at its start and its end; `_has_choice` checks the groups."""

_ASCII = {"d": "0-9", "w": "A-Za-z0-9_", "s": r" \t\n\r\f\v"}
_CLASS = re.compile(r"\[\^?\]?(?:[^\\\]]|\\.)*\]|\\.", re.DOTALL)


@lru_cache(_MAX_CACHED)
def fault(pattern: str) -> str:
    """Return why a pattern cannot be enforced; empty if it can."""
    from llguidance import LLMatcher

    return " ".join(str(LLMatcher.validate_grammar(_grammar(pattern))).split())


def matches(pattern: str, text: str) -> bool:
    """Return whether the pattern is found in the text, as in JSON schema."""
    expression = whole(pattern)
    json_text = json.dumps(text, ensure_ascii=False) if expression is None else text
    matcher = _matcher(pattern).deep_copy()
    quoted = list(json_text.encode())
    return bool(matcher.try_consume_tokens(quoted) == len(quoted) and matcher.is_accepting())


@lru_cache(_MAX_CACHED)
def whole(pattern: str) -> str | None:
    """Return the pattern as one that matches a whole text without escapes; None if it has other anchors."""
    found = _ANCHORED.fullmatch(pattern)
    if found is None:
        return None
    begin, body, end = found.groups()
    if (begin or end) and _has_choice(body):
        return None
    anything = "(?s:.*)"
    return f"{'' if begin else anything}(?:{_CLASS.sub(_ascii, body)}){'' if end else anything}"


def _has_choice(body: str) -> bool:
    """Return whether there is a choice outside of all groups; an anchor would then belong to one branch only."""
    depth = 0
    for part in re.findall(r"\\.|\[\^?\]?(?:[^\\\]]|\\.)*\]|[()|]", body, re.DOTALL):
        depth += (part == "(") - (part == ")")
        if part == "|" and not depth:
            return True
    return False


def _ascii(found: re.Match[str]) -> str:
    """Return a character class with ECMAScript's meaning of its escapes."""
    text = found[0]
    if text[0] == "[":
        return re.sub(r"\\([dws])|\\.", lambda one: _ASCII.get(one[1] or "", one[0]), text, flags=re.DOTALL)
    return f"[{_ASCII[text[1]]}]" if text[1] in _ASCII else text


def _grammar(pattern: str) -> str:
    from llguidance import LLMatcher

    return str(LLMatcher.grammar_from_json_schema({"type": "string", "pattern": pattern}))


@lru_cache(_MAX_CACHED)
def _matcher(pattern: str) -> Any:
    from llguidance import LLMatcher

    expression = whole(pattern)
    grammar = _grammar(pattern) if expression is None else LLMatcher.grammar_from_regex(expression)
    return LLMatcher(_byte_tokenizer(), grammar, log_level=0)


@lru_cache(1)
def _byte_tokenizer() -> Any:
    from llguidance import LLTokenizer

    return LLTokenizer("byte")
