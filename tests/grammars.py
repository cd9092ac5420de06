"""Grammars drawn for laws: JSON schemas and regular expressions whose texts come to an end."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]

NAMES = st.sampled_from(["a", "name", "b c", "größe", "<|im_end|>", 'q"uote', "x\\y", "年"])

SCALARS: st.SearchStrategy[Schema] = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(
        lambda low, span: {"type": "integer", "minimum": low, "maximum": low + span},
        st.integers(-200, 200),
        st.integers(0, 1000),
    ),
    st.builds(
        lambda low, span: {"type": "number", "minimum": low, "maximum": low + span},
        st.integers(-20, 20),
        st.integers(1, 100),
    ),
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        st.integers(0, 3),
        st.integers(0, 5),
    ),
    st.just({"type": "string", "pattern": "^[a-c]{2,4}$"}),
    st.just({"type": "string", "format": "date"}),
    st.lists(
        st.one_of(st.text(max_size=4), st.integers(-9, 9), st.booleans(), st.none()),
        min_size=1,
        max_size=4,
        unique=True,
    ).map(lambda values: {"enum": values}),
    st.one_of(st.text(max_size=6), st.integers(), st.just("<|im_start|>user")).map(lambda value: {"const": value}),
)


def _objects(parts: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    def build(properties: dict[str, Schema], needed: list[bool]) -> Schema:
        required = [name for name, is_needed in zip(properties, needed, strict=False) if is_needed]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    return st.builds(build, st.dictionaries(NAMES, parts, max_size=3), st.lists(st.booleans(), min_size=3, max_size=3))


def _arrays(parts: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.builds(
        lambda items, low, more: {"type": "array", "items": items, "minItems": low, "maxItems": low + more},
        parts,
        st.integers(0, 1),
        st.integers(0, 2),
    )


def _choices(parts: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.lists(parts, min_size=1, max_size=3).map(lambda schemas: {"anyOf": schemas})


SCHEMAS: st.SearchStrategy[Schema] = st.recursive(
    SCALARS, lambda parts: st.one_of(_objects(parts), _arrays(parts), _choices(parts)), max_leaves=5
)
"""JSON schemas of all the kinds that nest, each with finitely long values."""

REGEXES: st.SearchStrategy[str] = st.recursive(
    st.sampled_from(["a", "b", "xyz", "[0-9]", r"[^ \n]", ".", "é", "😀", "[^a]", r"\.", r"[ \t]", "(?i:k)", ""]),
    lambda parts: st.one_of(
        st.lists(parts, min_size=2, max_size=3).map("".join),
        st.lists(parts, min_size=2, max_size=3).map(lambda choices: f"(?:{'|'.join(choices)})"),
        st.builds(lambda part, times: f"(?:{part}){times}", parts, st.sampled_from(["?", "{2}", "{0,3}", "{1,2}"])),
    ),
    max_leaves=6,
).filter(bool)
"""Regular expressions that mean the same to Python as to Rust, with finitely long matches.

Not ``\\s``: Python counts the separators from U+001C to U+001F as white space, Unicode does not.
"""
