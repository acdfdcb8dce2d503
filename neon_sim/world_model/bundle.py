"""A trained world model with all that planning needs beside it, in one folder."""

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from neon_sim.shipped import walker_fingerprint
from neon_sim.world_model.amortised import AmortisedConfig, AmortisedHead
from neon_sim.world_model.command_space import CommandSpace, command_space
from neon_sim.world_model.lewm import WEIGHTS_FILE, LeWM, load_world_model, save_world_model
from neon_sim.world_model.readout import GoalReader, ReaderConfig, Readout
from neon_sim.world_model.sight import Sight

PARTS_FILE, DESCRIPTION_FILE = "parts.safetensors", "parts.json"
PROVENANCE_FILE: Final = "provenance.json"  # what made the weights (agents/train_world_model.py)
HEADS: Final = ("cloned", "amortised")


@dataclass(frozen=True)
class Bundle:
    """One task's world model and its parts."""

    task: str
    model: LeWM
    readout: Readout
    reader: GoalReader | None = None  # what words mean
    cloned: AmortisedHead | None = None  # taught by what was done (goal-conditioned behaviour cloning)
    amortised: AmortisedHead | None = None  # distilled from a planner
    sight: Sight | None = None  # where the box is now, in push_box

    @property
    def space(self) -> CommandSpace:
        """The commands that it plans in."""
        return command_space(self.task)


def save_bundle(bundle: Bundle, folder: Path, half: bool = False) -> None:
    """Write the model, then its parts; each file is replaced as a whole.

    half: matrices as 16-bit floats, half the size; everything that a number is divided by stays exact. They are loaded
    as 32-bit floats again.
    """
    from safetensors.torch import load_file

    save_world_model(bundle.model, folder)
    if half:
        _save_weights(_halved(load_file(folder / WEIGHTS_FILE)), folder / WEIGHTS_FILE)
    parts, description = _parts(bundle), {"task": bundle.task}
    weights = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    described = description | {name: asdict(part.config) for name, part in parts.items() if hasattr(part, "config")}
    _save_weights(_halved(weights) if half else weights, folder / PARTS_FILE)
    partial = folder / (DESCRIPTION_FILE + ".partial")
    partial.write_text(json.dumps(described, indent=2) + "\n")
    partial.replace(folder / DESCRIPTION_FILE)


def load_bundle(folder: Path) -> Bundle:
    """Load what `save_bundle` wrote, everything in eval mode.

    Warns of one that learned from another walker than today's, or whose provenance does not tell from which. Raises
    ValueError for a folder that is not a whole bundle; nothing is half-loaded.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    model = load_world_model(folder)
    try:
        described: dict[str, Any] = json.loads((folder / DESCRIPTION_FILE).read_text())
        weights = load_file(folder / PARTS_FILE)
        task = command_space(described["task"]).task
        readout = _filled(Readout.empty(model.config.dim, task), "readout", weights)
        heads = {
            name: _filled(AmortisedHead(AmortisedConfig(**described[name])), name, weights)
            for name in HEADS
            if name in described
        }
        reader = None
        if "reader" in described:
            reader = _filled(GoalReader(ReaderConfig(**described["reader"])), "reader", weights)
        sight = None
        if any(key.startswith("sight.") for key in weights):
            sight = _filled(Sight.empty(model.config.dim), "sight", weights)
    except (OSError, KeyError, TypeError, RuntimeError, json.JSONDecodeError, SafetensorError) as error:
        raise ValueError(
            f"{folder} does not hold a whole world model with its parts ({error}). Train one of the task in question: "
            "python agents/train_world_model.py --task TASK"
        ) from error
    doubt = doubt_of_walker(folder)
    if doubt is not None:
        again = f"Where plans go astray, train anew: python agents/train_world_model.py --task {task}"
        warnings.warn(f"{doubt} {again}", stacklevel=2)
    return Bundle(task, model, readout, reader, sight=sight, **heads)


def other_walker(folder: Path) -> list[str]:
    """What of the walker has changed since a bundle's recordings, by the names of `walker_fingerprint`; nothing for
    one whose provenance does not tell.
    """
    theirs = (_provenance(folder) or {}).get("walker")
    return [name for name, value in walker_fingerprint().items() if theirs is not None and theirs.get(name) != value]


def doubt_of_walker(folder: Path) -> str | None:
    """Why a bundle may not know today's walker; None if it does, and for one that has no provenance yet: it is being
    made.
    """
    differs, told = other_walker(folder), _provenance(folder)
    if differs:
        return f"{folder} learned from recordings of another walker ({', '.join(differs)})."
    if told is not None and told.get("walker") is None:
        return f"{folder / PROVENANCE_FILE} does not tell the walker that it learned from recordings of."
    return None


def _provenance(folder: Path) -> dict[str, Any] | None:
    path = folder / PROVENANCE_FILE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _halved(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Layers' matrices in 16 bits. Statistics, biases and places stay: some are tiny, and places tell the dtype."""
    return {
        name: value.half() if name.endswith(".weight") and value.ndim > 1 and value.dtype == torch.float32 else value
        for name, value in weights.items()
    }


def _save_weights(weights: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    partial = path.with_name(path.name + ".partial")
    save_file({key: value.contiguous() for key, value in weights.items()}, partial)
    partial.replace(path)


def _parts(bundle: Bundle) -> dict[str, Any]:
    named = {name: getattr(bundle, name) for name in ("readout", "reader", "sight", *HEADS)}
    return {name: part for name, part in named.items() if part is not None}


def _filled(module: Any, name: str, weights: dict[str, Tensor]) -> Any:
    prefix = f"{name}."
    module.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    return module.requires_grad_(False).eval()
