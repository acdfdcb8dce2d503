"""What `NeonTrainer` is put together from: each follows from its config alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neon_sim.data.data_soup import DataSoup
from neon_sim.data.windows import WindowConfig
from neon_sim.model.feature_cache import FeatureCache
from neon_sim.model.neon_config import NeonConfig
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.video_backbone import VideoBackbone
from neon_sim.training.chunk_loss import Encoder
from neon_sim.training.train_config import TrainConfig


def model_config(config: TrainConfig) -> NeonConfig:
    """The model with the loss weights of its joint groups."""
    if not config.group_weights:
        return config.model
    return replace(config.model, head={**config.model.head, "group_weights": config.group_weights})


def window_config(config: TrainConfig) -> WindowConfig:
    """How samples are cut out of episodes."""
    backbone = config.model.backbone
    return WindowConfig(
        config.model.num_action_steps, config.stride, backbone.fps, backbone.max_frames, backbone.image_size
    )


def held_back_soup(config: TrainConfig, soup: DataSoup, windows: WindowConfig) -> DataSoup | None:
    """The episodes that are held back, or None where there are none."""
    assert config.data is not None
    if config.data.validation_share == 0.0 or max(len(source) for source in soup.sources.values()) < 2:
        return None
    return DataSoup(config.data, soup.action_space, windows, config.seed, validation=True)


def build_encoder(model: NeonVLA, config: TrainConfig) -> Encoder:
    """The model's eyes, behind a cache if there is to be one."""
    if config.feature_cache is None:
        return model.encode
    return FeatureCache(config.feature_cache, model.backbone)


def load_teacher(config: TrainConfig, model: NeonVLA) -> NeonVLA | None:
    """The policy whose chunks are learned beside the data's, on the same backbone; None without one."""
    if config.teacher is None:
        return None
    teacher = NeonVLA.from_pretrained(config.teacher, control_mode=config.model.control_mode, backbone=model.backbone)
    return teacher.requires_grad_(False).to(next(model.parameters()).device)


def write_adapter(backbone: VideoBackbone, values: list[torch.Tensor], folder: Path) -> None:
    """Write a LoRA adapter for `BackboneConfig.adapter`: whole tensors in the order of what learns; none, no folder."""
    model: Any = getattr(backbone, "model", None)
    if not hasattr(model, "peft_config"):
        return
    names = [name for name, param in model.named_parameters() if param.requires_grad]
    model.save_pretrained(str(folder), state_dict=dict(zip(names, values, strict=True)))


def seed_of_step(seed: int, step: int, rank: int) -> int:
    """Where torch's randomness of one step in one process begins."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)


def story(config: TrainConfig, step: int) -> dict[str, Any]:
    """What a model card says about how the weights were made."""
    sources = [] if config.data is None else [f"{s.name} ({s.type}, weight {s.weight:g})" for s in config.data.sources]
    told = {"steps": step, "seed": config.seed, "learning_rate": config.learning_rate, "optimizer": config.optim}
    batch = config.batch_size * config.gradient_accumulation
    return {**told, "samples_per_step_and_process": batch, "data": ", ".join(sources)}


def open_tensorboard(folder: Path) -> Any:
    """TensorBoard's writer."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder)
