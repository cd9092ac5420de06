"""The grammar of an answer that has to be a call: one to `MAX_CALLS` of the tools, with arguments that fit.

Arguments follow the rules of every other answer in JSON (`workbench.schemas`), as JSON or as Python writes them. Parts
that a schema leaves open are bounded here, so that a sampled model comes to an end. There is no free white space.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from workbench.prompts.tools.call_syntax import CallSyntax
from workbench.prompts.tools.definitions import ARGUMENT, Toolset
from workbench.prompts.tools.syntaxes import SYNTAXES, ToolSyntax
from workbench.schemas.grammars import Body, Leaf, Many, Rules, Text
from workbench.schemas.rules import ENDING, Writer
from workbench.schemas.schema import JsonSchema

MAX_CALLS = 8


def required_call(
    tools: Toolset, syntax: ToolSyntax, special_ids: Mapping[str, int] | None = None, *, parallel: bool = True
) -> str:
    """Return a Lark grammar of at least one call, whose first rule is ``start``.

    Args:
        special_ids: ids of the tokenizer's special tokens by their text; a tag that is one is written by that token.
        parallel: whether more calls may follow the first.
    """
    form, ids = SYNTAXES[syntax], special_ids or {}
    rules = Rules()
    writer = Writer(rules, ENDING, python=form.python)
    tags = {tag: Leaf(f"<[{ids[tag]}]>") for tag in form.tags if tag and tag in ids}
    call = rules.of(_call(writer, form, name, schema, tags) for name, schema in tools.read.items())
    separator, end = (", ", (Text("]"),)) if form.list_head else ("\n", ())
    following = Many((Text(separator), call), 0, MAX_CALLS - 1 if parallel else 0)
    grammar = rules.lark((*_symbols(form.list_head, tags), call, following, *end))
    assert grammar is not None, "some arguments fit each schema that was read"
    return grammar


def _call(writer: Writer, form: CallSyntax, name: str, schema: JsonSchema, tags: Mapping[str, Leaf]) -> Body:
    normaliser = schema.normaliser()
    arguments = writer.keywords(normaliser, ARGUMENT.fullmatch) if form.python else writer.value(normaliser)
    return *_symbols(form.head(name), tags), arguments, *_symbols(form.tail, tags)


def _symbols(text: str, tags: Mapping[str, Leaf]) -> Body:
    """Return the text as symbols, with the tags that are control tokens as those."""
    pattern = "|".join(map(re.escape, tags)) or "(?!)"
    return tuple(tags.get(part, Text(part)) for part in re.split(f"({pattern})", text) if part)
