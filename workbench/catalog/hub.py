"""Models named by hub id, through huggingface_hub and its cache, token and offline switch, as everyone expects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.catalog.progress import wants_bar
from workbench.errors import DownloadError, GatedModelError, OfflineError, UnknownModelError

# Weights come as safetensors or not at all; the rest is what a tokenizer, a chat template, a
# processor of images or pooling is read from.
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
    "sentence_bert_config.json",
    "modules.json",
    "1_Pooling/config.json",
)
_UNWANTED = ("consolidated*", "*/*.safetensors")  # the same weights a second time, in another layout


def fetch_snapshot(repo_id: str, *, allow_download: bool) -> Path:
    """The repository's snapshot in the hub's own cache, downloaded if need be and allowed.

    Raises:
        UnknownModelError: the hub has no such repository, or does not show it to this account.
        GatedModelError: its terms must be accepted first.
        OfflineError: it is not in the hub's cache, and the network is missing, switched off, or not allowed.
        DownloadError: anything else that the hub answers.
    """
    import httpx
    from huggingface_hub import constants, errors, snapshot_download

    switched_off = constants.is_offline_mode()
    try:
        return Path(
            snapshot_download(
                repo_id,
                allow_patterns=list(_WANTED),
                ignore_patterns=list(_UNWANTED),
                local_files_only=switched_off or not allow_download,
                tqdm_class=None if wants_bar() else _silent_bar(),
            )
        )
    except errors.GatedRepoError as error:
        raise GatedModelError(
            f"the hub gives {repo_id} only to accounts that accepted its terms. Accept them at "
            f"https://huggingface.co/{repo_id}, log in with `hf auth login`, then try again."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UnknownModelError(
            f"the hub has no model {repo_id!r}, or it is private and this account may not see it "
            f"(`hf auth login` logs in). Check the spelling of organisation and name."
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, httpx.TransportError) as error:
        if isinstance(error.__cause__, errors.HfHubHTTPError):  # it answered; there is a network
            raise DownloadError(_refusal(repo_id, error.__cause__)) from error
        raise OfflineError(
            f"{repo_id} is not in the hub's cache on this machine, and {_reason(switched_off, allow_download)}."
        ) from error
    except errors.HfHubHTTPError as error:
        raise DownloadError(_refusal(repo_id, error)) from error
    except OSError as error:
        raise DownloadError(f"{repo_id} could not be stored in the hub's cache: {error}.") from error


def _refusal(repo_id: str, error: Exception) -> str:
    return f"the hub did not deliver {repo_id}: {error}. Try again later."


def _reason(switched_off: bool, allow_download: bool) -> str:
    if switched_off:
        return "HF_HUB_OFFLINE switches downloads off: unset it, or give a local folder"
    if not allow_download:
        return "downloading was not allowed here: fetch it first with `hf download`"
    return "the hub cannot be reached: check the network, or give a local folder"


def _silent_bar() -> Any:
    """The hub's bar, switched off for one call; its own switch is for the whole process."""
    from huggingface_hub.utils.tqdm import tqdm

    class SilentBar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **(kwargs | {"disable": True}))  # type: ignore[no-untyped-call]

    return SilentBar
