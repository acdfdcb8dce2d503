"""What a checkpoint folder holds: config.json, action_space.json, weights. Reading one executes nothing from it."""

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from neon_sim.g1.action_space import G1ActionSpace

WEIGHTS_FILE: Final = "neon_weights.safetensors"
OLD_WEIGHTS_FILE: Final = "neon_weights.pt"  # the documents' name; read, never written (D12)
FORMAT: Final = 1


class Checkpoint(NamedTuple):
    """A folder's contents."""

    config: dict[str, Any]
    action_space: G1ActionSpace
    weights: dict[str, Tensor]


def write_checkpoint(
    folder: Path, config: Mapping[str, Any], action_space: G1ActionSpace, weights: Mapping[str, Tensor]
) -> None:
    """Write a folder; each file is replaced as a whole, so that a reader never sees half of one."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / (WEIGHTS_FILE + ".partial")
    save_file({name: value.contiguous() for name, value in weights.items()}, partial)
    partial.replace(folder / WEIGHTS_FILE)
    replace_text(folder / "config.json", json.dumps({"format": FORMAT, **config}, indent=2) + "\n")
    replace_text(folder / "action_space.json", action_space.to_json())


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """A fingerprint of names and values, the same wherever they lie."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read what `write_checkpoint` wrote, or the documents' neon_weights.pt in the place of its weights.

    Raises:
        ValueError: a part is missing, damaged, or of a later format.
    """
    from safetensors import SafetensorError

    try:
        config = json.loads((folder / "config.json").read_text())
        written_as = config.pop("format", FORMAT)
        if written_as == FORMAT:  # a later one may keep the rest under other names
            action_space = G1ActionSpace.from_json((folder / "action_space.json").read_text())
            return Checkpoint(config, action_space, _read_weights(folder))
    except (OSError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise ValueError(
            f"{folder} does not hold a whole Neon checkpoint ({error}). Make one: agents/pretrain.py"
        ) from error
    raise ValueError(f"{folder} has format {written_as}; this version reads {FORMAT}. Upgrade neon_sim.")


def _read_weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    if (folder / WEIGHTS_FILE).exists() or not (folder / OLD_WEIGHTS_FILE).exists():
        return load_file(folder / WEIGHTS_FILE)
    try:
        return dict(torch.load(folder / OLD_WEIGHTS_FILE, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:  # code in it, or no archive at all
        raise OSError(f"{OLD_WEIGHTS_FILE}: {error}") from error


def grown_weights(weights: Mapping[str, Tensor], had: G1ActionSpace, fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights for a model with other action groups: the trained ones where there are any, `fresh` ones for new heads.

    Args:
        weights: of the checkpoint.
        had: the action space it was made for.
        fresh: the whole state of the model that is to have them, as initialised.

    Raises:
        ValueError: something else than an action head differs.
    """
    prefix = "action_head.heads."
    heads = {name.removeprefix(prefix).split(".")[0] for name in fresh if name.startswith(prefix)}
    groups = set(had.groups)
    added, dropped = (tuple(f"{prefix}{name}." for name in part) for part in (heads - groups, groups - heads))
    missing = [name for name in fresh if name not in weights and not name.startswith(added)]
    unknown = [name for name in weights if name not in fresh and not name.startswith(dropped)]
    if missing or unknown:
        raise ValueError(
            f"Only action heads may differ when a checkpoint grows; missing {missing[:3]}, unknown {unknown[:3]}. "
            f"Keep the other settings of its config.json."
        )
    return {name: weights.get(name, value) for name, value in fresh.items()}


def replace_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)
