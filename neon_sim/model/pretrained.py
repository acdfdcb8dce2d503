"""A policy as a folder or a repository of the hub: weights, config, action space, model card."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from torch import nn

from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.model.backbones.loading import pick_device
from neon_sim.model.backbones.trained import save_trained, with_trained
from neon_sim.model.card import CARD, model_card, put_told
from neon_sim.model.checkpoint import digest_of, grown_weights, read_checkpoint, replace_text, write_checkpoint
from neon_sim.model.hub import local_folder, push_folder
from neon_sim.model.neon_config import NeonConfig
from neon_sim.model.video_backbone import COMPACT, BackboneConfig, VideoBackbone


class Pretrained(nn.Module):
    """What a `NeonVLA` does with files; it builds itself from a config and, if there is one, a backbone."""

    config: NeonConfig
    action_space: G1ActionSpace

    def __init__(self, config: NeonConfig | None = None, backbone: VideoBackbone | None = None) -> None:
        super().__init__()
        self._loaded = ("", "")  # digest of the weights that were loaded, and the model card that lay with them

    @property
    def backbone(self) -> VideoBackbone:
        """The frozen foundation model."""
        raise NotImplementedError

    def parameter_table(self) -> dict[str, int]:
        """Parameters by component."""
        raise NotImplementedError

    def save_pretrained(
        self,
        folder: str | Path,
        training: Mapping[str, Any] | None = None,
        results: Sequence[Mapping[str, Any]] = (),
        name: str | None = None,
    ) -> None:
        """Write config.json, action_space.json, the weights (safetensors) and a model card, each replaced as a whole.

        A backbone stays out of it, but what was trained of one lies beside (`neon_sim.model.backbones.trained`).
        training and results go into the card: what made the weights, and their NeonBench rows; without both, what the
        card of the checkpoint says that was loaded, as long as the weights are still its. name is what the card tells
        others to load, the folder if there is none.
        """
        folder = Path(folder)
        beside = save_trained(self.backbone, self.config.backbone, folder)
        config = asdict(replace(self.config, backbone=beside))
        write_checkpoint(folder, config, self.action_space, self.state_dict())
        card = model_card(name or folder.name, config, self.parameter_table(), training, results)
        if training is None and not results and digest_of(self.state_dict()) == self._loaded[0]:
            card = put_told(card, self._loaded[1])
        replace_text(folder / CARD, card)

    def push_to_hub(self, repo_id: str, private: bool = True, **card: Any) -> str:
        """`save_pretrained` into the hub's repository OWNER/NAME, a private one unless said otherwise."""
        with TemporaryDirectory() as parent:
            folder = Path(parent) / repo_id.rpartition("/")[2]
            self.save_pretrained(folder, name=repo_id, **card)
            return push_folder(folder, repo_id, private)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        control_mode: str | None = None,
        backbone: VideoBackbone | None = None,
        grow: bool = False,
        device: str | None = None,
    ) -> Self:
        """Load a folder that `save_pretrained` wrote, or the hub's repository of that id.

        Args:
            source: folder, or OWNER/NAME.
            control_mode: the mode that is expected; None takes the checkpoint's.
            backbone: one that is loaded already, with what was trained of it. None loads the config's, and puts on the
                adapter that lies in the checkpoint, frozen.
            grow: let `control_mode` be another one: groups that both have keep their weights to the bit, new groups get
                fresh heads, and groups that the wanted mode lacks are left out.
            device: where both go, "auto" for the best there is. None: heads on the CPU, backbone as its config says.

        Raises:
            FileNotFoundError: there is no such folder, and no such repository within reach.
            ValueError: not a whole checkpoint, unknown config keys, or made for another action space than its config or
                `control_mode` says. Nothing is half-loaded.
        """
        folder = local_folder(source)
        checkpoint = read_checkpoint(folder)
        try:
            config = NeonConfig.from_dict(checkpoint.config)
        except TypeError as error:  # a part of it that is no mapping, or has keys of another version
            raise ValueError(f"{folder} does not hold a whole Neon checkpoint (config.json: {error}).") from error
        expected = config.control_mode if grow or control_mode is None else control_mode
        G1ActionSpace(expected, config.action_center).require_equal(checkpoint.action_space)
        if backbone is None:
            config = replace(config, backbone=with_trained(config.backbone, folder))
            backbone = None if device is None else _backbone_on(device, config.backbone)
        model = cls(replace(config, control_mode=control_mode or config.control_mode), backbone)
        weights = checkpoint.weights
        if grow:
            weights = grown_weights(weights, checkpoint.action_space, model.state_dict())
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"The weights in {folder} do not fit its config.json: {error}") from error
        if not grow and (folder / CARD).is_file():
            model._loaded = (digest_of(model.state_dict()), (folder / CARD).read_text(encoding="utf-8"))
        return model.eval() if device is None else model.eval().to(pick_device(device))


def _backbone_on(device: str, config: BackboneConfig) -> VideoBackbone:
    backbone = VideoBackbone.from_config(replace(config, device=device))
    return backbone.to(pick_device(device)) if config.model_id == COMPACT else backbone  # the others place themselves
