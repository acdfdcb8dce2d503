"""What training changed of a backbone, kept inside the checkpoint of the heads that learned on it.

Heads and the features that they were trained on belong together. A LoRA adapter lies in `adapter/`; a backbone that is
small enough to be kept as a whole, the compact one or TRIBEv2's cross-modal transformer, in `backbone/`.
"""

import shutil
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from torch import Tensor

from neon_sim.model.backbones.chat_backbone import ChatBackbone
from neon_sim.model.backbones.tribe import FUSION_FILE, TribeBackbone, save_tribe
from neon_sim.model.compact import CompactBackbone, save_compact
from neon_sim.model.video_backbone import BackboneConfig, VideoBackbone

ADAPTER: Final = "adapter"
BACKBONE: Final = "backbone"
# In the order in which they are put into place: the weights last, for they say that the folder is whole.
_FILES: Final = {
    ADAPTER: ("adapter_config.json", "adapter_model.safetensors"),
    BACKBONE: ("config.json", "backbone.safetensors", FUSION_FILE),
}
TRAINED_FILES: Final = tuple(f"{folder}/{name}" for folder, names in _FILES.items() for name in names)
_CHECKPOINT_MARK: Final = "action_space.json"  # only a checkpoint of heads has one


def save_trained(backbone: VideoBackbone, config: BackboneConfig, folder: Path) -> BackboneConfig:
    """Write into a checkpoint what training changed of its backbone; nothing for one as it came.

    A backbone that learns is written as it is now; one that was trained before is copied from where it lies. Weights
    that are spread over several processes are left to the trainer, which alone can put them together: `save_learned`.

    Returns:
        The config for the checkpoint's config.json, which names what lies beside it by its place in the checkpoint.
    """
    learned = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    if any(hasattr(parameter, "full_tensor") for parameter in learned):  # a DTensor
        return config
    if hasattr(getattr(backbone, "model", None), "peft_config"):
        _save_adapter(backbone, folder / ADAPTER)
    elif config.adapter is not None:
        _copy(Path(config.adapter), folder / ADAPTER, _FILES[ADAPTER])
    elif learned and isinstance(backbone, TribeBackbone):
        save_tribe(backbone, folder / BACKBONE)
    elif learned and isinstance(backbone, CompactBackbone):
        save_compact(backbone, folder / BACKBONE)
    elif config.weights is not None and _in_checkpoint(Path(config.weights)):
        _copy(Path(config.weights), folder / BACKBONE, _FILES[BACKBONE])
    else:
        return config
    return replace(config, adapter=ADAPTER) if isinstance(backbone, ChatBackbone) else replace(config, weights=BACKBONE)


def save_learned(backbone: VideoBackbone, learned: Mapping[str, Tensor], folder: Path) -> None:
    """Write into a checkpoint what `save_trained` leaves to the trainer: weights that are spread over processes.

    The checkpoint's config.json need not name them: `with_trained` finds what was learned with `freeze_backbone=False`.

    Args:
        learned: all that learns of the backbone, whole, under the names of its `named_parameters`.
    """
    if hasattr(getattr(backbone, "model", None), "peft_config"):
        _save_adapter(backbone, folder / ADAPTER, _below("model.", learned))
    elif isinstance(backbone, TribeBackbone):
        save_tribe(backbone, folder / BACKBONE, _below("fusion.", learned))
    elif isinstance(backbone, CompactBackbone):
        save_compact(backbone, folder / BACKBONE, learned)


def with_trained(config: BackboneConfig, folder: Path) -> BackboneConfig:
    """The config of a checkpoint's backbone with what lies beside it put on, frozen.

    Training had `freeze_backbone=False`; whoever loads the heads wants the features that they know. A warning says when
    a checkpoint was trained so and holds nothing of it.
    """
    learned = not config.freeze_backbone
    if config.adapter == ADAPTER or (learned and _holds(folder, ADAPTER)):
        return replace(config, adapter=str(folder / ADAPTER), freeze_backbone=True)
    if config.weights == BACKBONE or (learned and _holds(folder, BACKBONE)):
        return replace(config, weights=str(folder / BACKBONE), freeze_backbone=True)
    if learned and config.adapter is None:
        warnings.warn(
            f"{folder} was saved with freeze_backbone=False and holds neither {ADAPTER}/ nor {BACKBONE}/: its heads "
            "get the features of the untrained backbone. Copy what was trained beside its config.json.",
            stacklevel=3,
        )
    return config


def _holds(folder: Path, name: str) -> bool:
    return any((folder / name / file).is_file() for file in _FILES[name] if file.endswith(".safetensors"))


def _below(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def _save_adapter(backbone: Any, folder: Path, learned: Mapping[str, Tensor] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".adapter") as fresh:
        backbone.save_adapter(fresh, learned)
        _move(Path(fresh), folder, _FILES[ADAPTER])


def _copy(source: Path, folder: Path, names: Iterable[str]) -> None:
    """Copy those of the files that there are; a folder onto itself is left alone."""
    if folder.exists() and folder.samefile(source):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".trained") as fresh:
        for name in names:
            if (source / name).is_file():
                shutil.copyfile(source / name, Path(fresh) / name)
        _move(Path(fresh), folder, names)


def _move(source: Path, folder: Path, names: Iterable[str]) -> None:
    for name in names:
        if (source / name).is_file():
            (source / name).replace(folder / name)


def _in_checkpoint(folder: Path) -> bool:
    return folder.name == BACKBONE and (folder.parent / _CHECKPOINT_MARK).is_file()
