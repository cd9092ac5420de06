"""One form for a type, whether it is written as text in the facts or stands as an annotation in the package.

``Optional[X]``, ``Union[X, None]`` and ``X | None`` are the same type, and so are ``List`` and ``list``. The order of a
union's members counts (pydantic tries them in it), only None has no place; so does the discriminator of a union.
"""

from __future__ import annotations

import ast
import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from typing_extensions import TypeAliasType

ORIGINAL_PACKAGES = ("llama_stack.", "llama_models.")


@dataclass(frozen=True)
class Spelling:
    """A type: its name, or a container with its parts; a union by a discriminator has it in ``tag``."""

    head: str
    parts: tuple[Spelling, ...] = ()
    tag: str | None = None

    def __str__(self) -> str:
        if self.head == "union":
            text = " | ".join(map(str, self.parts))
            return f"({text} by {self.tag})" if self.tag else text
        return f"{self.head}[{', '.join(map(str, self.parts))}]" if self.parts else self.head


NONE = Spelling("None")


def union_of(members: list[Spelling]) -> Spelling:
    """A union without nesting or repetition, None last; a single member is that member."""
    flat: list[Spelling] = []
    for member in members:
        flat += member.parts if member.head == "union" and member.tag is None else [member]
    unique = list(dict.fromkeys(flat))
    ordered = [member for member in unique if member != NONE] + [NONE] * (NONE in unique)
    return ordered[0] if len(ordered) == 1 else Spelling("union", tuple(ordered))


def tagged(spelling: Spelling, tag: str | None) -> Spelling:
    return Spelling(spelling.head, spelling.parts, tag) if tag else spelling


def literal_of(values: list[object]) -> Spelling:
    return Spelling("Literal", tuple(Spelling(repr(value)) for value in values))


def of_text(text: str) -> Spelling:
    """The type that the facts spell, for example ``Optional[List[ToolDefinition]]``."""
    return _of_node(ast.parse(text, mode="eval").body)


def _of_node(node: ast.expr) -> Spelling:
    match node:
        case ast.Constant(value=None):
            return NONE
        case ast.Name() | ast.Attribute():
            return Spelling(_plain_name(ast.unparse(node)))
        case ast.BinOp(op=ast.BitOr()):
            return union_of([_of_node(node.left), _of_node(node.right)])
        case ast.Subscript():
            inner = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
            return _of_subscript(ast.unparse(node.value), inner)
    raise ValueError(f"no type: {ast.unparse(node)}")


def _of_subscript(head: str, inner: list[ast.expr]) -> Spelling:
    if head == "Literal":
        return literal_of([ast.literal_eval(value) for value in inner])
    if head == "Annotated":
        return tagged(_of_node(inner[0]), _discriminator(inner[1:]))
    parts = [_of_node(part) for part in inner]
    if head in ("Optional", "Union"):
        return union_of([*parts, NONE] if head == "Optional" else parts)
    return Spelling(head.lower() if head in ("List", "Dict") else head, tuple(parts))


def _discriminator(metadata: list[ast.expr]) -> str | None:
    for call in metadata:
        if isinstance(call, ast.Call):
            for keyword in call.keywords:
                if keyword.arg == "discriminator":
                    return str(ast.literal_eval(keyword.value))
    return None


def _plain_name(dotted: str) -> str:
    if dotted == "NoneType":
        return NONE.head
    return dotted.rpartition(".")[2] if dotted.startswith(ORIGINAL_PACKAGES) else dotted


def of_annotation(annotation: Any) -> Spelling:
    """The type that an annotation of the package stands for."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None:
        return _of_plain(annotation)
    if origin is Annotated:
        tags = [extra.discriminator for extra in arguments[1:] if isinstance(extra, FieldInfo)]
        return tagged(of_annotation(arguments[0]), next((str(tag) for tag in tags if tag), None))
    if origin is Literal:
        return literal_of(list(arguments))
    if origin in (Union, types.UnionType):
        return union_of([of_annotation(member) for member in arguments])
    return Spelling(origin.__name__, tuple(map(of_annotation, arguments)))


def _of_plain(annotation: Any) -> Spelling:
    if annotation is None or annotation is type(None):
        return NONE
    if annotation is Any:
        return Spelling("Any")
    if isinstance(annotation, TypeAliasType):
        return Spelling(annotation.__name__)
    ours = annotation.__module__ == "builtins" or annotation.__module__.startswith("workbench.protocol.")
    return Spelling(annotation.__qualname__ if ours else f"{annotation.__module__}.{annotation.__qualname__}")
