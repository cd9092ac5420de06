"""Errors of the hub as errors of the catalog, each with what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from workbench.catalog.hub_id import HubId
from workbench.errors import CatalogError, DownloadError, GatedModelError, OfflineError, UnknownModelError

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

_TOKENS = "https://huggingface.co/settings/tokens"
_REJECTS = "Invalid credentials in Authorization header"
"""Message of the hub that tells a token that is not valid from a repository that is missing or private."""

_LATER = "Try again later: a download continues where it ended."


def http_error() -> type[Exception]:
    """Return the base of all errors of the hub and of its HTTP client, httpx or httpx2 depending on the version."""
    from huggingface_hub import errors

    return cast("type[Exception]", errors.HfHubHTTPError.__bases__[0])


def refusal(hub_id: HubId, error: BaseException) -> CatalogError:
    """Return the catalog's error for one of huggingface_hub, of its HTTP client or of the disk."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, http_error()):
        error = error.__cause__  # what the request for one file failed with
    if isinstance(error, errors.HfHubHTTPError):
        return _answered(hub_id, error)
    if isinstance(error, (http_error(), errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)):
        return OfflineError(
            f"{hub_id} could not be downloaded: the hub cannot be reached, or the connection broke off "
            f"({_first_line(error)}). Check the network, or give a local folder. {_LATER}"
        )
    return DownloadError(f"{hub_id} could not be stored in the hub's cache: {error}.")


def _answered(hub_id: HubId, error: HfHubHTTPError) -> CatalogError:
    """Return the error for an answer of the hub, which has a status code."""
    from huggingface_hub import errors

    status = error.response.status_code
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return _gated(hub_id)
    rejects_token = error.response.headers.get("X-Error-Message") == _REJECTS
    if isinstance(error, errors.RepositoryNotFoundError) or (status == 401 and not rejects_token):
        return UnknownModelError(
            f"the hub has no model {hub_id.repo_id!r}, or it is private. Check the spelling of organization and name; "
            f"for a private model, {_log_in()}."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UnknownModelError(f"{hub_id.repo_id} has no revision {hub_id.revision!r}. {_revisions(hub_id)}")
    if rejects_token:
        return GatedModelError(
            f"the hub does not accept the token for {hub_id}: it is expired, revoked, or mistyped in HF_TOKEN. "
            f"Create one at {_TOKENS}, and set HF_TOKEN to it or log in with `hf auth login`."
        )
    return DownloadError(f"the hub did not deliver {hub_id}: {_first_line(error)}. {_LATER}")


def _gated(hub_id: HubId) -> GatedModelError:
    from huggingface_hub import get_token

    page = f"https://huggingface.co/{hub_id.repo_id}"
    if get_token() is None:
        return GatedModelError(
            f"{hub_id} is only for accounts that accepted its terms on the hub. Accept them at {page}; then "
            f"{_log_in()}."
        )
    return GatedModelError(
        f"{hub_id} is only for accounts that accepted its terms on the hub, and the account of your token has no "
        f"access. Accept them at {page}; some authors must approve it, which takes time. A fine-grained token also "
        f"needs the permission to read gated repositories ({_TOKENS})."
    )


def _log_in() -> str:
    return f"set HF_TOKEN to a token of your account ({_TOKENS}), or log in with `hf auth login`"


def _revisions(hub_id: HubId) -> str:
    """Return a sentence with the branches and tags of a repository."""
    from huggingface_hub import HfApi

    try:
        refs = HfApi().list_repo_refs(hub_id.repo_id)
    except Exception:  # noqa: BLE001 - without the list, the advice is less specific
        return "Give one of its branches, tags or commits."
    names = [one.name for one in [*refs.branches, *refs.tags]]
    return f"Give a commit, or one of its branches and tags: {', '.join(names[:10])}{', …' if names[10:] else ''}."


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
