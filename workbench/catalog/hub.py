"""Models from the Hugging Face hub, through huggingface_hub with its usual cache, token and offline switch."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.catalog.progress import wants_bar
from workbench.errors import DownloadError, GatedModelError, OfflineError, UnknownModelError
from workbench.sentence_parts import LIST, part_files, read_parts

# Weights are read from safetensors only; the rest are the files of tokenizers, chat templates, image processors and
# sentence models.
_WANTED = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template.*",
    "processor_config.json",
    "preprocessor_config.json",
    "config_sentence_transformers.json",
    "sentence_*_config.json",
    "adapter_config.json",  # a model with one is refused by that name
    LIST,
)
_UNWANTED = ("consolidated*", "*/*.safetensors")  # the same weights a second time, in another layout


def fetch_snapshot(repo_id: str, *, allow_download: bool) -> Path:
    """Return the repository's snapshot in the hub's own cache; download it first if it is missing and that is allowed.

    Raises:
        ModelFormatError: it is a sentence model with a part that is not supported.
        UnknownModelError: the hub has no such repository, or does not show it to this account.
        GatedModelError: its terms must be accepted first.
        OfflineError: it is not in the hub's cache, and the network is missing, switched off, or not allowed.
        DownloadError: the hub returned any other error.
    """
    import httpx
    from huggingface_hub import constants, errors

    switched_off = constants.is_offline_mode()
    local = switched_off or not allow_download
    try:
        snapshot = _download(repo_id, _WANTED, local=local)
        if not local and (snapshot / LIST).exists():
            parts = [glob.escape(name) for name in part_files(read_parts(snapshot))]
            _download(repo_id, parts, local=local, revision=snapshot.name, unwanted=())
        return snapshot
    except errors.GatedRepoError as error:
        raise GatedModelError(
            f"{repo_id} is only for accounts that accepted its terms on the hub. Accept them at "
            f"https://huggingface.co/{repo_id}, log in with `hf auth login`, then try again."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UnknownModelError(
            f"the hub has no model {repo_id!r}, or it is private and this account has no access "
            f"(log in with `hf auth login`). Check the spelling of organization and name."
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, httpx.TransportError) as error:
        if isinstance(error.__cause__, errors.HfHubHTTPError):  # the hub answered, so the network works
            raise DownloadError(_refusal(repo_id, error.__cause__)) from error
        raise OfflineError(
            f"{repo_id} is not in the hub's cache on this machine, and {_reason(switched_off, allow_download)}."
        ) from error
    except errors.HfHubHTTPError as error:
        raise DownloadError(_refusal(repo_id, error)) from error
    except OSError as error:
        raise DownloadError(f"{repo_id} could not be stored in the hub's cache: {error}.") from error


def _download(
    repo_id: str,
    wanted: Sequence[str],
    *,
    local: bool,
    revision: str | None = None,
    unwanted: Sequence[str] = _UNWANTED,
) -> Path:
    from huggingface_hub import snapshot_download

    snapshot = snapshot_download(
        repo_id,
        revision=revision,
        allow_patterns=list(wanted),
        ignore_patterns=list(unwanted),
        local_files_only=local,
        tqdm_class=None if wants_bar() else _silent_bar(),
    )
    return Path(snapshot)


def _refusal(repo_id: str, error: Exception) -> str:
    return f"the hub did not deliver {repo_id}: {error}. Try again later."


def _reason(switched_off: bool, allow_download: bool) -> str:
    if switched_off:
        return "HF_HUB_OFFLINE switches downloads off: unset it, or give a local folder"
    if not allow_download:
        return "downloading is not allowed here: fetch it first with `hf download`"
    return "the hub cannot be reached: check the network, or give a local folder"


def _silent_bar() -> Any:
    """Return the hub's progress bar class, disabled; the hub's own switch would apply to the whole process."""
    from huggingface_hub.utils.tqdm import tqdm

    class SilentBar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **(kwargs | {"disable": True}))  # type: ignore[no-untyped-call]

    return SilentBar
