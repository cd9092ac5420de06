"""Conditions on the points of a bank, each of which is one chunk of a document.

Metadata is arbitrary JSON, so it is stored as text, and what it can be filtered by as tags: one text for each key and
value. Keys with any characters are therefore only text, and a value equals the same values as in `QueryParams`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from qdrant_client import models


def tags(metadata: Mapping[str, Any]) -> list[str]:
    """Return a tag for each key of the metadata, and one for each scalar that it has, alone or in a list."""
    found = []
    for key, value in metadata.items():
        values = value if isinstance(value, list) else [value]
        found += [_key_tag(key), *(_tag(key, one) for one in values if not isinstance(one, list | dict))]
    return list(dict.fromkeys(found))


def visible(now: float, accepted: Mapping[str, Any] | None = None) -> models.Filter:
    """Return the condition for chunks whose insertion is complete, that have not expired, and that a filter accepts."""
    conditions: list[models.Condition] = [_equals("staged", value=False)]
    for key, allowed in (accepted or {}).items():
        conditions.append(_accepts(key, allowed if isinstance(allowed, list) else [allowed]))
    return models.Filter(must=conditions, must_not=[_until("expires_at", now)])


def first_chunks(now: float) -> models.Filter:
    """Return the condition for one visible chunk of each document."""
    return models.Filter(must=[visible(now), _equals("chunk", value=0)])


def of_documents(document_ids: Sequence[str]) -> models.Filter:
    """Return the condition for the chunks of documents, apart from those that are being inserted."""
    chosen = models.FieldCondition(key="document_id", match=models.MatchAny(any=list(document_ids)))
    return models.Filter(must=[chosen, _equals("staged", value=False)])


def of_insertion(insertion: str) -> models.Filter:
    """Return the condition for the chunks of one call."""
    return models.Filter(must=[_equals("insertion", value=insertion)])


def expired(now: float) -> models.Filter:
    """Return the condition for the chunks of documents that are no longer found."""
    return models.Filter(must=[_until("expires_at", now)])


def abandoned(before: float) -> models.Filter:
    """Return the condition for chunks of insertions that began before a time and never ended."""
    return models.Filter(must=[_equals("staged", value=True), _until("began_at", before)])


def _accepts(key: str, allowed: Sequence[Any]) -> models.Filter:
    """Return the condition for one key of a filter; null also accepts documents without the key."""
    has_value = models.FieldCondition(
        key="tags", match=models.MatchAny(any=list(dict.fromkeys(_tag(key, one) for one in allowed)))
    )
    if None not in allowed:
        return models.Filter(must=[has_value])
    lacks_key = models.Filter(must_not=[_equals("tags", value=_key_tag(key))])
    return models.Filter(should=[has_value, lacks_key])


def _equals(key: str, *, value: bool | int | str) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _until(key: str, time: float) -> models.FieldCondition:
    """Return the condition for points with a time that is not later than another; those without one lack it."""
    return models.FieldCondition(key=key, range=models.Range(lte=time))


def _key_tag(key: str) -> str:
    return json.dumps([key])


def _tag(key: str, value: bool | float | str | None) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 1.0 equals 1
    return json.dumps([key, value])
