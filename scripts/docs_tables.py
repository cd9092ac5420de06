"""Write the tables in docs/ that are generated from the code, each between its marks; a test compares them.

Run it from the repository's root after changing what they show:

    .venv/bin/python scripts/docs_tables.py
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from workbench import errors, providers, widgets  # noqa: E402 - found by the line above
from workbench.cli import build_parser  # noqa: E402
from workbench.engine import families, precision, weight_sizes  # noqa: E402
from workbench.protocol import ADDITIONS, QuantizationConfig, routes_of  # noqa: E402
from workbench.providers.capabilities import Capabilities  # noqa: E402
from workbench.providers.memory.interface import MemoryCapabilities  # noqa: E402
from workbench.providers.openai.provider import OpenAIProvider  # noqa: E402
from workbench.sampling_stages import SAMPLING_STAGES  # noqa: E402
from workbench.server.openai.fields import NoEffect, OpenAIRequest, Refused  # noqa: E402
from workbench.server.openai.requests import ChatRequest, CompletionRequest, EmbeddingsRequest  # noqa: E402
from workbench.stack.apis import PROVIDER_APIS, SERVED_APIS  # noqa: E402
from workbench.widgets.base import WorkbenchWidget  # noqa: E402

DOCS = ROOT / "docs"
_MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)
_DELEGATING = ("inline::ray", "inline::trace")
"""Provider types with the capabilities of others: of the engine in their actors, or of recorded models."""


def main() -> int:
    for page in sorted(DOCS.glob("*.md")):
        old = page.read_text(encoding="utf-8")
        new = with_tables(old)
        if new != old:
            page.write_text(new, encoding="utf-8")
            print(f"{page.relative_to(ROOT)}: written")
    return 0


def with_tables(page: str) -> str:
    """Return a page with its tables generated anew."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n\n{found[3]}", page)


_TYPES = {
    "inference": providers.PROVIDER_TYPES,
    "safety": providers.SAFETY_PROVIDER_TYPES,
    "memory": providers.MEMORY_PROVIDER_TYPES,
}
"""Provider types of the package by API; other packages' are not in the documentation."""


def provider_types(api: str) -> str:
    rows = []
    for name in _TYPES[api]:
        kind = providers.class_of(api, name)
        summary = _summary(kind)
        what = summary.partition(": ")[2] if summary.startswith("`") else summary  # some begin with their type
        shields = [", ".join(f"`{one}`" for one in kind.shield_types)] if api == "safety" else []
        rows.append((f"`{name}`", *shields, f"{what[0].upper()}{what[1:]}"))
    head = (
        ("`provider_type`", "types of shields", "what it is") if api == "safety" else ("`provider_type`", "what it is")
    )
    return _table(head, rows)


def capabilities() -> str:
    """Return a column per provider type and a row per ability."""
    columns = {name: _capabilities(name) for name in providers.PROVIDER_TYPES if name not in _DELEGATING}
    head = ("ability", *(f"`{name}`" for name in columns))
    rows = [
        (f"`{ability.name}`", *(_cell(getattr(can, ability.name)) for can in columns.values()))
        for ability in fields(Capabilities)
    ]
    return _table(head, rows)


def memory_capabilities() -> str:
    """Return a column per memory provider type and a row per ability."""
    columns = {name: providers.class_of("memory", name).capabilities for name in _TYPES["memory"]}
    head = ("ability", *(f"`{name}`" for name in columns))
    rows = [
        (f"`{ability.name}`", *(_cell(getattr(can, ability.name)) for can in columns.values()))
        for ability in fields(MemoryCapabilities)
    ]
    return _table(head, rows)


def provider_configs() -> str:
    """Return, for each provider type, the keys of its config."""
    by_config: dict[Any, list[str]] = {}
    for api in PROVIDER_APIS:
        for name in _TYPES[api]:
            by_config.setdefault(providers.class_of(api, name).Config, []).append(f"`{name}`")
    parts = []
    for config, names in by_config.items():
        rows = [
            (f"`{name}`", _default(field), _line(field.description or ""))
            for name, field in config.model_fields.items()
        ]
        parts.append(f"### {', '.join(names)}\n\n{_table(('key', 'default', 'meaning'), rows)}")
    return "\n\n".join(parts)


def precisions() -> str:
    configs = {config.model_fields["type"].default: config for config in get_args(get_args(QuantizationConfig)[0])}
    rows = []
    for name in precision.PRECISIONS:
        quantization = f"`{{type: {name}}}`" if name in configs else "`null`"
        meaning = _summary(configs[name]) if name in configs else "Weights in 32-bit floating point, the reference."
        in_layer, outside = (_bytes_each(weight, name) for weight in ("layers.0.weight", "embed_tokens.weight"))
        rows.append((f"`{name}`", quantization, meaning, in_layer, outside))
    head = ("precision", "`quantization` in a run config", "weights", "bytes per weight", "in embedding and head")
    return _table(head, rows)


def commands() -> str:
    """Return a section for each command, with its options."""
    return "\n\n".join(
        _command(name, parser, summary) for name, parser, summary in _commands(build_parser(), "workbench")
    )


def additions() -> str:
    rows = [(f"`{one.path}`", _code(one.declared) if one.declared else one.kind, one.meaning) for one in ADDITIONS]
    return _table(("name", "declaration", "meaning"), rows)


def routes() -> str:
    rows = [
        (f"`{route.name}`", f"`{route.method} {route.route}`", _line(inspect.getdoc(route.function) or ""))
        for protocols in SERVED_APIS.values()
        for protocol in protocols
        for route in routes_of(protocol)
    ]
    return _table(("method", "route", "description"), rows)


def fused_architectures() -> str:
    return textwrap.fill(", ".join(map(_code, families.ARCHITECTURES)), 118, break_long_words=False)


def sampling_stages() -> str:
    """The stages in their order, the grammar's mask among them."""
    rows = [
        (stage.label.lower(), f"`{stage.field}`", stage.allowed, _line(stage.help), ", ".join(stage.used_by))
        for stage in SAMPLING_STAGES
    ]
    mask = ("grammar", "`response_format`, `tools`", "–", "Keeps the tokens that the grammar allows.", "all")
    rows.insert(sum(stage.changes_argmax for stage in SAMPLING_STAGES), mask)
    return _table(("stage", "field", "allowed", "what it does", "used by"), rows)


def openai_fields() -> str:
    """Return the meaning of each field of OpenAI's requests, with the requests that share it."""
    requests: dict[str, type[OpenAIRequest]] = {
        "chat": ChatRequest,
        "completions": CompletionRequest,
        "embeddings": EmbeddingsRequest,
    }
    rows: dict[tuple[str, str], list[str]] = {}
    for request, model in requests.items():
        for name, field in model.model_fields.items():
            rows.setdefault((name, _openai_field(field)), []).append(request)
    cells = [(f"`{name}`", ", ".join(sharing), meaning) for (name, meaning), sharing in rows.items()]
    return _table(("field", "requests", "meaning"), sorted(cells))


def _openai_field(field: Any) -> str:
    for mark in field.metadata:
        if isinstance(mark, NoEffect):
            return "accepted, without effect"
        if isinstance(mark, Refused):
            neutral = ["null", *(f"`{json.dumps(value)}`" for value in mark.neutral)]
            return f"refused, except {' and '.join(neutral)}"
    return _line(field.description or "")


def error_tree() -> str:
    _, _, tree = (errors.__doc__ or "").partition("::\n\n")
    lines = [line.removeprefix("    ") for line in tree.splitlines()]
    return "\n".join(["```text", *lines[: lines.index("")], "```"])


def widget_attributes(kind: type[WorkbenchWidget]) -> str:
    """Return what can be read, set, observed and called from Python."""
    own = {
        name: trait
        for name, trait in kind.class_traits().items()
        if trait.this_class.__module__.startswith("workbench")
    }
    rows = [(f"`{name}`", _line(trait.help)) for name, trait in own.items() if not name.startswith("_")]
    members = [
        (name, value)
        for name, value in _members(kind)
        if not name.startswith("_") and name not in _EVERYWHERE and inspect.getdoc(value)
    ]
    rows += [(f"`{name}`", _summary(value)) for name, value in members if isinstance(value, property)]
    rows += [(f"`{name}()`", _summary(value)) for name, value in members if inspect.isfunction(value)]
    return _table(("attribute", "what it is"), rows)


def _members(kind: type[WorkbenchWidget]) -> list[tuple[str, Any]]:
    """Return the members of a widget's class and of its bases below `WorkbenchWidget`."""
    bases = [base for base in kind.__mro__ if issubclass(base, WorkbenchWidget) and base is not WorkbenchWidget]
    return [member for base in bases for member in vars(base).items()]


WIDGETS: dict[str, type[WorkbenchWidget]] = {
    name: kind
    for name in widgets.__all__
    if isinstance(kind := getattr(widgets, name), type) and issubclass(kind, WorkbenchWidget)
}

TABLES: dict[str, Callable[[], str]] = {
    "provider-types": partial(provider_types, "inference"),
    "safety-provider-types": partial(provider_types, "safety"),
    "memory-provider-types": partial(provider_types, "memory"),
    "memory-capabilities": memory_capabilities,
    "capabilities": capabilities,
    "provider-configs": provider_configs,
    "precisions": precisions,
    "commands": commands,
    "additions": additions,
    "routes": routes,
    "openai-fields": openai_fields,
    "fused-architectures": fused_architectures,
    "sampling-stages": sampling_stages,
    "errors": error_tree,
    **{f"widget-{name}": partial(widget_attributes, kind) for name, kind in WIDGETS.items()},
}
"""Generators by the name in a page's mark."""


def _capabilities(provider_type: str) -> Capabilities:
    kind = providers.provider_class(provider_type)
    if issubclass(kind, OpenAIProvider):
        from workbench.providers.openai.config import narrowed

        config = kind.Config.model_validate({"url": "http://127.0.0.1/v1"})
        return narrowed(kind.dialect.capabilities, config, kind.dialect.max_logprobs)
    return kind.capabilities


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "–"
    if isinstance(value, frozenset):
        return ", ".join(sorted(map(str, value))) or "–"
    return "any" if value is None else str(value)


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, list):
        default = [one.model_dump(exclude_unset=True) if isinstance(one, BaseModel) else one for one in default]
    return "none" if default is None else f"`{default!r}`"


def _bytes_each(weight: str, name: precision.Precision) -> str:
    shape = (1024, 1024)
    return f"{weight_sizes.predict({weight: shape}, name, packed=True) / (shape[0] * shape[1]):.3g}"


def _commands(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Yield commands with their parsers and summaries, without those that only group others."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for choice in action._choices_actions:  # noqa: SLF001
                below = action.choices[choice.dest]
                inner = list(_commands(below, f"{name} {choice.dest}"))
                yield from inner or [(f"{name} {choice.dest}", below, choice.help or "")]


def _command(name: str, parser: argparse.ArgumentParser, summary: str) -> str:
    rows = [
        (_spelled(action), _line((action.help or "") % (vars(action) | {"prog": name})))
        for action in parser._actions  # noqa: SLF001
        if not isinstance(action, argparse._HelpAction)  # noqa: SLF001
    ]
    examples = inspect.cleandoc((parser.epilog or "").partition("\n")[2])
    parts = [f"## {name}", f"{summary[0].upper()}{summary[1:]}.", _table(("option", "meaning"), rows)]
    return "\n\n".join([*parts, f"```sh\n{examples}\n```"])


def _spelled(action: argparse.Action) -> str:
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    if not action.option_strings:
        return _code(str(value))
    takes = "" if action.nargs == 0 else f" {value}"
    return _code(f"{', '.join(action.option_strings)}{takes}")


_EVERYWHERE = {"static_html", "close", "open"}
"""Methods of all widgets, which the page describes once."""


def _summary(documented: object) -> str:
    return _line(inspect.getdoc(documented) or "")


def _line(text: str) -> str:
    """Return the first paragraph of a docstring on one line, in Markdown."""
    return " ".join(text.partition("\n\n")[0].split()).replace("``", "`").replace("|", "&#124;")


def _code(text: str) -> str:
    """Return code for a cell; Markdown's dialects disagree on a bar inside backticks."""
    return f"<code>{escape(text).replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    raise SystemExit(main())
