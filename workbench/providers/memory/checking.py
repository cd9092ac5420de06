"""Checks that memory providers share: of the definitions of banks, of queries, and of the ids in a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import InvalidRequestError
from workbench.providers.memory.preparing import default_overlap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workbench.protocol import MemoryBankDef, VectorMemoryBankDef
    from workbench.providers.model_access import ModelAccess
    from workbench.records import TokenSpans


def check_same(known: MemoryBankDef, definition: MemoryBankDef) -> None:
    """Raise `InvalidRequestError` if a bank of that name is stored with another definition."""
    if known.model_copy(update={"provider_id": definition.provider_id}) != definition:
        allowed = f"a name that is not in use for another bank of type {known.type}; unregister that one first"
        raise InvalidRequestError("identifier", definition.identifier, allowed)


def check_ids(document_ids: object) -> None:
    """Raise `InvalidRequestError` unless the value is a list of texts."""
    if not isinstance(document_ids, list) or not all(isinstance(one, str) for one in document_ids):
        raise InvalidRequestError("document_ids", document_ids, "a list of document ids")


async def embedded_query(
    bank: VectorMemoryBankDef, text: str, models: ModelAccess, modes: frozenset[str]
) -> NDArray[np.float32]:
    """Return the vector of a query; raise `InvalidRequestError` if the model would read only its beginning."""
    spans = await models.token_spans(bank.embedding_model, text)
    if spans.max_tokens is not None and len(spans.spans) > spans.max_tokens:
        otherwise = ", or searched with mode keyword" if "keyword" in modes else ""
        allowed = f"at most {spans.max_tokens} tokens of {bank.embedding_model}{otherwise}"
        raise InvalidRequestError("query", f"{len(spans.spans)} tokens", allowed)
    found = await models.embed(bank.embedding_model, [text])
    return np.asarray(found.vectors[0], dtype=np.float32)


async def check_chunks(bank: VectorMemoryBankDef, models: ModelAccess) -> None:
    """Raise `InvalidRequestError` unless the model can read the bank's chunks; loads the model."""
    size, overlap = bank.chunk_size_in_tokens, bank.overlap_size_in_tokens
    if size < 1:
        raise InvalidRequestError("memory_bank.chunk_size_in_tokens", size, "1 or above")
    if not 0 <= default_overlap(bank) < size:
        allowed = f"0 or above and less than chunk_size_in_tokens, {size}"
        raise InvalidRequestError("memory_bank.overlap_size_in_tokens", overlap, allowed)
    spans = await _spans_of_nothing(bank.embedding_model, models)
    if spans.max_tokens is not None and size > spans.max_tokens:
        allowed = f"at most {spans.max_tokens}, beyond which {bank.embedding_model} does not read"
        raise InvalidRequestError("memory_bank.chunk_size_in_tokens", size, allowed)


async def _spans_of_nothing(model: str, models: ModelAccess) -> TokenSpans:
    try:
        return await models.token_spans(model, "")
    except InvalidRequestError as error:
        raise type(error)("memory_bank.embedding_model", error.given, error.allowed) from None
