"""Blocking calls on the shields and the memory banks of a stack."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from workbench.errors import InvalidRequestError, UnsupportedContentError, shortened
from workbench.protocol import ShieldDefWithProvider, UserMessage, memory_bank
from workbench.session.documents import Sources, documents_from
from workbench.session.open_stack import OpenStack

if TYPE_CHECKING:
    from workbench.protocol import (
        InterleavedTextMedia,
        MemoryBankDef,
        MemoryBankDocument,
        Message,
        QueryDocumentsResponse,
        RunShieldResponse,
    )
    from workbench.providers.memory.interface import InsertProgress

DEFAULT_CHUNK_SIZE_IN_TOKENS = 128
"""Short enough for every sentence model of the catalog, which were trained on texts of about that length."""


class Resources(OpenStack):
    """Shields and memory banks of a started run config."""

    # ----------------------------------------------------------------------------------------------- shields

    def list_shields(self) -> list[ShieldDefWithProvider]:
        """Return the shields that are served, in order of registration."""
        return self._loop.wait(self.shields.list_shields())

    def register_shield(
        self,
        identifier: str,
        type: str | None = None,  # noqa: A002 (the protocol's name)
        *,
        provider_id: str | None = None,
        params: dict[str, Any] | None = None,
    ) -> ShieldDefWithProvider:
        """Register a shield with a provider, now and after a restart, and return its definition.

        Args:
            identifier: name of the shield in requests.
            type: type of the shield, for example ``llama_guard``. None uses the provider's own type.
            provider_id: id of the provider; None uses the first one in the run config that runs the type.
            params: parameters of the shield, such as its categories; the type of provider determines which.

        Raises:
            InvalidRequestError: the name is taken or not allowed, no such provider is configured, or it does not know
                the type or a parameter; nothing has changed.
        """
        providers = self._stack.safety_providers
        if provider_id is None:
            able = [name for name, one in providers.items() if type is None or type in one.shield_types]
            provider_id = next(iter([*able, *providers]), "")
        own_types = next((one.shield_types for name, one in providers.items() if name == provider_id), ())
        shield = ShieldDefWithProvider(
            identifier=identifier,
            type=next(iter(own_types), "") if type is None else type,
            params={} if params is None else params,
            provider_id=provider_id,
        )
        self._loop.wait(self.shields.register_shield(shield))
        return shield

    def unregister_shield(self, identifier: str) -> None:
        """Stop serving a shield. A shield of the run config is served again after a restart.

        Raises:
            ShieldNotFoundError: no provider runs it.
        """
        self._loop.wait(self.shields.unregister_shield(identifier))

    def run_shield(
        self, shield: str, messages: str | list[Message], params: dict[str, Any] | None = None
    ) -> RunShieldResponse:
        """Check a text or a conversation; the shield judges the last message in the context of the others.

        Args:
            shield: name of a served shield.
            messages: text of a user, or a list of messages.
            params: parameters that replace those of the shield's definition for this call.

        Raises:
            ShieldNotFoundError: no provider runs the shield.
            ShieldError: the shield has no verdict. Never read this as safe.
        """
        if isinstance(messages, str):
            messages = [UserMessage(content=messages)]
        return self._loop.wait(self.safety.run_shield(shield, messages, params))

    # ------------------------------------------------------------------------------------------ memory banks

    def list_memory_banks(self) -> list[MemoryBankDef]:
        """Return the memory banks that are served, in order of registration."""
        return self._loop.wait(self.memory_banks.list_memory_banks())

    def register_memory_bank(
        self,
        identifier: str,
        type: str = "vector",  # noqa: A002 (the protocol's name)
        *,
        embedding_model: str | None = None,
        chunk_size_in_tokens: int | None = None,
        overlap_size_in_tokens: int | None = None,
        provider_id: str | None = None,
    ) -> MemoryBankDef:
        """Register a memory bank, now and after a restart, and return its definition.

        Args:
            identifier: name of the bank in requests.
            type: ``vector`` (similar meaning), ``keyword`` (same words), ``keyvalue`` (a document by its id) or
                ``graph`` (same words, and the documents that these link to).
            embedding_model: sentence model of a vector bank; None uses the first one that is served.
            chunk_size_in_tokens: maximum length of a vector bank's chunks; None is 128.
            overlap_size_in_tokens: tokens that such a chunk shares with the one before; None is a quarter of the
                chunk size, 0 none.
            provider_id: id of the provider; None uses the first one in the run config.

        Raises:
            InvalidRequestError: the name is taken or not allowed, or the provider cannot store such a bank.
            ModelNotFoundError: the embedding model is not served, or no sentence model is.
        """
        fields = {
            "identifier": identifier,
            "type": type,
            "embedding_model": embedding_model,
            "chunk_size_in_tokens": chunk_size_in_tokens,
            "overlap_size_in_tokens": overlap_size_in_tokens,
            "provider_id": provider_id,
        }
        fields = {name: value for name, value in fields.items() if value is not None}
        if type == "vector":
            if embedding_model is None:
                fields["embedding_model"] = self.inference.default_model("embedding")
            fields.setdefault("chunk_size_in_tokens", DEFAULT_CHUNK_SIZE_IN_TOKENS)
        bank = memory_bank(fields)
        self._loop.wait(self.memory_banks.register_memory_bank(bank))
        return self.memory_banks.find(identifier if provider_id is None else f"{provider_id}/{identifier}").definition

    def unregister_memory_bank(self, identifier: str) -> None:
        """Delete a memory bank with its documents.

        Raises:
            MemoryBankNotFoundError: no provider stores it.
        """
        self._loop.wait(self.memory_banks.unregister_memory_bank(identifier))

    def insert(
        self,
        bank: str,
        documents: Sources,
        *,
        ttl_seconds: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        progress: InsertProgress | None = None,
    ) -> list[str]:
        """Insert documents in a memory bank, all or none, and return their ids; block until they can be found.

        A document of the same id is replaced.

        Args:
            bank: name of a memory bank.
            documents: a text, a ``Path`` of a file or a folder, a `MemoryBankDocument`, a list of these, or a mapping
                from ids to texts. Files are text in UTF-8, such as Markdown, HTML or JSON, or PDF. A text is named
                after its hash, a file after its name, and a file in a folder after its path there.
            ttl_seconds: time after which the documents are no longer found; None keeps them.
            metadata: values to store with the texts and files, for `query`'s ``filter``.
            progress: callback for the number of chunks that are ready and their total, called on another thread. None
                shows a bar in a terminal or notebook if it takes longer.

        Raises:
            MemoryBankNotFoundError: no provider stores the bank.
            InvalidRequestError: a document cannot be read; nothing was inserted.
            StateError: the bank cannot be written; nothing was inserted.
        """
        if progress is not None and not callable(progress):
            raise InvalidRequestError("progress", progress, "a function of two whole numbers, or None")
        read = documents_from(documents, metadata)
        with _shown(f"insert in {bank}", progress) as report:
            try:
                self._loop.wait(self.memory.insert_documents(bank, read, ttl_seconds, progress=report))
            except InvalidRequestError as error:
                raise _by_name(error, read) from None
        return [document.document_id for document in read]

    def query(self, bank: str, text: InterleavedTextMedia, **params: Any) -> QueryDocumentsResponse:
        """Return the chunks of a memory bank that match a text best, the best first, with their scores.

        Args:
            text: text to search for; the id of a document in a keyvalue bank.
            params: parameters of the query, which depend on the type of bank: ``max_chunks``, ``score_threshold``,
                ``filter``, ``mode``, ``prefix`` or ``hops``.

        Raises:
            MemoryBankNotFoundError: no provider stores the bank.
            InvalidRequestError: the text or a parameter is not allowed.
        """
        return self._loop.wait(self.memory.query_documents(bank, text, params or None))

    def list_documents(self, bank: str) -> list[str]:
        """Return the ids of the documents in a memory bank, in order of insertion."""
        return self._loop.wait(self.memory.list_documents(bank))

    def delete_documents(self, bank: str, document_ids: Sequence[str]) -> None:
        """Delete documents from a memory bank, all or none.

        Raises:
            InvalidRequestError: the bank has no document of one of the ids; nothing was deleted.
        """
        ids = list(document_ids) if isinstance(document_ids, list | tuple) else document_ids
        self._loop.wait(self.memory.delete_documents(bank, ids))  # type: ignore[arg-type]  # refused by name


def _by_name(error: InvalidRequestError, documents: Sequence[MemoryBankDocument]) -> InvalidRequestError:
    """Return the error with the name of its document, because the caller passed files and folders, not a list."""
    found = re.match(r"documents\[(\d+)\]", error.field)
    if found is None or type(error) not in (InvalidRequestError, UnsupportedContentError):
        return error
    name = documents[int(found[1])].document_id
    return type(error)(f"documents[{shortened(name)}]{error.field[found.end() :]}", error.given, error.allowed)


@contextmanager
def _shown(title: str, progress: InsertProgress | None) -> Iterator[InsertProgress | None]:
    """Yield the callback; without one, a bar that appears after a second if a bar is wanted."""
    from workbench.catalog.progress import wants_bar

    if progress is not None or not wants_bar():
        yield progress
        return
    from tqdm.auto import tqdm

    with tqdm(desc=title, unit=" chunks", delay=1.0) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update
