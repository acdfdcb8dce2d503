"""How a world model is trained: sizes, counts, what is asked of it, and how fast it learns when."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from neon_sim.world_model.command_space import command_space
from neon_sim.world_model.config import LeWMConfig, lewm_config

# Places along a side that a picture is read off; the class token hardly says how far left a thing is.
OUR_GRID: Final = 4
# When a training is looked at and kept: nothing of it changes the weights, so a run may go on with others.
WATCHED: Final = ("checkpoint_every", "log_every", "judge_every", "probe_every")


@dataclass(frozen=True)
class WorldModelTraining:
    """How a world model is trained. Published: AdamW 5e-5, weight decay 1e-3, batch 128, 1 % warm-up, cosine."""

    size: str = "xs"
    updates: int = 1000
    minutes: float | None = None  # stop by the clock instead; such a run does not repeat to the bit
    batch: int = 32  # windows of positions + 1 moments
    learning_rate: float = 5e-4  # ours: ten times the published one, for a model a tenth as large
    weight_decay: float = 1e-3
    warm_up: float = 0.03  # share of the training
    max_grad_norm: float = 1.0
    held_out: float = 0.1  # share of the episodes
    checkpoint_every: int = 50  # updates
    log_every: int = 10
    judge_every: int = 100  # updates from one held-out error to the next
    probe_every: int = 200  # updates from one look at what the latents know to the next
    patch_size: int | None = None  # px, of the encoder; None: the size's own. 16 costs 0.37 of 8 at 64 px
    grid: int = 0  # of the encoder, see `LeWMConfig`; what is trained and shipped has OUR_GRID
    proprio_dropout: float | None = None  # None: the size's own
    felt_dim: int = 0  # entries of z that proprioception alone has
    place_weight: float = 0.0  # of a supervised loss on the places of objects: with it, this is not LeWM as published
    prefix: bool = False  # also learn from action prefixes (Fast-LeWM)
    encoder_from: str | None = None  # folder of a world model whose picture encoder is taken over and stays as it is
    resident_gb: float = 16.0  # pictures that may lie in a GPU's memory; more stay on the disk until they are drawn
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.updates, self.batch, self.checkpoint_every, self.log_every, self.judge_every, self.probe_every)
        if min(counts) < 1 or not 0 < self.held_out <= 0.5:
            raise ValueError(f"Training wants counts of one or more and held_out in (0, 0.5], got {self}.")
        if not 0.0 <= self.place_weight < math.inf:
            raise ValueError(f"place_weight has to be 0 or more, got {self.place_weight}.")
        if self.minutes is not None and not 0.0 < self.minutes < math.inf:
            raise ValueError(f"minutes has to be above 0, got {self.minutes}. Leave it out to stop by updates.")

    @property
    def objective(self) -> str:
        """What is asked of the latents, in words that go beside the weights."""
        if not self.place_weight:
            return "LeWM: no labels"
        return f"LeWM and, with labels, the places of objects, weight {self.place_weight}: not LeWM as published"

    @property
    def learned_from(self) -> dict[str, Any]:
        """All fields that the weights follow from, by name; one that is later than the others where it is used."""
        told = {name: value for name, value in asdict(self).items() if name not in WATCHED}
        return told if self.encoder_from else {name: v for name, v in told.items() if name != "encoder_from"}


# An hour on two cores: the default of agents/train_world_model.py, and what benchmarks/planning.py takes the time of.
# Nine tenths of the windows that the shipped models saw.
OUR_TRAINING: Final = WorldModelTraining(updates=2600, batch=128, learning_rate=1e-3, patch_size=16, grid=OUR_GRID)


def of_size(training: WorldModelTraining, size: str) -> WorldModelTraining:
    """The training of a named size. Another size than the training's brings its own patches, and is read off a grid as
    well; `paper` is the published one, class token and all.
    """
    if size == training.size:  # what the training says of patches and grid is meant for it
        return training
    return replace(training, size=size, patch_size=None, grid=0 if size == "paper" else OUR_GRID)


def model_config(task: str, training: WorldModelTraining, image_size: int) -> LeWMConfig:
    """The size's config with the task's commands as actions. Raises ValueError for pictures of another size."""
    named = {"patch_size": training.patch_size, "proprio_dropout": training.proprio_dropout}
    given: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    given |= {"action_dim": command_space(task).dim}
    given |= {name: getattr(training, name) for name in ("prefix", "grid", "felt_dim")}
    config = lewm_config(training.size, **given)
    if config.image_size != image_size:
        raise ValueError(f"Size {training.size} sees {config.image_size} px, the rollouts have {image_size} px.")
    return config


def schedule(step: int, training: WorldModelTraining) -> float:
    """Factor on the learning rate: a linear warm-up, then a cosine to 2 %."""
    warm = max(1, round(training.warm_up * training.updates))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, training.updates - warm)
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * done))


def timed_schedule(done: float, training: WorldModelTraining) -> float:
    """The same over a share of the time, 0 to 1: the first update is not for nothing."""
    if done < training.warm_up:
        return max(0.01, done / training.warm_up)
    done = (done - training.warm_up) / (1.0 - training.warm_up)
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * done))
