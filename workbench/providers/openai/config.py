"""The config of the ``remote::`` providers that speak OpenAI's HTTP API."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import Field, SecretStr, field_validator

from workbench.errors import InvalidRequestError
from workbench.protocol import ConfigModel, SamplingStrategy
from workbench.providers.capabilities import Capabilities
from workbench.providers.interface import ModelName
from workbench.providers.server_address import checked_token, checked_url
from workbench.sampling_stages import SAMPLING_STAGES

if TYPE_CHECKING:
    Ability: TypeAlias = str
else:  # a type checker cannot read the table
    Ability = Literal[
        "completion",
        "chat",
        "embeddings",
        "images",
        "sampling",
        "seed",
        "stop",
        *(stage.field for stage in SAMPLING_STAGES if stage.is_ability),
        "logprobs",
        "prompt_logprobs",
        "tools",
        "required_tool_choice",
        "response_formats",
    ]
"""What a server may lack: `Capabilities`' own names, and ``sampling`` for seeds and all strategies but greedy."""


class OpenAIConfig(ConfigModel):
    """The ``config`` of one of these providers in a run config."""

    url: str
    """Base URL of the API, such as ``http://host:8000/v1``, without a user name, a query or a fragment."""
    api_token: SecretStr | None = None
    """Sent as a bearer token; best given as ``${env.NAME}``."""
    models: list[ModelName] = Field(default_factory=list)
    """Names of the server's models to serve; empty serves all that it lists."""
    embedding_models: list[ModelName] = Field(default_factory=list)
    """Names of the server's models that only make embeddings."""
    lacks: list[Ability] = Field(default_factory=list)
    """Features that the server lacks; requests that need one are refused here instead of being ignored there."""
    max_logprobs: int | None = Field(default=None, ge=1, le=1000)
    """Most probable tokens that the server can return for a position; None uses the usual limit of its kind."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Name of the token limit in this server's chat requests; OpenAI's newest models need the longer one."""

    connect_timeout_s: float = Field(default=10.0, gt=0)
    """Longest wait for a connection."""
    timeout_s: float = Field(default=300.0, gt=0)
    """Longest wait for data from the server, before and during an answer."""
    max_retries: int = Field(default=3, ge=0, le=10)
    """Retries of requests that the server cannot have started, and of those that are harmless to repeat."""
    max_connections: int = Field(default=64, ge=1, le=1024)
    """Concurrent requests on each event loop; more wait their turn."""

    @property
    def token(self) -> str | None:
        return self.api_token.get_secret_value() if self.api_token else None

    @property
    def root_url(self) -> str:
        """URL of the server itself, for routes outside of OpenAI's API."""
        return self.url.removesuffix("/v1")

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        return checked_url(value)

    @field_validator("api_token")
    @classmethod
    def _header_value(cls, value: SecretStr | None) -> SecretStr | None:
        return checked_token(value)

    @field_validator("models", "embedding_models")
    @classmethod
    def _names(cls, value: list[str]) -> list[str]:
        if not all(name.strip() for name in value) or len(set(value)) < len(value):
            raise InvalidRequestError("models", value, "a list of distinct, non-empty model names")
        return value


def narrowed(capabilities: Capabilities, config: OpenAIConfig, max_logprobs: int) -> Capabilities:
    """Return a dialect's capabilities without those that the server lacks."""
    # One more than the alternatives, because the sampled token may be among the most probable ones.
    remaining = replace(capabilities, max_top_k=(config.max_logprobs or max_logprobs) - 1)
    absent: dict[str, Any] = {
        "sampling": {"strategies": frozenset({SamplingStrategy.greedy}), "seed": False},
        "response_formats": {"response_formats": frozenset()},
        "logprobs": {"logprobs": False, "prompt_logprobs": False},
        "tools": {"tools": False, "required_tool_choice": False},
    }
    for ability in config.lacks:
        remaining = replace(remaining, **absent.get(ability, {ability: False}))
    return remaining
