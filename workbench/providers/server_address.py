"""Address of a server and the secret for it, as the configs of the ``remote::`` providers give them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pydantic import SecretStr

from workbench.errors import InvalidRequestError

_TOKEN = re.compile(r"[\x21-\x7e]+")


def checked_url(value: str) -> str:
    """Return a base URL without a slash at its end; raise `InvalidRequestError` for any that is not allowed."""
    allowed = "an http:// or https:// URL with a host, and without a user name, a query or a fragment"
    try:
        parts = urlsplit(value)
        is_valid = parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        is_valid = False
    # Messages and logs show URLs, so these must contain no secret.
    if not is_valid or "@" in parts.netloc or parts.query or parts.fragment or re.search(r"[^\x21-\x7e]|\\", value):
        raise InvalidRequestError("url", "another value", allowed)
    return value.rstrip("/")


def checked_token(value: SecretStr | None) -> SecretStr | None:
    """Return a token that a header can have; raise `InvalidRequestError`, which does not show it, for any other."""
    if value is not None and not _TOKEN.fullmatch(value.get_secret_value()):
        raise InvalidRequestError("api_token", "another value", "visible ASCII characters without spaces")
    return value
