"""What `NeonTrainer` is put together from: each follows from its config alone."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from neon_sim.data.data_soup import DataSoup
from neon_sim.data.data_stamp import DataStamp
from neon_sim.data.sample_cache import SampleCache
from neon_sim.data.windows import KEYS, SENSES, WindowConfig
from neon_sim.model.backbones.trained import TRAINED_FILES, save_learned
from neon_sim.model.feature_cache import FeatureCache
from neon_sim.model.neon_config import NeonConfig
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.question import to_one_ear
from neon_sim.model.video_backbone import VideoBackbone
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.chunk_loss import Encoder
from neon_sim.training.distributed import is_spread
from neon_sim.training.train_config import TrainConfig

if TYPE_CHECKING:
    from neon_sim.training.rewording import Rewording

SAMPLES: Final = "samples"  # a run's folder for them; it ends with the run
_DRAWN_SOURCES: Final = 4  # that can be told apart in a picture beside both losses


def model_config(config: TrainConfig) -> NeonConfig:
    """The model with the loss weights of its joint groups.

    Raises ValueError for a model that speaks: no data set says what its answers should be.
    """
    if config.model.speech_vocabulary:
        raise ValueError(
            "NeonTrainer has no answers to learn from, so speech_vocabulary must be empty. Train the speech head with "
            "NeonVLA.speech_loss, in a loop of your own."
        )
    if not config.group_weights:
        return config.model
    return replace(config.model, head={**config.model.head, "group_weights": config.group_weights})


def window_config(config: TrainConfig, *policies: NeonVLA | None) -> WindowConfig:
    """How samples are cut out of episodes.

    policies: who looks at them, a teacher as well; nobody = with everything that a sample can have.
    """
    backbone = config.model.backbone
    senses = {name for policy in policies if policy is not None for name in policy.senses} or set(SENSES)
    return WindowConfig(
        config.model.num_action_steps,
        config.stride,
        backbone.fps,
        backbone.max_frames,
        backbone.image_size,
        config.model.sound_memory_s,
        config.model.microphones,
        tuple(key for key in KEYS if key == "camera" or key in senses),
    )


def sample_cache(config: TrainConfig, soup: DataSoup, stamps: Mapping[str, DataStamp]) -> SampleCache | None:
    """Where a run keeps its samples: a folder for these data, cut in this way; None where it is to keep none.

    stamps: of the sources' files, by name; what was recorded anew has another folder.
    """
    if not config.sample_cache_gb:
        return None
    written = {name: stamp.written for name, stamp in sorted(stamps.items())}
    how = (soup.windows, str(config.model.control_mode), *(() if soup.listen is None else (config.model.audio,)))
    cut = repr((soup.config.sources, written, *how, soup.counts()))
    folder = config.folder / SAMPLES / hashlib.sha256(cut.encode()).hexdigest()[:16]
    return SampleCache(folder, config.sample_cache_gb)


def build_encoder(model: NeonVLA, config: TrainConfig) -> Encoder:
    """The model's eyes, behind a cache if there is to be one."""
    if config.feature_cache is None:
        return model.encode
    cache = FeatureCache(config.feature_cache, model.backbone, limit_gb=config.feature_cache_gb)
    if model.config.microphones == 1:
        return cache
    return lambda frames, words, *sound: cache(frames, words, *(to_one_ear(heard) for heard in sound))


def build_rewording(eyes: VideoBackbone, config: TrainConfig) -> "Rewording | None":
    """What says the words of some samples otherwise; None where nothing is to. Raises ValueError as `Rewording`."""
    if not config.reworded:
        return None
    from neon_sim.training.rewording import Rewording

    return Rewording(eyes, config.reworded)


def load_teacher(config: TrainConfig, model: NeonVLA) -> NeonVLA | None:
    """The policy whose chunks are learned beside the data's; None without one.

    It looks through the student's backbone if that is frozen. From one that learns it would be told of other things
    than it was trained on, more so at every step: then it has its own, and so it has if its own was trained.

    Raises ValueError for a teacher that hears otherwise, or whose own backbone wants other clips, than the student.
    """
    if config.teacher is None:
        return None
    device = next(model.parameters()).device
    mode, learns = config.model.control_mode, any(p.requires_grad for p in model.backbone.parameters())
    if not (learns or any((Path(config.teacher) / name).is_file() for name in TRAINED_FILES)):
        teacher = NeonVLA.from_pretrained(config.teacher, control_mode=mode, backbone=model.backbone)
    else:
        teacher = NeonVLA.from_pretrained(config.teacher, control_mode=mode, device=str(device))
        clips = [(c.fps, c.max_frames, c.image_size) for c in (model.config.backbone, teacher.config.backbone)]
        if clips[0] != clips[1]:
            raise ValueError(
                f"The teacher {config.teacher} looks at clips of (fps, frames, px) {clips[1]}, the student at "
                f"{clips[0]}. Give BackboneConfig the teacher's, or train without it."
            )
    ears = [(m.config.microphones, m.config.sound_memory_s) for m in (model, teacher)]
    if "audio" in teacher.senses and ears[0] != ears[1]:
        raise ValueError(
            f"The teacher {config.teacher} hears (microphones, s of sound) {ears[1]}, the student {ears[0]}. Give "
            "NeonConfig the teacher's, or train without it."
        )
    return teacher.requires_grad_(False).to(device)


def write_spread(backbone: VideoBackbone, values: list[torch.Tensor], folder: Path) -> None:
    """Write into a checkpoint what is trained of a backbone that is spread over processes; nothing of another one.

    values: whole tensors in the order of what learns.
    """
    learning = [(name, param) for name, param in backbone.named_parameters() if param.requires_grad]
    if any(is_spread(param) for _, param in learning):
        save_learned(backbone, dict(zip((name for name, _ in learning), values, strict=True)), folder)


def seed_of_step(seed: int, step: int, rank: int) -> int:
    """Where torch's randomness of one step in one process begins."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)


def story(config: TrainConfig, step: int, seconds: float) -> dict[str, Any]:
    """What a model card says about how the weights were made: data, length, and the whole of the training's config.

    Paths stay out of it: they are of the machine that trained.
    """
    sources = [] if config.data is None else [f"{s.name} ({s.type}, weight {s.weight:g})" for s in config.data.sources]
    rest = {name: value for name, value in config.decides().items() if name not in ("model", "data", "teacher")}
    told = {"data": ", ".join(sources), "steps": step, "hours": round(seconds / 3600.0, 3)}
    return {**told, "distilled": config.teacher is not None, **rest}


def shorten_log(path: Path, step: int) -> None:
    """Forget the lines of a JSON log after a step, which will be walked again."""
    if path.exists():
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        replace_bytes(path, "".join(kept).encode())


def plot_losses(log: Path, path: Path) -> None:
    """A PNG of what a run's log.jsonl says: loss of the training, error on what is held back (of few sources each)."""
    from neon_sim.eval.plots import line_plot

    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    named = {"train_loss": "training loss", "mse": "held back, all"}
    sources = [key for key in lines[-1] if key.startswith("mse/")]
    if len(sources) <= _DRAWN_SOURCES:
        named |= {key: f"held back, {key.removeprefix('mse/')}" for key in sources}
    curves = {label: [line.get(key, math.nan) for line in lines] for key, label in named.items() if key in lines[-1]}
    line_plot(path, [line["step"] for line in lines], curves, "step", "loss, MSE in action units squared", log_y=True)


def open_tensorboard(folder: Path, step: int) -> Any:
    """TensorBoard's writer of a run that goes on after a step: what was shown of later ones, it hides."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder, purge_step=step + 1)
