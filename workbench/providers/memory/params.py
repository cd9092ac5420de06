"""Parameters of queries, for each type of bank; others are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from workbench.errors import InvalidRequestError
from workbench.protocol import MemoryBankType, ProtocolModel

Scalar: TypeAlias = bool | int | float | str | None
Count: TypeAlias = Annotated[int, Field(ge=1, le=1000, strict=True)]


class QueryParams(ProtocolModel):
    """Parameters of queries of every type of bank."""

    max_chunks: Count = 5
    """Most chunks to return."""
    score_threshold: float | None = None
    """Lowest score of the chunks to return."""
    filter: dict[str, Any] | None = None
    """Values that the metadata of a document must have; of a list, any one of its values. Null is a missing value."""

    def accepts(self, metadata: Mapping[str, Any]) -> bool:
        """Return whether the filter accepts a document."""
        return all(_matches(metadata.get(key), allowed) for key, allowed in (self.filter or {}).items())


class KeywordParams(QueryParams):
    """Parameters of a keyword bank."""


class VectorParams(QueryParams):
    """Parameters of a vector bank."""

    mode: Literal["vector", "keyword", "hybrid"] = "vector"
    """Search by similarity, by words, or by both."""


class KeyValueParams(QueryParams):
    """Parameters of a keyvalue bank."""

    prefix: Annotated[bool, Field(strict=True)] = False
    """Whether the query is the beginning of the ids, instead of one id."""


class GraphParams(QueryParams):
    """Parameters of a graph bank."""

    hops: Annotated[int, Field(ge=0, le=10, strict=True)] = 1
    """Most links to follow from a document that the words of the query are in."""
    max_starts: Count | None = None
    """Most documents to begin at, those that match the query best; None for all of them."""


_PARAMS: dict[MemoryBankType, type[QueryParams]] = {
    MemoryBankType.vector: VectorParams,
    MemoryBankType.keyword: KeywordParams,
    MemoryBankType.keyvalue: KeyValueParams,
    MemoryBankType.graph: GraphParams,
}


def checked_params(bank_type: str, params: object) -> QueryParams:
    """Return the parameters of a query; raise `InvalidRequestError` with the path of an invalid one."""
    if params is None:
        params = {}
    if not isinstance(params, dict) or not all(isinstance(name, str) for name in params):
        raise InvalidRequestError("params", params, "a mapping of names to values")
    expected = _PARAMS[MemoryBankType(bank_type)]
    for name in params:
        if name not in expected.model_fields:
            known = ", ".join(expected.model_fields)
            raise InvalidRequestError(f"params.{name}", params[name], f"left out: a {bank_type} bank takes {known}")
    try:
        checked = expected.model_validate(params)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"params.{error.field}", error.given, error.allowed) from None
    for key, allowed in (checked.filter or {}).items():
        if not _is_scalar(allowed) and not (isinstance(allowed, list) and allowed and all(map(_is_scalar, allowed))):
            expected_value = "a string, a number, true, false or null, or a list of these that is not empty"
            raise InvalidRequestError(f"params.filter.{key}", allowed, expected_value)
    return checked


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _matches(value: object, allowed: object) -> bool:
    """Return whether a value of the metadata, or one of its list, is allowed; true is not 1, unlike in Python."""
    values = value if isinstance(value, list) else [value]
    choices = allowed if isinstance(allowed, list) else [allowed]
    return any(_equal(one, other) for one in values for other in choices)


def _equal(one: object, other: object) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and one == other
