"""Parsing of request bodies into the arguments of protocol methods."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import jiter
from pydantic import ConfigDict, create_model

from workbench.errors import InvalidRequestError
from workbench.protocol import ProtocolModel, Route
from workbench.server.faults import Refusal

if TYPE_CHECKING:
    from fastapi import Request

Body = TypeVar("Body", bound=ProtocolModel)


class RequestModel(ProtocolModel):
    """Base class of request bodies; strict, because JSON has types and no value needs a conversion."""

    model_config = ConfigDict(strict=True)


def request_model(route: Route) -> type[RequestModel]:
    """Return the body type of a route: the parameters of its method, with their types and defaults."""
    hints = get_type_hints(route.function, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints[name], ... if parameter.default is inspect.Parameter.empty else parameter.default)
        for name, parameter in inspect.signature(route.function).parameters.items()
        if name != "self"
    }
    title = "".join(word.capitalize() for word in route.name.split("_"))
    return create_model(f"{title}Body", __base__=RequestModel, **fields)


async def read_body(request: Request, model: type[Body], max_bytes: int) -> Body:
    """Return the parsed body of a request.

    Raises:
        Refusal: its content type is not JSON, or it is larger than ``max_bytes``.
        InvalidRequestError: it is not valid JSON, or a field is invalid.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(415, "the body must be JSON with the header Content-Type: application/json")
    body = await _bytes(request, max_bytes)
    try:
        # Parsed here too, because pydantic would silently take the last of two values for one key.
        jiter.from_json(body, catch_duplicate_keys=True, allow_inf_nan=False, cache_mode="none")
    except ValueError as error:
        raise InvalidRequestError("body", f"{len(body)} bytes", f"valid JSON ({error})") from None
    return model.model_validate_json(body)


async def _bytes(request: Request, max_bytes: int) -> bytes:
    too_large = Refusal(413, f"the body must be at most {max_bytes} bytes on this server")
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > max_bytes:
        raise too_large
    received, size = [], 0
    async for data in request.stream():
        size += len(data)
        if size > max_bytes:
            raise too_large
        received.append(data)
    return b"".join(received)
