"""Grammars of the values that fit a schema, as JSON on one line or as Python literals.

Parts that a schema leaves open are bounded by `Limits`, so that a sampled model comes to an end; the schema's own
``maxLength`` or ``maxItems``, smaller or larger, takes precedence. Numbers have no exponent and a limited number of
digits. There is no free white space. Members come in the order of the schema, and last those without a name in it; an
object with named members has others only if the schema mentions them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from workbench.schemas.documents import Document
from workbench.schemas.grammars import Body, Many, Rule, Rules, Symbol, Text
from workbench.schemas.leaves import Leaves
from workbench.schemas.nodes import Items, Location, Members, Names, Node, Numbers, Texts, Values
from workbench.schemas.normal import Normaliser

MAX_RULES = 20_000
MAX_COUNTED = 4_096
"""Rules of one object or array that count its members or items."""
MAX_UNIQUE = 48
"""Different values of an array whose items are unique."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the parts that a schema leaves open; None is no limit."""

    characters: int | None = None
    items: int | None = None
    members: int | None = None
    """Members without a name in the schema."""
    any_depth: int = 8
    """Levels of nested brackets in a value of any type."""


OPEN = Limits()
ENDING = Limits(characters=4_096, items=32, members=16, any_depth=2)


class Writer:
    """Writer of the values of documents as rules."""

    def __init__(self, rules: Rules, limits: Limits = OPEN, *, python: bool = False) -> None:
        self.rules = rules
        self.limits = limits
        self._constants = {True: "True", False: "False", None: "None"} if python else _JSON_CONSTANTS

    def value(self, normaliser: Normaliser) -> Rule:
        return _Values(self, normaliser).whole()

    def keywords(self, normaliser: Normaliser, is_name: Callable[[str], object]) -> Rule:
        """Return the rule of an object's members as the keyword arguments of a call.

        Args:
            is_name: returns whether an argument can have this name.
        """
        return _Values(self, normaliser).keywords(is_name)

    def constant(self, value: Any) -> str:
        if isinstance(value, list):
            return f"[{', '.join(map(self.constant, value))}]"
        if isinstance(value, dict):
            members = (f"{json.dumps(key, ensure_ascii=False)}: {self.constant(item)}" for key, item in value.items())
            return f"{{{', '.join(members)}}}"
        if value is None or isinstance(value, bool):
            return self._constants[value]
        return json.dumps(value, ensure_ascii=False)


_JSON_CONSTANTS = {True: "true", False: "false", None: "null"}


class _Values:
    """Writer of the rules of one document, one for each location."""

    def __init__(self, writer: Writer, normaliser: Normaliser) -> None:
        self._writer = writer
        self._rules = writer.rules
        self._limits = writer.limits
        self._normaliser = normaliser
        self._document: Document = normaliser.document
        self._leaves = Leaves(writer.rules, normaliser, writer.limits.characters)
        self._cached: dict[str, Rule] = {}
        self._pending: list[tuple[Rule, Location, int]] = []
        """Locations whose rules are not yet written; recursion would be as deep as a chain of references."""

    def rule(self, location: Location, depth: int | None = None) -> Rule:
        """Return the rule of a location; ``depth`` is the number of brackets that a value of any type may open."""
        depth = self._limits.any_depth if depth is None else depth
        key = json.dumps([*location, depth if not location else None])
        if key not in self._cached:
            self._cached[key] = self._new()
            self._pending.append((self._cached[key], location, self._limits.any_depth if location else depth))
        return self._cached[key]

    def whole(self) -> Rule:
        return self._finished(self.rule((self._document.root,)))

    def _finished(self, rule: Rule) -> Rule:
        while self._pending:
            later, location, depth = self._pending.pop()
            nodes = self._normaliser.nodes(location) if location else list(_anything(depth))
            inside = depth if location else depth - 1
            self._rules.set(later, [body for node in nodes for body in self._bodies(node, inside)])
        return rule

    def keywords(self, is_name: Callable[[str], object]) -> Rule:
        """Return the rule of the document's members as keyword arguments."""
        bodies: list[Body] = []
        for node in self._normaliser.nodes((self._document.root, {"type": "object"})):
            if isinstance(node, Members):
                if wrong := next((name for name in node.named if not is_name(name)), None):
                    self._document.refuse(
                        wrong, "a schema whose property names are valid argument names in Python-style calls"
                    )
                bodies.append((self._members(Members(node.named, node.required, (), node.fewest, node.most), "="),))
            elif isinstance(node, Values):
                for value in node.values:
                    members = ", ".join(f"{name}={self._writer.constant(item)}" for name, item in value.items())
                    bodies.append((Text(members),))
        return self._finished(self._rules.of(bodies))

    def _new(self) -> Rule:
        if len(self._rules) > MAX_RULES:
            self._document.refuse("a larger schema", f"a schema that takes at most {MAX_RULES:,} rules to enforce")
        return self._rules.new()

    def _bodies(self, node: Node, depth: int) -> Iterator[Body]:
        match node:
            case Values(values):
                yield from ((Text(self._writer.constant(value)),) for value in values)
            case Numbers():
                yield from self._leaves.numbers(node)
            case Texts():
                yield from self._leaves.texts(node)
            case Items():
                yield from self._items(node, depth)
            case Members():
                yield (Text("{"), self._members(node, ": ", depth), Text("}"))

    # ------------------------------------------------------------------------------------------------ arrays

    def _items(self, node: Items, depth: int) -> Iterator[Body]:
        if node.most is not None and node.fewest > node.most:
            return
        if node.unique and node.most != 1 and (node.first or node.contains or not self._is_finite(node)):
            self._normaliser.unenforced.add("uniqueItems")
        elif node.unique and node.most != 1:
            yield (Text("["), self._unique(node), Text("]"))
            return
        yield (Text("["), self._list(node, depth) if node.contains is None else self._containing(node), Text("]"))

    def _is_finite(self, node: Items) -> bool:
        values = self._normaliser.finite(node.rest)
        return values is not None and len(values) <= MAX_UNIQUE

    def _unique(self, node: Items) -> Rule:
        values = self._normaliser.finite(node.rest) or []
        most = len(values) if node.most is None else min(node.most, len(values))
        if node.fewest > most:
            return self._rules.of([])
        return self._rules.choice([self._writer.constant(value) for value in values], node.fewest, most)

    def _list(self, node: Items, depth: int) -> Rule:
        """Return the rule of the items, the first ones by their index."""
        length = len(node.first)
        most = node.most if node.most is not None else self._limits.items
        most = None if most is None else max(most, node.fewest, length if node.most is None else 0)
        item = self.rule(node.rest, depth)
        rest_most = None if most is None else max(0, most - max(length, 1))
        if not length:
            rest = Many((Text(", "), item), max(node.fewest - 1, 0), rest_most)
            bodies: list[Body] = [(item, rest)] if most != 0 else []
            return self._rules.of(bodies if node.fewest else [*bodies, ()])
        following = self._rules.of([(Many((Text(", "), item), max(node.fewest - length, 0), rest_most),)])
        for index in range(length - 1, -1, -1):
            separator = (Text(", "),) if index else ()
            bodies = [()] if node.fewest <= index else []
            if most is None or index < most:
                bodies.append((*separator, self.rule(node.first[index], depth), following))
            following = self._rules.of(bodies)
        return following

    def _containing(self, node: Items) -> Rule:
        """Return the rule of items of which some fit another location too; each pair of counts has its own rule."""
        assert node.contains is not None
        least, most = node.contained
        top = most if most is not None else least
        most_items = node.most if node.most is not None else self._limits.items
        cap = max(node.fewest, least, 1) if most_items is None else max(most_items, node.fewest, least)
        cap = cap if node.most is None else node.most
        if (cap + 1) * (top + 1) > MAX_COUNTED:
            self._document.refuse({"minContains": least, "maxContains": most}, "a schema with smaller counts")
        item, other = self.rule(node.rest), self.rule(node.contains)
        states = {(count, found): self._new() for count in range(cap + 1) for found in range(top + 1)}
        for (count, found), rule in states.items():
            separator: tuple[Symbol, ...] = (Text(", "),) if count else ()
            bodies: list[Body] = [()] if count >= node.fewest and found >= least else []
            if most_items is None or count < cap:
                following = min(count + 1, cap)
                bodies.append((*separator, item, states[following, found]))
                if found < top or most is None:
                    bodies.append((*separator, other, states[following, min(found + 1, top)]))
            self._rules.set(rule, bodies)
        return states[0, 0]

    # ------------------------------------------------------------------------------------------------ objects

    def _members(self, node: Members, separator: str, depth: int | None = None) -> Rule:
        """Return the rule of the members, first those named in the schema; ``separator`` follows the names."""
        named = {name: location for name, location in node.named.items() if location != (False,)}
        if node.required - named.keys():
            return self._rules.of([])
        more = self._more(node.more, depth)
        fewest = node.fewest if node.fewest > len(node.required) else 0
        most = node.most if node.most is not None and (more or node.most < len(named)) else None
        if fewest > 1 and more:  # names that are not in the schema may be repeated
            self._normaliser.unenforced.add("minProperties")
        cap = max(fewest, 1) if most is None else most
        if (len(named) + 1) * (cap + 1) > MAX_COUNTED:
            self._document.refuse({"minProperties": fewest, "maxProperties": most}, "a schema with smaller counts")
        after = self._tails(more, fewest, most, cap)
        for name, location in reversed(named.items()):
            key = f"{name}=" if separator == "=" else f"{json.dumps(name, ensure_ascii=False)}: "
            before = []
            for count in range(cap + 1):
                bodies: list[Body] = [] if name in node.required else [(after[count],)]
                if most is None or count < cap:
                    comma = (Text(", "),) if count else ()
                    bodies.append((*comma, Text(key), self.rule(location, depth), after[min(count + 1, cap)]))
                before.append(self._rules.of(bodies))
            after = before
        return after[0]

    def _more(self, names: tuple[Names, ...], depth: int | None) -> Rule | None:
        """Return the rule of one member whose name is not in the schema."""
        bodies: list[Body] = []
        for one in names:
            limit = 64 if self._limits.characters is not None else None
            longest = one.texts.longest if one.texts.longest is not None else limit
            if longest is None or longest >= one.texts.shortest:
                bodies.append((self._leaves.plain(one.texts, longest), Text(": "), self.rule(one.location, depth)))
        return self._rules.of(bodies) if bodies else None

    def _tails(self, more: Rule | None, fewest: int, most: int | None, cap: int) -> list[Rule]:
        """Return, for each number of members before, the rule of the members behind the named ones."""
        tails: list[Rule] = []
        for count in range(cap, -1, -1):
            end: list[Body] = [()] if count >= fewest else []
            comma = (Text(", "),) if count else ()
            if more is None or (most is not None and count == cap):
                tails.append(self._rules.of(end))
            elif count == cap:
                limit = self._limits.members
                tails.append(self._rules.of([(Many((*comma, more), 0, None if limit is None else limit - 1),)]))
            else:
                tails.append(self._rules.of([*end, (*comma, more, tails[-1])]))
        return tails[::-1]


def _anything(depth: int) -> Iterator[Node]:
    yield Values((None, False, True))
    yield Numbers()
    yield Texts()
    if depth > 0:
        yield Items()
        yield Members(more=(Names(Texts(), ()),))
