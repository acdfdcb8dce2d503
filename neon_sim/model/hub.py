"""Checkpoints from and to the Hugging Face hub, and data sets from it: folders stay folders, ids are fetched.

Nothing is pushed unasked.
"""

import re
from pathlib import Path
from typing import Any, Final

from neon_sim.model.backbones.trained import TRAINED_FILES
from neon_sim.model.checkpoint import OLD_WEIGHTS_FILE, WEIGHTS_FILE

_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES: Final = ["config.json", "action_space.json", WEIGHTS_FILE, OLD_WEIGHTS_FILE, "README.md", *TRAINED_FILES]


def local_folder(source: str | Path) -> Path:
    """The folder that `source` is, or that the hub's repository of this id was fetched into.

    Raises:
        FileNotFoundError: it is neither a folder nor an id, or the hub cannot be reached and holds no copy here.
        ImportError: it is an id, and huggingface_hub is not installed.
    """
    folder = Path(source)
    if folder.is_dir() or not isinstance(source, str):
        return folder
    if not _ID.fullmatch(source) or source.count("/") != 1:
        raise FileNotFoundError(f"{source!r} is neither a folder nor a hub id (OWNER/NAME).")
    advice = "Copy the checkpoint to this machine and pass its folder."
    return _fetched(source, "model", "folder", advice, allow_patterns=_FILES)


def dataset_folder(source: str) -> str:
    """The path `source` of a data set where there is one, else the folder that the hub's data set OWNER/NAME is in.

    A path that is neither comes back as it is: what opens it says best what it wanted to find there.

    Raises:
        FileNotFoundError: it is an id, and the hub cannot be reached and holds no copy here.
        ImportError: it is an id, and huggingface_hub is not installed.
    """
    if Path(source).exists() or not _ID.fullmatch(source):
        return source
    advice = "Download it, or record one with agents/collect.py, and pass its folder."
    return str(_fetched(source, "dataset", "data set", advice))


def _fetched(repo_id: str, kind: str, noun: str, advice: str, **options: Any) -> Path:
    """The folder that the hub's repository was fetched into, or lay in already."""
    hub = _hub()
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(hub.snapshot_download(repo_id, repo_type=kind, **options))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise FileNotFoundError(
            f"There is no {noun} {repo_id!r}, and the hub's repository of that name cannot be fetched ({error}). "
            f"{advice}"
        ) from error


def push_folder(folder: Path, repo_id: str, private: bool = True) -> str:
    """Upload a checkpoint folder to the hub, creating the repository if there is none; returns its address.

    Raises:
        ValueError: no explicit OWNER/NAME; the repository is there and public, and a private one was asked for.
        ImportError: huggingface_hub is not installed.
    """
    if not _ID.fullmatch(repo_id):
        raise ValueError(f"push_to_hub wants an explicit OWNER/NAME, got {repo_id!r}.")
    api = _hub().HfApi()
    if private and api.repo_exists(repo_id) and not api.repo_info(repo_id).private:
        raise ValueError(
            f"The hub's repository {repo_id!r} is public, and a private one was asked for: nothing was uploaded. Make "
            "it private there, choose another name, or ask for a public one (private=False, train_neon.py --public)."
        )
    api.create_repo(repo_id, private=private, exist_ok=True)
    return str(api.upload_folder(folder_path=str(folder), repo_id=repo_id, allow_patterns=_FILES))


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError("The hub needs huggingface_hub: pip install 'neon-sim[vla]'") from error
    return huggingface_hub
