"""JSON schemas of draft 2020-12 with all keywords that are kept, the same ones for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]

NAMES = ("a", "b", "name", "größe", "x-1", 'q"uote', "<|im_end|>", "a/b~c", "年")
WORDS = ("red", "green", 'say "hi"', "naïve", "two\nlines", "", "<|im_start|>")
NOTES: Schema = {
    "title": "T",
    "description": "d",
    "default": 3,
    "examples": [1],
    "deprecated": True,
    "readOnly": True,
    "writeOnly": False,
    "$comment": "c",
    "nullable": True,
    "x-order": 1,
}
FORMATS = ("date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid", "made-up")
PATTERNS = ("^[a-z]{2,4}$", "^[a-c]+-end$", r"\d{2}", "x", "^(?:ab|cd)*;$", "^a.*z$")
NAME_PATTERNS = ("^x-", "^[a-c]", "[0-9]$", "^(?:k|l)_")
BOUNDS = (-(2**63), 2**63 - 1, 2**53, 2**53 + 1, -3, 0, 0, 1, 1.5, 0.1, 7, 1e20, -1e-3)


def json_schemas(count: int, seed: int = 0) -> list[Schema]:
    """So many schemas, each of a few levels."""
    return [_Drawer(random.Random(f"{seed}.{index}")).document() for index in range(count)]


class _Drawer:
    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.leaves: list[Callable[[], Schema]] = [
            self.integer,
            self.number,
            self.string,
            self.enum,
            lambda: {"type": self.draw.choice(["boolean", "null"])},
        ]
        self.inner: list[Callable[[int], Schema]] = [
            self.object,
            self.object,
            self.named_by_pattern,
            self.array,
            self.tuple,
            self.unique,
            self.containing,
            self.choice,
            self.combined,
            self.conditional,
            self.negated,
            self.dependent,
            lambda _: {"$ref": f"#/$defs/{self.draw.choice(['plain', 'with%20space', 'sla~1sh'])}"},
        ]

    def document(self) -> Schema:
        schema = self.schema(self.draw.choice([1, 2, 2, 3]))
        tree = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/plain"}, {"type": "null"}]}}}
        return schema | {"$defs": {"plain": tree, "with space": self.leaf(), "sla/sh": self.leaf()}}

    def schema(self, depth: int) -> Schema:
        schema = self.draw.choice(self.inner)(depth) if depth and self.draw.random() < 0.85 else self.leaf()
        if self.draw.random() < 0.3:
            schema = schema | dict(self.draw.sample(sorted(NOTES.items(), key=str), 2))
        return schema

    def leaf(self) -> Schema:
        return self.draw.choice(self.leaves)()

    def some(self, **keywords: Any) -> Schema:
        """Some of the keywords."""
        return {key: value for key, value in keywords.items() if self.draw.random() < 0.4}

    def bounds(self) -> Schema:
        low, high = sorted(self.draw.sample(BOUNDS, 2))
        keys = [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")]
        return self.some(**{self.draw.choice(keys[0]): low}) | self.some(**{self.draw.choice(keys[1]): high})

    def integer(self) -> Schema:
        return {"type": "integer"} | self.bounds() | (self.some(multipleOf=self.draw.choice([2, 3, 7, 10])))

    def number(self) -> Schema:
        return {"type": "number"} | (self.bounds() if self.draw.random() < 0.7 else {"multipleOf": 0.25})

    def string(self) -> Schema:
        kind = self.draw.random()
        if kind < 0.3:
            return {"type": "string", "format": self.draw.choice(FORMATS)}
        if kind < 0.6:
            return {"type": "string", "pattern": self.draw.choice(PATTERNS)}
        low = self.draw.randint(0, 3)
        return {"type": "string"} | self.some(minLength=low, maxLength=low + self.draw.randint(0, 9))

    def enum(self) -> Schema:
        values = self.draw.sample([*WORDS, 0, 1.5, True, None, [1, "a"], {"k": [None]}], self.draw.randint(1, 4))
        return {"enum": values} if len(values) > 1 else {"const": values[0]}

    def object(self, depth: int) -> Schema:
        names = self.draw.sample(NAMES, self.draw.randint(0, 4))
        required = [name for name in names if self.draw.random() < 0.5]
        if self.draw.random() < 0.15:
            required.append("not named")
        more = self.draw.choice([True, False, self.leaf()])
        few = self.draw.randint(0, 2)
        if few > len(names):
            more = True
        return {
            "type": "object",
            "properties": {name: self.schema(depth - 1) for name in names},
            "required": required,
        } | self.some(
            additionalProperties=more if "not named" not in required else True,
            minProperties=few,
            maxProperties=max(len(required), 3),
            propertyNames={"maxLength": 20},
        )

    def named_by_pattern(self, depth: int) -> Schema:
        patterns = {pattern: self.schema(depth - 1) for pattern in self.draw.sample(NAME_PATTERNS, 2)}
        return {"type": "object", "patternProperties": patterns} | self.some(
            additionalProperties=self.leaf(), minProperties=1, propertyNames={"pattern": "^[a-z_0-9-]{1,9}$"}
        )

    def array(self, depth: int) -> Schema:
        low = self.draw.randint(0, 2)
        return {"type": "array", "items": self.schema(depth - 1)} | self.some(minItems=low, maxItems=low + 2)

    def tuple(self, depth: int) -> Schema:
        first = [self.schema(depth - 1) for _ in range(self.draw.randint(1, 3))]
        return {"type": "array", "prefixItems": first} | self.some(
            items=self.draw.choice([True, self.leaf()]), minItems=2, maxItems=4
        )

    def unique(self, _: int) -> Schema:
        items = self.draw.choice([{"enum": list(WORDS)}, {"type": "boolean"}, {"type": "integer", "minimum": 0}])
        return {"type": "array", "items": items, "uniqueItems": True} | self.some(minItems=2, maxItems=3)

    def containing(self, _: int) -> Schema:
        wanted = self.draw.choice([{"const": 5}, {"type": "string"}, {"type": "integer", "maximum": 0}])
        items: Schema = {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "integer"}]}
        return {"type": "array", "items": items, "contains": wanted} | self.some(minContains=2, maxContains=3)

    def choice(self, depth: int) -> Schema:
        key = self.draw.choice(["anyOf", "oneOf"])
        if key == "oneOf" and self.draw.random() < 0.5:
            return {key: [{"type": kind} for kind in self.draw.sample(["string", "integer", "null", "array"], 2)]}
        return {key: [self.schema(depth - 1) for _ in range(self.draw.randint(1, 3))]}

    def combined(self, depth: int) -> Schema:
        return self.draw.choice(
            [
                {"allOf": [self.object(depth), {"properties": {"a": self.leaf()}}]},
                {"allOf": [{"type": "string", "pattern": "a"}, {"minLength": 2, "maxLength": 9}]},
                {"type": ["string", "integer", "null"], "minLength": 1, "minimum": 2},
                {"$ref": "#/$defs/plain", "maxProperties": 1},
            ]
        )

    def conditional(self, depth: int) -> Schema:
        return {
            "type": "object",
            "properties": {"kind": {"enum": ["x", "y"]}, "a": self.schema(depth - 1)},
            "required": ["kind"],
            "if": {"properties": {"kind": {"const": "x"}}, "required": ["kind"]},
            "then": {"required": ["a"]},
        } | self.some(**{"else": {"properties": {"a": False}}})

    def negated(self, _: int) -> Schema:
        return self.draw.choice(
            [
                {"not": {"type": ["object", "array", "string"]}},
                {"type": "string", "maxLength": 2, "not": {"enum": ["a", "b", ""]}},
                {"type": "integer", "minimum": 0, "maximum": 9, "not": {"const": 5}},
                {"type": "string", "not": {"pattern": "a"}, "maxLength": 5},
                {"type": "object", "properties": {"a": {}, "b": {}}, "not": {"required": ["a", "b"]}},
            ]
        )

    def dependent(self, depth: int) -> Schema:
        schema: Schema = {"type": "object", "properties": {name: self.leaf() for name in ("a", "b")}}
        if self.draw.random() < 0.5:
            return schema | {"dependentRequired": {"a": ["b"]}}
        return schema | {"dependentSchemas": {"a": {"properties": {"b": self.schema(depth - 1)}, "required": ["b"]}}}
