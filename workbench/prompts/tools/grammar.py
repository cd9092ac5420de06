"""The grammar of an answer that has to be a call: one to `MAX_CALLS` of the tools, with arguments that fit.

Arguments are written by the rules of every other answer in JSON (`workbench.schemas`), as JSON or as Python has them.
What a schema leaves open is bounded here, so that a sampled model comes to an end. There is no free white space.
"""

from __future__ import annotations

from collections.abc import Mapping

from workbench.prompts.tools.definitions import ARGUMENT, Toolset
from workbench.prompts.tools.syntaxes import ToolSyntax
from workbench.schemas.grammars import Body, Leaf, Many, Rules, Symbol, Text
from workbench.schemas.rules import ENDING, Writer
from workbench.schemas.schema import JsonSchema

MAX_CALLS = 8


def required_call(
    tools: Toolset, syntax: ToolSyntax, special_ids: Mapping[str, int] | None = None, *, parallel: bool = True
) -> str:
    """A Lark grammar of at least one call, whose first rule is ``start``.

    Args:
        special_ids: ids of the tokenizer's special tokens by their text; a tag that is one is written by that token.
        parallel: whether more calls may follow the first.
    """
    rules = Rules()
    writer = Writer(rules, ENDING, python=syntax is ToolSyntax.python_list)
    tags: dict[str, Symbol] = {text: Leaf(f"<[{token_id}]>") for text, token_id in (special_ids or {}).items()}
    call = rules.of(_call(writer, name, schema, syntax, tags) for name, schema in tools.read.items())
    more = MAX_CALLS - 1 if parallel else 0
    start: Body
    match syntax:
        case ToolSyntax.python_list:
            start = (Text("["), call, Many((Text(", "), call), 0, more), Text("]"))
        case ToolSyntax.mistral:
            tag = tags.get("[TOOL_CALLS]", Text("[TOOL_CALLS]"))
            start = (tag, Text(" ["), call, Many((Text(", "), call), 0, more), Text("]"))
        case _:
            start = (call, Many((Text("\n"), call), 0, more))
    grammar = rules.lark(start)
    assert grammar is not None, "some arguments fit each schema that was read"
    return grammar


def _call(writer: Writer, name: str, schema: JsonSchema, syntax: ToolSyntax, tags: Mapping[str, Symbol]) -> Body:
    """A call of one tool."""
    normaliser = schema.normaliser()
    if syntax is ToolSyntax.python_list:
        return Text(f"{name}("), writer.keywords(normaliser, ARGUMENT.fullmatch), Text(")")
    arguments = writer.value(normaliser)
    match syntax:
        case ToolSyntax.function_tag:
            return Text(f"<function={name}>"), arguments, Text("</function>")
        case ToolSyntax.json:
            return Text(f'{{"type": "function", "name": "{name}", "parameters": '), arguments, Text("}")
    named: Body = (Text(f'{{"name": "{name}", "arguments": '), arguments, Text("}"))
    if syntax is ToolSyntax.mistral:
        return named
    first, last = (tags.get(tag, Text(tag)) for tag in ("<tool_call>", "</tool_call>"))
    return first, Text("\n"), *named, Text("\n"), last
