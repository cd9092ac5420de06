"""The config of a ``remote::qdrant`` provider."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from workbench.providers.memory.config import DocumentConfig
from workbench.providers.server_address import checked_token, checked_url


class QdrantConfig(DocumentConfig):
    """The ``config`` of a ``remote::qdrant`` provider in a run config: either ``url`` or ``path``."""

    url: str | None = None
    """Base URL of the server, such as ``http://host:6333``, which is the port unless another is given."""
    path: str | None = Field(default=None, min_length=1)
    """Folder of an embedded store instead of a server; one process may use it at a time."""
    api_token: SecretStr | None = None
    """API key of the server; best given as ``${env.NAME}``."""
    collection_prefix: str = Field(default="workbench", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """Beginning of the names of the collections; workbenches with the same one have the same banks."""
    timeout_s: int = Field(default=60, ge=1, le=3600)
    """Longest wait for an answer of the server."""

    @property
    def token(self) -> str | None:
        return self.api_token.get_secret_value() if self.api_token else None

    @field_validator("url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return None if value is None else checked_url(value)

    @field_validator("api_token")
    @classmethod
    def _header_value(cls, value: SecretStr | None) -> SecretStr | None:
        return checked_token(value)
