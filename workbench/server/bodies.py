"""From the bytes of a request to the arguments of a protocol method."""

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
    """Base of the bodies of requests: JSON has types of its own, so nothing is converted into another."""

    model_config = ConfigDict(strict=True)


def request_model(route: Route) -> type[RequestModel]:
    """The body of a route: the parameters of its method by name, with their types and defaults."""
    hints = get_type_hints(route.function, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints[name], ... if parameter.default is inspect.Parameter.empty else parameter.default)
        for name, parameter in inspect.signature(route.function).parameters.items()
        if name != "self"
    }
    title = "".join(word.capitalize() for word in route.name.split("_"))
    return create_model(f"{title}Body", __base__=RequestModel, **fields)


async def read_body(request: Request, model: type[Body], max_bytes: int) -> Body:
    """The body of a request.

    Raises:
        Refusal: it is no JSON by its content type, or larger than allowed.
        InvalidRequestError: it is no JSON after all, or its fields are wrong.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(415, "the body must be JSON with the header Content-Type: application/json")
    body = await _bytes(request, max_bytes)
    try:
        # Once more than pydantic reads it: of two values for one key it would take the last without a word.
        jiter.from_json(body, catch_duplicate_keys=True, allow_inf_nan=False, cache_mode="none")
    except ValueError as error:
        raise InvalidRequestError("body", f"{len(body)} bytes", f"valid JSON ({error})") from None
    return model.model_validate_json(body)


async def _bytes(request: Request, max_bytes: int) -> bytes:
    too_large = Refusal(413, f"the body must be at most {max_bytes} bytes on this server")
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > max_bytes:
        raise too_large
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            raise too_large
        parts.append(part)
    return b"".join(parts)
