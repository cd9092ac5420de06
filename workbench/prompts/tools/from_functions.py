"""Python functions as tools: definitions from signature and docstring, and calls with a model's arguments."""

from __future__ import annotations

import functools
import inspect
import json
import operator
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import typing_extensions
from pydantic import TypeAdapter

from workbench.errors import InvalidRequestError
from workbench.prompts.tools.definitions import NAME
from workbench.protocol import ToolDefinition, ToolParamDefinition
from workbench.schemas.moving import untitled
from workbench.schemas.schema import JsonSchema

Tool: TypeAlias = ToolDefinition | Callable[..., Any]
"""A definition, or a function that is described by its signature and docstring."""

_SECTION = re.compile(r"^(?:Args|Arguments|Parameters|Returns|Return|Yields|Raises|Example|Examples|Note|Notes):\s*$")
_ARGUMENTS = re.compile(r"^(?:Args|Arguments|Parameters):\s*$")
_GOOGLE_ARGUMENT = re.compile(r"(?P<name>\w+)\s*(?:\([^)]*\))?:\s*(?P<text>.*)")
_SPHINX_ARGUMENT = re.compile(r":param\s+(?:[^:]*\s)?(?P<name>\w+):\s*(?P<text>.*)")
_KEYWORD_KINDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A function that a model may call, as returned by `function_tool`."""

    definition: ToolDefinition
    function: Callable[..., Any]
    types: Mapping[str, TypeAdapter[Any]]
    """Adapters from JSON to the annotated types, by parameter."""

    @property
    def name(self) -> str:
        return str(self.definition.tool_name)

    @property
    def is_async(self) -> bool:
        """Whether a call returns an awaitable or an asynchronous generator instead of a result."""
        return inspect.iscoroutinefunction(self.function) or inspect.isasyncgenfunction(self.function)

    def __call__(self, arguments: Mapping[str, Any]) -> Any:
        """Call the function with the arguments converted to its annotations, such as enums and dataclasses."""
        return self.function(**{name: self.types[name].validate_python(value) for name, value in arguments.items()})


def tool_definitions(tools: Sequence[Tool] | None, field: str = "tools") -> list[ToolDefinition] | None:
    """Return the definitions of all tools; raise `InvalidRequestError` as `function_tool` does."""
    if not isinstance(tools, list | tuple):
        return typing.cast("None", tools)  # None, or a value that the check of the request refuses
    return [
        one if isinstance(one, ToolDefinition) else function_tool(one, f"{field}[{index}]").definition
        for index, one in enumerate(tools)
    ]


def function_tool(function: object, field: str = "tool") -> FunctionTool:
    """Return a function as a tool.

    The description is the docstring up to its first section; those of parameters are read from an ``Args:`` section
    (Google's style), from ``:param name:`` lines, or from ``Annotated[..., Field(description=...)]``. Parameters may
    have any annotation that pydantic can write as a JSON schema: plain types, dates, ``Literal``, ``Enum``, ``list``,
    ``dict``, ``Optional``, and ``TypedDict``, dataclasses and pydantic models of them. Before Python 3.12 a
    ``TypedDict`` inside a dataclass must be that of ``typing_extensions``.

    Raises:
        InvalidRequestError: it is not a named function, or a parameter cannot be described; the message names it.
    """
    name = getattr(function, "__name__", None)
    if not callable(function) or isinstance(function, type) or not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidRequestError(field, function, "a named function, or a ToolDefinition")
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise InvalidRequestError(field, function, "a function whose signature can be read") from None
    description, texts = _documented(inspect.getdoc(function) or "")
    hints = {one: _hint(function, parameter, f"{field}.{name}.{one}") for one, parameter in parameters.items()}
    adapters = {one: _adapter(hint, f"{field}.{name}.{one}") for one, hint in hints.items()}
    definition = ToolDefinition(
        tool_name=name,
        description=description or None,
        parameters={
            one: _described(parameters[one], adapter, texts.get(one), f"{field}.{name}.{one}")
            for one, adapter in adapters.items()
        },
    )
    return FunctionTool(definition, function, adapters)


def _hint(function: Callable[..., Any], parameter: inspect.Parameter, field: str) -> Any:
    """Return the annotation of a parameter with its forward references resolved."""
    if parameter.kind not in _KEYWORD_KINDS:
        raise InvalidRequestError(field, str(parameter), "a parameter that can be passed by keyword")
    if parameter.annotation is inspect.Parameter.empty:
        raise InvalidRequestError(field, "no annotation", "annotated with a type")
    carrier = types.SimpleNamespace(__annotations__={"it": parameter.annotation})
    names = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return _readable(typing.get_type_hints(carrier, names, include_extras=True)["it"])
    except (NameError, TypeError, SyntaxError, AttributeError, RecursionError) as error:
        allowed = f"annotated with a type that can be resolved in its module ({error})"
        raise InvalidRequestError(field, str(parameter.annotation), allowed) from None


def _readable(hint: Any) -> Any:
    """Return the annotation with every ``typing.TypedDict``, which pydantic refuses before Python 3.12, replaced."""
    if typing.is_typeddict(hint) and type(hint).__module__ == "typing":
        members = typing.get_type_hints(hint, include_extras=True)
        marked = {name: _marked(member, name in hint.__required_keys__) for name, member in members.items()}
        return typing_extensions.TypedDict(hint.__name__, marked)  # type: ignore[operator]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is None or origin is typing.Literal:
        return hint
    if origin is typing.Annotated:
        return typing.Annotated[(_readable(arguments[0]), *arguments[1:])]
    readable = tuple(_readable(argument) for argument in arguments)
    is_union = origin in (typing.Union, types.UnionType)
    return functools.reduce(operator.or_, readable) if is_union else origin[readable]


def _marked(member: Any, is_required: bool) -> Any:
    """Return a member's annotation, marked as required or not; marks of its own override those of the class."""
    if (origin := typing.get_origin(member)) in (typing.Required, typing.NotRequired):
        is_required, member = origin is typing.Required, typing.get_args(member)[0]
    mark = typing_extensions.Required if is_required else typing_extensions.NotRequired
    return mark[_readable(member)]


def _adapter(hint: Any, field: str) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(hint)
    except Exception as error:
        raise _refusal(hint, error, field) from error


def _described(
    parameter: inspect.Parameter, adapter: TypeAdapter[Any], text: str | None, field: str
) -> ToolParamDefinition:
    try:
        schema = dict(JsonSchema.of(untitled(adapter.json_schema()), field).root)
    except InvalidRequestError as error:
        raise _refusal(parameter.annotation, f"its schema must be {error.allowed}", field) from None
    except Exception as error:
        raise _refusal(parameter.annotation, error, field) from error
    text = text or schema.pop("description", None)
    schema.pop("default", None)
    is_plain = schema.keys() == {"type"}
    return ToolParamDefinition(
        param_type=schema["type"] if is_plain else json.dumps(schema, ensure_ascii=False),
        description=text,
        required=parameter.default is inspect.Parameter.empty,
        default=_default(parameter, adapter),
    )


def _refusal(hint: object, why: object, field: str) -> InvalidRequestError:
    reason = str(why).strip().splitlines()[0]
    return InvalidRequestError(field, hint, f"annotated with a type that a tool parameter can have ({reason})")


def _default(parameter: inspect.Parameter, adapter: TypeAdapter[Any]) -> Any:
    """Return the default as JSON; None if there is none, or if it is not a value of the type."""
    if parameter.default is inspect.Parameter.empty:
        return None
    try:
        return adapter.dump_python(adapter.validate_python(parameter.default), mode="json")
    except Exception:  # noqa: BLE001 - for example a sentinel, which the function itself replaces
        return None


def _documented(docstring: str) -> tuple[str, dict[str, str]]:
    lines = docstring.splitlines()
    texts = {match["name"]: match["text"].strip() for line in lines if (match := _SPHINX_ARGUMENT.match(line.strip()))}
    ends = (index for index, line in enumerate(lines) if _SECTION.match(line) or line.lstrip().startswith(":"))
    description = "\n".join(lines[: next(ends, len(lines))]).strip()
    begin = next((index + 1 for index, line in enumerate(lines) if _ARGUMENTS.match(line)), len(lines))
    return description, texts | _google_arguments(lines[begin:])


def _google_arguments(lines: list[str]) -> dict[str, str]:
    """Return the texts of ``name (type): text`` lines at one indentation, with their more deeply indented lines."""
    texts: dict[str, str] = {}
    margin, name = None, None
    for line in lines:
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        margin = indent if margin is None else margin
        if indent < margin or not indent:
            break
        match = _GOOGLE_ARGUMENT.match(line.strip()) if indent == margin else None
        if match:
            name = match["name"]
            texts[name] = match["text"].strip()
        elif name:
            texts[name] = f"{texts[name]} {line.strip()}".strip()
    return texts
