"""Base classes of the protocol's models, which refuse unknown fields and raise the workbench's own errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from workbench.errors import WorkbenchError
from workbench.protocol.refusal import config_error, invalid_request


class ProtocolModel(BaseModel):
    """Base class of the protocol's types.

    The constructor, ``model_validate`` and ``model_validate_json`` raise ``InvalidRequestError`` with the path of the
    field, and refuse unknown fields. To read the answer of another or newer server, pass ``extra="ignore"`` to
    ``model_validate``. Floats are never NaN or infinite.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, ser_json_inf_nan="null")

    if not TYPE_CHECKING:  # type checkers see the constructor that pydantic derives from the fields

        def __init__(self, /, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                raise self._refusal(error, data) from None

        # With this mark, pydantic validates nested models directly. Otherwise it would call the constructor for each of
        # them, which costs time and loses the path of the field.
        __init__.__pydantic_base_init__ = True

        @classmethod
        def model_validate(cls, obj: Any, **options: Any) -> ProtocolModel:
            try:
                return super().model_validate(obj, **options)
            except ValidationError as error:
                raise cls._refusal(error, obj) from None

        @classmethod
        def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> ProtocolModel:
            try:
                return super().model_validate_json(json_data, **options)
            except ValidationError as error:
                raise cls._refusal(error, _parsed(json_data)) from None

    @classmethod
    def _refusal(cls, error: ValidationError, data: object) -> WorkbenchError:
        return invalid_request(error, data, cls)


class ConfigModel(ProtocolModel):
    """Base class of the parts of a run config. Like ``ProtocolModel``, but errors are ``ConfigError``.

    The docstring of a field is its description in the JSON schema.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    @classmethod
    def _refusal(cls, error: ValidationError, data: object) -> WorkbenchError:
        return config_error(error, data, cls)


def _parsed(json_data: str | bytes | bytearray) -> object:
    try:
        return from_json(json_data)
    except ValueError:
        return None
