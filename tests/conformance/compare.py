"""Compares ``workbench.protocol`` with the contract in ``facts.json``, name by name.

``python tests/conformance/compare.py`` prints every difference, the documented ones marked as such, and exits with 1
where there is an undocumented one.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.conformance.contract import REQUIRED, Contract, Method, Slot, from_facts, from_package
from tests.conformance.spelling import of_annotation
from workbench import protocol
from workbench.protocol import ADDITIONS, Addition

FACTS = Path(__file__).with_name("facts.json")


@dataclass(frozen=True)
class Difference:
    kind: str
    """What differs: ``type``, ``default``, ``order``, ...; for an extra name what it is, as in ``Addition.kind``."""
    path: str
    expected: str
    found: str


@dataclass(frozen=True)
class Report:
    undocumented: list[Difference]
    documented: list[Difference]

    def __str__(self) -> str:
        lines = [
            f"{label:12}  {item.kind:9}  {item.path}: expected {item.expected}, found {item.found}"
            for label, group in (("documented", self.documented), ("UNDOCUMENTED", self.undocumented))
            for item in group
        ]
        return "\n".join([*lines, self.summary])

    @property
    def summary(self) -> str:
        return f"{len(self.undocumented)} undocumented differences ({len(self.documented)} documented)"


def report(expected: Contract, found: Contract, additions: Iterable[Addition] = ADDITIONS) -> Report:
    """All differences, sorted by whether they are allowed; an addition that is not there is a difference too."""
    open_additions = {_key_of(addition) for addition in additions}
    result = Report([], [])
    for difference in differences(expected, found):
        if _key(difference) in open_additions:
            open_additions.remove(_key(difference))
            result.documented.append(difference)
        else:
            result.undocumented.append(difference)
    for kind, path, declared in sorted(open_additions):
        result.undocumented.append(
            Difference("stale", path, f"the documented {kind} {declared}".strip(), "no such thing")
        )
    return result


def _key(difference: Difference) -> tuple[str, str, str]:
    declared = difference.found if difference.kind in ("field", "parameter", "default", "type") else ""
    return difference.kind, difference.path, declared


def _key_of(addition: Addition) -> tuple[str, str, str]:
    if not addition.declared:
        return addition.kind, addition.path, ""
    annotation, _, default = addition.declared.partition(" = ")
    spelling = of_annotation(
        eval(annotation, {**vars(protocol), "Any": Any})
    )  # our own text, in the names of the package
    return (
        addition.kind,
        addition.path,
        str(Slot(spelling, json.dumps(ast.literal_eval(default)) if default else REQUIRED)),
    )


def differences(expected: Contract, found: Contract) -> Iterator[Difference]:
    yield from _names("model", "", expected.models, found.models)
    for name in _common(expected.models, found.models):
        yield from _slots("field", name, expected.models[name], found.models[name])
    yield from _names("enum", "", expected.enums, found.enums)
    for name in _common(expected.enums, found.enums):
        yield from _names("value", f"{name}.", expected.enums[name], found.enums[name])
    yield from _names("protocol", "", expected.protocols, found.protocols)
    for name in _common(expected.protocols, found.protocols):
        methods, found_methods = expected.protocols[name], found.protocols[name]
        yield from _names("method", f"{name}.", methods, found_methods)
        for method in _common(methods, found_methods):
            yield from _method(f"{name}.{method}", methods[method], found_methods[method])


def _method(path: str, expected: Method, found: Method) -> Iterator[Difference]:
    for kind in ("is_async", "route", "http_method", "returns"):
        wanted, present = getattr(expected, kind), getattr(found, kind)
        if wanted != present:
            yield Difference(kind, path, str(wanted), str(present))
    yield from _slots("parameter", path, expected.parameters, found.parameters)


def _slots(kind: str, path: str, expected: dict[str, Slot], found: dict[str, Slot]) -> Iterator[Difference]:
    yield from _names(kind, f"{path}.", expected, found)
    for name in _common(expected, found):
        wanted, present = expected[name], found[name]
        if wanted.type != present.type:
            yield Difference("type", f"{path}.{name}", str(wanted), str(present))
        elif wanted.default != present.default:
            yield Difference("default", f"{path}.{name}", str(wanted), str(present))


def _names(kind: str, prefix: str, expected: Iterable[str], found: Iterable[str]) -> Iterator[Difference]:
    """Missing and extra names. Of fields, parameters and values the order counts, and extra ones come last."""
    wanted, present = list(expected), list(found)
    for name in wanted:
        if name not in present:
            yield Difference("missing", f"{prefix}{name}", f"this {kind}", "nothing")
    for name in present:
        if name not in wanted:
            slot = found[name] if isinstance(found, dict) and isinstance(found[name], Slot) else f"this {kind}"
            yield Difference(kind, f"{prefix}{name}", "nothing", str(slot))
    ordered = [name for name in wanted if name in present] + [name for name in present if name not in wanted]
    if kind in ("field", "parameter", "value") and present != ordered:
        yield Difference("order", prefix.rstrip("."), ", ".join(ordered), ", ".join(present))


def _common(expected: Iterable[str], found: Iterable[str]) -> list[str]:
    present = set(found)
    return [name for name in expected if name in present]


def current_report() -> Report:
    return report(from_facts(json.loads(FACTS.read_text(encoding="utf-8"))), from_package(protocol))


def main() -> int:
    result = current_report()
    sys.stdout.write(f"{result}\n")
    return 1 if result.undocumented else 0


if __name__ == "__main__":
    sys.exit(main())
