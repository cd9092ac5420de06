"""The part of a config that all providers with documents have: what a request may bring."""

from __future__ import annotations

from ipaddress import ip_network

from pydantic import Field, field_validator

from workbench.paths import typed_path
from workbench.protocol import ConfigModel
from workbench.providers.memory.documents import ACCEPTED, DocumentSources
from workbench.urls.sources import checked_hosts, checked_networks, checked_root
from workbench.urls.web import WebClient


class DocumentConfig(ConfigModel):
    """Limits and sources of the documents in requests."""

    max_document_bytes: int = Field(default=20_000_000, ge=1, le=500_000_000)
    """Longest document, as bytes of its file and of the text in it."""
    max_insert_bytes: int = Field(default=200_000_000, ge=1, le=2_000_000_000)
    """Most text in the documents of one call, all of which are in memory at once."""

    document_root: str | None = None
    """Folder from which documents may be read by ``file:`` URL; None reads no files."""
    document_hosts: list[str] = Field(default_factory=list)
    """Hosts, as ``name`` or ``name:port``, from which documents may be fetched; empty fetches none."""
    document_networks: list[str] = Field(default_factory=list)
    """Private networks, such as ``10.1.0.0/16``, in which those hosts may be."""

    @property
    def sources(self) -> DocumentSources:
        """Permitted sources of the documents in requests."""
        networks = tuple(map(ip_network, self.document_networks))
        hosts = frozenset(self.document_hosts)
        return DocumentSources(
            root=typed_path(self.document_root, "document_root") if self.document_root else None,
            web=WebClient(hosts, networks, accept=ACCEPTED, setting="document_hosts") if hosts else None,
        )

    @field_validator("document_root")
    @classmethod
    def _folder(cls, value: str | None) -> str | None:
        return checked_root(value, "document_root")

    @field_validator("document_hosts")
    @classmethod
    def _hosts(cls, value: list[str]) -> list[str]:
        return checked_hosts(value, "document_hosts")

    @field_validator("document_networks")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        return checked_networks(value, "document_networks")
