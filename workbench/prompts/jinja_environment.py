"""Jinja's sandbox as chat templates expect it, with the origin of every character (`workbench.prompts.provenance`).

The variables of a template and its own literals are traced texts, whose methods and operators give traced texts. Where
Jinja creates texts by other means (in compiled code, in filters, in formats), it is replaced by functions that trace.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jinja2
import jinja2.ext
import markupsafe
from jinja2 import filters, nodes
from jinja2.compiler import CodeGenerator
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from workbench.prompts import notations, provenance
from workbench.prompts.provenance import TEMPLATE, Traced, aligned, bare


class Refusal(Exception):  # noqa: N818 - the template's decision, not a fault
    """The reason for which the template, or a limit, refuses the conversation."""


class _Known(dict[str, Any]):
    """A cache of texts, each marked as the template's own."""

    def __missing__(self, text: str) -> Any:
        self[text] = Traced(text, TEMPLATE * len(text))
        return self[text]


_KNOWN = _Known()


class _CodeGenerator(CodeGenerator):
    """Compiler of templates whose own texts are marked as such, and whose code creates only traced texts."""

    def write_commons(self) -> None:
        super().write_commons()
        self.writeline("known, known_value, str, escape, Markup, str_join, markup_join = environment.texts")

    def visit_Const(self, node: nodes.Const, frame: Any) -> None:  # noqa: N802 - Jinja's name
        value = node.as_const(frame.eval_ctx)
        if isinstance(value, bool | int | float | None):
            super().visit_Const(node, frame)
        else:
            self.write(f"known_value({value!r})")

    def visit_TemplateData(self, node: nodes.TemplateData, frame: Any) -> None:  # noqa: ARG002, N802 - Jinja's
        self.write(f"(Markup if context.eval_ctx.autoescape else str)(known[{node.data!r}])")

    def _output_const_repr(self, group: Any) -> str:
        return f"known[{super()._output_const_repr(group)}]"


def known(value: Any) -> Any:
    if isinstance(value, str):
        return notations.safe(_KNOWN[str(value)]) if hasattr(value, "__html__") else _KNOWN[value]
    if isinstance(value, dict):
        return {known(key): known(item) for key, item in value.items()}
    return type(value)(map(known, value)) if isinstance(value, list | tuple) else value


class _Environment(ImmutableSandboxedEnvironment):
    code_generator_class = _CodeGenerator
    concat: Any = staticmethod(notations.joined)
    texts = (
        _KNOWN,
        known,
        notations.text_of,
        notations.escaped,
        notations.safe,
        notations.str_join,
        notations.markup_join,
    )

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        form = getattr(value, "__self__", None)
        if not isinstance(form, Traced) or value.__name__ not in {"format", "format_map"}:
            return super().wrap_str_format(value)
        write = super().wrap_str_format(getattr(bare(form), value.__name__))
        assert write is not None

        def format_(*values: Any, **named: Any) -> Any:
            if hasattr(form, "__html__"):
                values, named = provenance.as_escaped(values), provenance.as_escaped(named)
            result = write(*bare(values), **bare(named))
            shadows = provenance.shadow(values), provenance.shadow(named)
            return provenance.formatted(result, form, lambda _: write(*shadows[0], **shadows[1]), (values, named))

        return functools.update_wrapper(format_, value)


class _Generation(jinja2.ext.Extension):
    """The tag ``{% generation %}``, which marks the assistant's text for training; it renders as its contents."""

    tags = {"generation"}  # noqa: RUF012 - declared so by its base

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_written"), [], [], body).set_lineno(line)

    @staticmethod
    def _written(caller: Callable[[], Any]) -> Any:
        return caller()


class _Dict:
    """The subset of ``dict`` that templates may use."""

    def __call__(self, *values: Any, **named: Any) -> dict[Any, Any]:
        return dict(*values, **named)

    @staticmethod
    def fromkeys(*values: Any) -> dict[Any, Any]:
        return dict.fromkeys(*values)


class _Namespace(Namespace):
    """Jinja's ``namespace`` without names that begin with an underscore."""

    def __init__(self, /, *values: Any, **named: Any) -> None:
        attributes = dict(*values, **named)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(
            f"a namespace cannot have names that begin with an underscore; got {name!r}"
        )


def _raise_exception(message: object) -> None:
    raise Refusal(str(message))


def _strftime_now(form: str) -> Any:
    import datetime as dt

    return aligned(dt.datetime.now().strftime(bare(form)), form)  # noqa: DTZ005 - the user's own day


def _indent(text: Any, width: Any = 4, first: bool = False, blank: bool = False) -> Any:
    result = filters.do_indent(bare(text), bare(width), first, blank)
    pad = provenance.marks_of(width)[:1] if isinstance(width, Traced) else TEMPLATE
    lines = zip((text + _KNOWN["\n"]).splitlines(), result.split("\n"), strict=False)
    marks = [pad * (len(whole) - len(line)) + provenance.marks_of(line) for line, whole in lines]
    return provenance.traced(result, TEMPLATE.join(marks))


@jinja2.pass_eval_context
def _join(context: nodes.EvalContext, items: Any, between: Any = _KNOWN[""], attribute: Any = None) -> Any:
    if attribute is not None:
        items = map(filters.make_attrgetter(context.environment, attribute), items)
    return notations.join(items, between, escape=context.autoescape)


@jinja2.pass_eval_context
def _xmlattr(context: nodes.EvalContext, names: Any, autospace: bool = True) -> Any:
    def dump(value: Any) -> str:
        return filters.do_xmlattr(context, value, autospace)

    return notations.dumped(names, dump, markupsafe.escape)


def _tracing(apply: Callable[..., Any]) -> Callable[..., Any]:
    """Return the filter with traced results, as far as `aligned` can trace them."""

    @functools.wraps(apply)
    def filtered(*values: Any, **named: Any) -> Any:
        return aligned(apply(*values, **named), *values, *named.values())

    return filtered


def environment() -> _Environment:
    """Return Jinja's sandbox with the extensions, filters and globals that chat templates expect."""
    made = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"], cache_size=0
    )
    made.filters |= {name: _tracing(apply) for name, apply in made.filters.items()}
    made.filters |= {
        **dict.fromkeys(("e", "escape"), notations.escaped),
        "forceescape": lambda value: notations.escaped(str(notations.text_of(value))),
        "indent": _indent,
        "join": _join,
        "safe": notations.safe,
        "string": lambda value: value if isinstance(value, str) else notations.text_of(value),
        "tojson": notations.to_json,
        "xmlattr": _xmlattr,
    }
    made.globals |= {
        "dict": _Dict(),
        "namespace": _Namespace,
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
    }
    return made
