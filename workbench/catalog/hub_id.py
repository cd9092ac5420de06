"""Ids of models on the Hugging Face hub, with or without a revision."""

from __future__ import annotations

import re
from dataclasses import dataclass

from workbench.errors import UnknownModelError

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REPO_ID = re.compile(rf"{_PART}/{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,200}(?:/[A-Za-z0-9_][A-Za-z0-9._+-]{0,200}){0,8}")


@dataclass(frozen=True, slots=True)
class HubId:
    """A model on the hub: ``organization/name``, or ``organization/name@revision``."""

    repo_id: str
    revision: str | None = None
    """Branch, tag or commit; None is the default branch."""

    def __str__(self) -> str:
        return self.repo_id if self.revision is None else f"{self.repo_id}@{self.revision}"


def parse_hub_id(text: str) -> HubId | None:
    """Return the hub id that a text is; None unless it begins with ``organization/name``.

    Raises:
        UnknownModelError: what follows the ``@`` cannot be the name of a branch, a tag or a commit.
    """
    repo_id, at, revision = text.partition("@")
    if not _REPO_ID.fullmatch(repo_id) or ".." in repo_id or "--" in repo_id or repo_id.endswith(".git"):
        return None
    if not at:
        return HubId(repo_id)
    if not _REVISION.fullmatch(revision) or ".." in revision or revision.endswith((".", ".lock")):
        raise UnknownModelError(
            f"{text[:200]!r} has no valid revision after the @: give a branch, a tag or a commit of {repo_id}, such as "
            f"{repo_id}@main."
        )
    return HubId(repo_id, revision)
