"""Small providers of safety and memory, which need no model and no file; `serve_fakes` adds their types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from pydantic import Field, SecretStr

from workbench import providers
from workbench.errors import InvalidRequestError, MemoryBankNotFoundError, ShieldError
from workbench.prompts.texts import plain_text
from workbench.protocol import (
    URL,
    Chunk,
    ConfigModel,
    InterleavedTextMedia,
    MemoryBankDef,
    MemoryBankDocument,
    MemoryBankType,
    Message,
    QueryDocumentsResponse,
    SafetyViolation,
    ViolationLevel,
    memory_bank,
)
from workbench.providers.memory.interface import InsertProgress, MemoryCapabilities, MemoryProvider, checked_ttl
from workbench.providers.safety.interface import SafetyConfig, SafetyProvider, ShieldParams

SAFETY_TYPE = "inline::word_shield"
MEMORY_TYPE = "inline::dictionary"


class WordParams(ShieldParams):
    words: list[str] = Field(default_factory=lambda: ["forbidden"])
    """Words that must not pass; ``?`` is one that it has no verdict for."""


class WordShieldConfig(SafetyConfig):
    api_token: SecretStr | None = None


class WordShield(SafetyProvider):
    """Flags the last message if it contains a word; has no verdict for one that contains ``?``."""

    Config = WordShieldConfig
    Params = WordParams
    shield_types: ClassVar[tuple[str, ...]] = ("word", "llama_guard")

    async def judge(self, messages: Sequence[Message], params: Any) -> SafetyViolation | None:
        text = plain_text(messages[-1].content, "messages")
        if "?" in text:
            raise ShieldError("the word shield has no verdict for a question")
        for word in params.words:
            if word in text:
                said = f"{word} may not be said"
                level = ViolationLevel.error
                return SafetyViolation(violation_level=level, user_message=said, metadata={"word": word})
        return None


class DictionaryConfig(ConfigModel):
    banks: list[dict[str, Any]] = Field(default_factory=list)
    api_token: SecretStr | None = None


class DictionaryMemory(MemoryProvider):
    """Keeps documents in a dict; a query finds those that share a word with it, those with most words first."""

    Config = DictionaryConfig
    capabilities = MemoryCapabilities(bank_types=frozenset(MemoryBankType), ttl=True)

    def __init__(self, provider: Any, models: Any) -> None:
        super().__init__(provider, models)
        self.banks: dict[str, MemoryBankDef] = {}
        self.documents: dict[str, dict[str, MemoryBankDocument]] = {}
        self.calls: list[tuple[int, int | None]] = []
        """Number of documents and time to live of each call that inserts."""
        for fields in self.config.banks:
            self._put(memory_bank(fields))

    def get_memory_bank(self, bank_id: str) -> MemoryBankDef | None:
        return self.banks.get(bank_id)

    async def list_memory_banks(self) -> list[MemoryBankDef]:
        return list(self.banks.values())

    async def register_memory_bank(self, memory_bank: MemoryBankDef) -> None:
        self.check_type(memory_bank)
        self._put(memory_bank)

    async def unregister_memory_bank(self, identifier: str) -> None:
        if identifier not in self.banks:
            raise MemoryBankNotFoundError(identifier, self.banks)
        del self.banks[identifier], self.documents[identifier]

    async def insert_documents(
        self,
        bank_id: str,
        documents: list[MemoryBankDocument],
        ttl_seconds: int | None = None,
        *,
        progress: InsertProgress | None = None,
    ) -> None:
        bank = self.documents[bank_id]
        checked_ttl(ttl_seconds)
        for index, document in enumerate(documents):
            if isinstance(document.content, URL):
                raise InvalidRequestError(f"documents[{index}].content", document.content.uri, "a text")
        self.calls.append((len(documents), ttl_seconds))
        for done in range(len(documents)):
            if progress is not None:
                progress(done + 1, len(documents))
        bank.update({document.document_id: document for document in documents})

    async def query_documents(
        self, bank_id: str, query: InterleavedTextMedia, params: dict[str, Any] | None = None
    ) -> QueryDocumentsResponse:
        params = dict(params or {})
        limit = params.pop("max_chunks", 5)
        if params:
            raise InvalidRequestError(f"params.{min(params)}", params[min(params)], "left out")
        wanted = set(plain_text(query, "query").lower().split())
        found = []
        for document in self.documents[bank_id].values():
            text = _text(document)
            if shared := len(wanted & set(text.lower().split())):
                found.append((shared, document, text))
        found = sorted(found, key=lambda hit: -hit[0])[:limit]
        chunks = [
            Chunk(content=text, token_count=len(text.split()), document_id=one.document_id, metadata=one.metadata)
            for _, one, text in found
        ]
        return QueryDocumentsResponse(chunks=chunks, scores=[float(shared) for shared, *_ in found])

    async def list_documents(self, bank_id: str) -> list[str]:
        return list(self.documents[bank_id])

    async def delete_documents(self, bank_id: str, document_ids: list[str]) -> None:
        for index, name in enumerate(document_ids):
            if name not in self.documents[bank_id]:
                raise InvalidRequestError(f"document_ids[{index}]", name, "a document of the bank")
        for name in document_ids:
            self.documents[bank_id].pop(name, None)

    def _put(self, bank: MemoryBankDef) -> None:
        self.banks[bank.identifier] = bank
        self.documents.setdefault(bank.identifier, {})


def _text(document: MemoryBankDocument) -> str:
    assert not isinstance(document.content, URL), "the provider refuses URLs"
    return plain_text(document.content, "content")


def serve_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let run configs name both types, for one test."""
    monkeypatch.setitem(providers.SAFETY_PROVIDER_TYPES, SAFETY_TYPE, f"{__name__}:WordShield")
    monkeypatch.setitem(providers.MEMORY_PROVIDER_TYPES, MEMORY_TYPE, f"{__name__}:DictionaryMemory")


def echo(provider_id: str = "echo") -> dict[str, Any]:
    return {"provider_id": provider_id, "provider_type": "inline::echo", "config": {}}


def safety(provider_id: str = "guard", *shields: str, **config: Any) -> dict[str, Any]:
    """Return the instance of a provider that runs these shields from the start."""
    config = {"shields": [{"identifier": name} for name in shields], **config}
    return {"provider_id": provider_id, "provider_type": SAFETY_TYPE, "config": config}


def memory(provider_id: str = "memory", *banks: str, **config: Any) -> dict[str, Any]:
    """Return the instance of a provider that stores these keyword banks from the start."""
    config = {"banks": [{"identifier": name, "type": "keyword"} for name in banks], **config}
    return {"provider_id": provider_id, "provider_type": MEMORY_TYPE, "config": config}


def config_of(
    inference: Sequence[dict[str, Any]] = (),
    safety: Sequence[dict[str, Any]] = (),
    memory: Sequence[dict[str, Any]] = (),
    **more: Any,
) -> dict[str, Any]:
    """Return a run config; without an inference provider, it has echo."""
    instances = {"inference": list(inference) or [echo()], "safety": list(safety), "memory": list(memory)}
    return {"image_name": "fakes", "providers": instances, **more}
