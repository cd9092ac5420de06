"""The values that a location allows: its schemas, normalised to nodes of one type each.

Schemas are not rewritten: a location is a tuple of schemas, all of which apply. Disjunctions (``anyOf``, ``oneOf``,
``if``) give alternatives, each a tuple of keywords that all apply, and each alternative gives a node for each type. A
node may allow less than its schemas; if one allows more, `Normaliser.unenforced` contains the keyword.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from workbench.schemas.documents import ASSERTIONS, MADE, Document, Schema
from workbench.schemas.merging import (
    Alternative,
    Keywords,
    counts,
    is_among,
    item,
    location_of,
    member,
    more_parts,
    numbers,
    texts,
)
from workbench.schemas.negation import EXCLUDED, FOREIGN, FRACTION, TYPES, CannotNegateError, negated
from workbench.schemas.nodes import Items, Location, Members, Names, Node, Numbers, Texts, Values
from workbench.schemas.numbers import integer_regex, number_regex
from workbench.schemas.patterns import matches

MAX_ALTERNATIVES = 256
"""Alternatives at one location."""
MAX_PATTERNS = 4
"""Patterns of names in one object; each subset of them that a name may match is a case of its own."""
_LOOK_AHEAD = 3
"""Levels of nested values that are searched to decide whether two schemas exclude each other."""


class Normaliser:
    """Normaliser of the locations of one document.

    Raises:
        InvalidRequestError: from each method, if a keyword cannot be enforced.
    """

    def __init__(self, document: Document) -> None:
        from workbench.schemas.argument_validation import ArgumentValidator  # imports jsonschema, which is slow

        self.document = document
        self.validator = ArgumentValidator(document.root)
        self.unenforced: set[str] = set()
        """Keywords that only the validation of the complete answer can enforce."""

    def nodes(self, location: Location) -> list[Node]:
        """Return the nodes of a location; none if no value fits."""
        return [node for alternative in self._all(location) for node in self._typed(alternative)]

    def is_empty(self, location: Location, depth: int = _LOOK_AHEAD) -> bool:
        """Return whether it is certain that no value fits."""
        if not location:
            return False
        return all(self._is_impossible(node, depth) for node in self.nodes(location))

    def finite(self, location: Location) -> list[Any] | None:
        """Return the values that fit, each once, if the schemas list them; else None."""
        nodes = self.nodes(location) if location else [Texts()]
        if not all(isinstance(node, Values) for node in nodes):
            return None
        values = [value for node in nodes if isinstance(node, Values) for value in node.values]
        return [value for index, value in enumerate(values) if not is_among(value, values[:index])]

    # ------------------------------------------------------------------------------------------------ alternatives

    def _all(self, schemas: Sequence[Schema]) -> list[Alternative]:
        """Return the alternatives of the conjunction of schemas."""
        found: list[Alternative] = [()]
        for schema in schemas:
            found = [(*one, *other) for one, other in itertools.product(found, self._one(schema))]
            self._check_count(len(found))
        return found

    def _any(self, schemas: Sequence[Schema]) -> list[Alternative]:
        found = [one for schema in schemas for one in self._one(schema)]
        self._check_count(len(found))
        return found

    def _check_count(self, count: int) -> None:
        if count > MAX_ALTERNATIVES:
            self.document.refuse(
                f"{count} alternatives", f"a schema with at most {MAX_ALTERNATIVES} alternatives in one place"
            )

    def _one(self, schema: Schema) -> list[Alternative]:
        if isinstance(schema, bool):
            return [()] if schema else []
        own = {key: value for key, value in schema.items() if key in ASSERTIONS or key.startswith(MADE)}
        found: list[Alternative] = [(own,)] if own else [()]
        for choices in self._choices(schema):
            found = [(*one, *other) for one, other in itertools.product(found, choices)]
            self._check_count(len(found))
        return found

    def _choices(self, schema: dict[str, Any]) -> Iterator[list[Alternative]]:
        """Yield the alternatives of each keyword that contains schemas of the same value."""
        if "$ref" in schema:
            yield self._one(self.document.target(schema["$ref"]))
        for part in schema.get("allOf", ()):
            yield self._one(part)
        if "anyOf" in schema:
            yield self._any(schema["anyOf"])
        if "oneOf" in schema:
            yield self._exactly_one(schema["oneOf"])
        if "not" in schema:
            try:
                yield self._any(negated(schema["not"], self.document))
            except CannotNegateError as error:
                self.document.refuse({"not": schema["not"]}, f"a schema without {error} inside 'not'")
        if "if" in schema:
            yield self._conditional(schema)
        for name, other in schema.get("dependentSchemas", {}).items():
            yield self._dependent(name, other)
        for name, others in schema.get("dependentRequired", {}).items():
            yield self._dependent(name, {"required": others})

    def _dependent(self, name: str, other: Schema) -> list[Alternative]:
        without: Schema = {"properties": {name: False}}
        return [*self._one(without), *self._all([{"required": [name]}, other])]

    def _conditional(self, schema: dict[str, Any]) -> list[Alternative]:
        found = self._all([schema["if"], schema.get("then", True)])
        try:
            others = negated(schema["if"], self.document)
        except CannotNegateError:  # a value that fits both ``if`` and ``then`` is always valid
            return found
        found += [one for other in others for one in self._all([other, schema.get("else", True)])]
        self._check_count(len(found))
        return found

    def _exactly_one(self, branches: list[Schema]) -> list[Alternative]:
        found: list[Alternative] = []
        for branch in branches:
            beside = [one for one in branches if one is not branch and not self.is_empty((branch, one))]
            found += self._all([branch, *(self._none_of(one) for one in beside)])
            self._check_count(len(found))
        return found

    def _none_of(self, schema: Schema) -> Schema:
        try:
            return {"anyOf": negated(schema, self.document) or [False]}
        except CannotNegateError:
            self.unenforced.add("oneOf")
            return True

    # ------------------------------------------------------------------------------------------------ nodes

    def _typed(self, alternative: Alternative) -> Iterator[Node]:
        kinds = set(TYPES)
        for own in alternative:
            if "type" in own:
                named = {own["type"]} if isinstance(own["type"], str) else set(own["type"])
                kinds &= {kind for kind in TYPES if kind in named or (kind == "number" and "integer" in named)}
        known = next((own for own in alternative if "const" in own or "enum" in own), None)
        if known is not None:
            values = known["enum"] if "enum" in known else [known["const"]]
            if left := tuple(value for value in values if self._fits(value, alternative)):
                yield Values(left)
            return
        constants = {"null": (None,), "boolean": (False, True)}
        for kind in TYPES:
            if kind not in kinds:
                continue
            if kind in constants:
                if left := tuple(value for value in constants[kind] if self._fits(value, alternative)):
                    yield Values(left)
            else:
                yield self._of(kind, alternative)

    def _of(self, kind: str, alternative: Alternative) -> Node:
        match kind:
            case "number":
                return numbers(alternative)
            case "string":
                return texts(alternative)
            case "array":
                return self._items(alternative)
        return self._members(alternative)

    def _fits(self, value: Any, alternative: Alternative) -> bool:
        for own in alternative:
            if is_among(value, own.get(EXCLUDED, ())):
                return False
            if isinstance(value, str) and any(matches(pattern, value) for pattern in own.get(FOREIGN, ())):
                return False
            if FRACTION in own and (not isinstance(value, float) or value.is_integer()):
                return False
            if not self.validator.fits(value, {key: one for key, one in own.items() if not key.startswith(MADE)}):
                return False
        return True

    def _items(self, alternative: Alternative) -> Items:
        own = [one for one in alternative if one.keys() & _OF_ARRAYS]
        self._check_excluded(alternative, list)
        length = max((len(one.get("prefixItems", ())) for one in own), default=0)
        first = tuple(location_of(item(one, index) for one in own) for index in range(length))
        fewest, most = counts(own, "minItems", "maxItems")
        if length and fewest <= length and not any("items" in one for one in own):
            most = length if most is None else min(most, length)  # items without a schema are left out
        contains = [one for one in own if "contains" in one and (one.get("minContains", 1) or "maxContains" in one)]
        if len(contains) > 1 or (contains and first):
            self.unenforced.add("contains")
            contains = []
        node = Items(
            first,
            location_of(one["items"] for one in own if "items" in one),
            fewest,
            most,
            any(one.get("uniqueItems") for one in own),
        )
        return self._containing(node, contains[0]) if contains else node

    def _containing(self, node: Items, own: Keywords) -> Items:
        contains, most = own["contains"], own.get("maxContains")
        rest = node.rest
        if most is not None:
            try:
                rest = location_of((*rest, {"anyOf": negated(contains, self.document) or [False]}))
            except CannotNegateError:
                self.unenforced.add("maxContains")
        counted = (own.get("minContains", 1), most)
        return Items(
            node.first, rest, node.fewest, node.most, node.unique, location_of((*node.rest, contains)), counted
        )

    def _members(self, alternative: Alternative) -> Members:
        own = [one for one in alternative if one.keys() & _OF_OBJECTS]
        self._check_excluded(alternative, dict)
        required = frozenset(name for one in own for name in one.get("required", ()))
        names = dict.fromkeys(name for one in own for name in (*one.get("properties", ()), *one.get("required", ())))
        name_schemas = [one["propertyNames"] for one in own if "propertyNames" in one]
        texts = self.nodes((*name_schemas, {"type": "string"}))
        known = [str(value) for node in texts if isinstance(node, Values) for value in node.values]
        fewest, most = counts(own, "minProperties", "maxProperties")
        has_patterns = any("patternProperties" in one for one in own)
        is_open = any(one.get("additionalProperties", False) is not False for one in own)
        is_open = is_open or not (names or has_patterns) or fewest > len(names)
        if is_open:
            names |= dict.fromkeys(known)
        more = self._more(own, [node for node in texts if isinstance(node, Texts)], tuple(names), is_open=is_open)
        named = {name: location_of(member(one, name) for one in own) for name in names}
        for name in named:
            if any(not self.validator.fits(name, one) for one in name_schemas):
                named[name] = (False,)
        return Members(named, required, tuple(more), fewest, most)

    def _more(
        self, own: list[Keywords], texts: list[Texts], names: tuple[str, ...], *, is_open: bool
    ) -> Iterator[Names]:
        """Yield the names that are not in the schema, for each set of its patterns that they may match."""
        patterns = list(dict.fromkeys(pattern for one in own for pattern in one.get("patternProperties", ())))
        if len(patterns) > MAX_PATTERNS:
            self.document.refuse(
                {"patternProperties": patterns}, f"a schema with at most {MAX_PATTERNS} patternProperties in one object"
            )
        for chosen in itertools.product((False, True), repeat=len(patterns)):
            matched = tuple(itertools.compress(patterns, chosen))
            location = location_of([part for one in own for part in more_parts(one, matched)])
            if location == (False,) or not (matched or is_open):
                continue
            foreign = tuple(pattern for pattern in patterns if pattern not in matched)
            for text in texts:
                yield Names(
                    replace(
                        text,
                        patterns=(*text.patterns, *matched),
                        foreign=(*text.foreign, *foreign),
                        excluded=(*text.excluded, *names),
                    ),
                    location,
                )

    def _check_excluded(self, alternative: Alternative, kind: type) -> None:
        """Leave excluded lists and objects to the validation: a grammar cannot exclude single ones."""
        if any(isinstance(value, kind) for own in alternative for value in own.get(EXCLUDED, ())):
            self.unenforced.add("not")

    def _is_impossible(self, node: Node, depth: int) -> bool:
        match node:
            case Numbers():
                regex = integer_regex if node.is_integer else number_regex
                return regex(node.bounds) is None or (node.is_integer and node.is_fraction)
            case Texts():
                return node.longest is not None and node.shortest > node.longest
            case Items():
                locations = [*node.first[: node.fewest], *([node.rest] if node.fewest > len(node.first) else [])]
                return (node.most is not None and node.fewest > node.most) or self._has_empty(locations, depth)
            case Members():
                locations = [node.named[name] for name in node.required]
                return (node.most is not None and node.fewest > node.most) or self._has_empty(locations, depth)
        return False

    def _has_empty(self, locations: list[Location], depth: int) -> bool:
        return any(location == (False,) or (depth > 0 and self.is_empty(location, depth - 1)) for location in locations)


_OF_ARRAYS = frozenset({"items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"})
_OF_OBJECTS = frozenset(
    {
        *("properties", "patternProperties", "additionalProperties", "propertyNames", "required"),
        *("minProperties", "maxProperties"),
    }
)
