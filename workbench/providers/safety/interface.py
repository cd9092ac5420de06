"""Base class of all safety providers.

A provider declares the types of shields that it runs and the parameters of a shield, and implements one method,
`SafetyProvider.judge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from workbench.errors import ConfigError, InvalidRequestError, ShieldNotFoundError
from workbench.protocol import ConfigModel, ProtocolModel, RunShieldResponse, ShieldDef
from workbench.providers.configured import ConfiguredProvider

if TYPE_CHECKING:
    from workbench.protocol import Message, Provider, SafetyViolation, ShieldStore
    from workbench.providers.model_access import ModelAccess


class ShieldParams(ProtocolModel):
    """Parameters of a shield, under ``params`` of its definition; a provider with parameters derives from it."""


class ShieldConfig(ConfigModel):
    """Shield that a provider runs from the start."""

    identifier: str = Field(min_length=1)
    """Name of the shield in requests."""
    type: str | None = None
    """Type of the shield; None for the first type of the provider."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the shield."""


class SafetyConfig(ConfigModel):
    """Settings under ``config`` in a run config; a provider with more settings derives from it."""

    shields: list[ShieldConfig] = Field(default_factory=list)
    """Shields that run from the start."""


class SafetyProvider(ConfiguredProvider):
    """Configured provider, which runs the shields that it lists under their plain names. Satisfies ``Safety``.

    Requests come from any event loop, several at a time.

    Args:
        models: served models that it may judge with.

    Raises:
        ConfigError: the config is wrong; the message names the provider and the key.
    """

    Config: ClassVar[type[ConfigModel]] = SafetyConfig
    Params: ClassVar[type[ShieldParams]] = ShieldParams
    """Class that ``params`` of a shield are parsed into."""
    shield_types: ClassVar[tuple[str, ...]] = ()
    """Types of shields that it runs; the first one is the default in its config."""

    def __init__(self, provider: Provider, models: ModelAccess) -> None:
        super().__init__(provider)
        self.models = models
        self.shield_store: ShieldStore = self
        try:
            self._shields = self._configured_shields(self.config, self.provider_type)
        except ConfigError as error:
            raise ConfigError(f"provider {self.provider_id!r}: config.{error}") from None

    # --------------------------------------------------------------------------------------- implemented by providers

    async def judge(self, messages: Sequence[Message], params: Any) -> SafetyViolation | None:
        """Return what is wrong with the last message, in the context of the others; None if nothing is.

        Args:
            params: an instance of ``Params``.

        Raises:
            ShieldError: there is no verdict, for example because a model's answer is none.
        """
        raise NotImplementedError

    def forget(self) -> None:
        """Drop what is kept of earlier calls of models, so that a recording that begins now has them all."""

    # ------------------------------------------------------------------------------------------------------ the config

    @classmethod
    def check_config(cls, config: ConfigModel, provider_type: str) -> None:
        """Raise `ConfigError` for a shield that this provider does not know, with its path in the config."""
        cls._configured_shields(config, provider_type)

    @classmethod
    def _configured_shields(cls, config: Any, provider_type: str) -> dict[str, ShieldDef]:
        shields: dict[str, ShieldDef] = {}
        for index, one in enumerate(config.shields):
            shield = ShieldDef(identifier=one.identifier, type=one.type or cls.shield_types[0], params=one.params)
            try:
                cls._check_definition(shield, provider_type)
            except InvalidRequestError as error:
                raise ConfigError(f"shields[{index}].{error}") from None
            if shield.identifier in shields:
                raise ConfigError(f"shields[{index}].identifier must be unique; got {shield.identifier!r} again")
            shields[shield.identifier] = shield
        return shields

    # ---------------------------------------------------------------------------------------------------- the protocol

    async def run_shield(
        self, shield_type: str, messages: list[Message], params: dict[str, Any] | None = None
    ) -> RunShieldResponse:
        """Check messages with the shield of that name; ``params`` replace those of its definition."""
        definition = self.get_shield(shield_type)
        merged = self.parsed_params({**definition.params, **(params or {})})
        return RunShieldResponse(violation=await self.judge(messages, merged))

    def get_shield(self, identifier: str) -> ShieldDef:
        """Return the definition of a shield; raise `ShieldNotFoundError` for any other name."""
        try:
            return self._shields[identifier]
        except KeyError:
            raise ShieldNotFoundError(identifier, list(self._shields)) from None

    async def list_shields(self) -> list[ShieldDef]:
        """Return the shields of the config and those that were registered."""
        return list(self._shields.values())

    async def register_shield(self, shield: ShieldDef) -> None:
        """Run one more shield; raise `InvalidRequestError` for a type or parameters that it does not know."""
        self._check_definition(shield, self.provider_type)
        self._shields[shield.identifier] = shield

    async def unregister_shield(self, identifier: str) -> None:
        """Stop running a shield; raise `ShieldNotFoundError` if it does not run."""
        self.get_shield(identifier)
        self._shields.pop(identifier, None)

    @classmethod
    def _check_definition(cls, shield: ShieldDef, provider_type: str) -> None:
        if shield.type not in cls.shield_types:
            allowed = f"one of {', '.join(cls.shield_types)}: {provider_type} runs no others"
            raise InvalidRequestError("type", shield.type, allowed)
        cls.parsed_params(shield.params)

    @classmethod
    def parsed_params(cls, params: dict[str, Any]) -> Any:
        """Return parameters as an instance of ``Params``; the fields in errors begin with ``params``."""
        try:
            return cls.Params.model_validate(params)
        except InvalidRequestError as error:
            raise InvalidRequestError(f"params.{error.field}", error.given, error.allowed) from None
