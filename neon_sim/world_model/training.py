"""Training a world model: so many updates, stopped and resumed to the bit."""

import io
import json
import math
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.interrupt import deferred_interrupt
from neon_sim.world_model.command_space import command_space
from neon_sim.world_model.config import LeWMConfig, lewm_config
from neon_sim.world_model.dataset import Rollouts
from neon_sim.world_model.lewm import LeWM

STATE_FILE: Final = "state.pt"
LOG_FILE: Final = "log.jsonl"


@dataclass(frozen=True)
class WorldModelTraining:
    """How a world model is trained. Published: AdamW 5e-5, weight decay 1e-3, batch 128, 1 % warm-up, cosine."""

    size: str = "xs"
    updates: int = 1000
    batch: int = 32  # windows of positions + 1 moments
    learning_rate: float = 5e-4  # ours: ten times the published one, for a model a tenth as large
    weight_decay: float = 1e-3
    warm_up: float = 0.03  # share of the updates
    max_grad_norm: float = 1.0
    held_out: float = 0.1  # share of the episodes
    checkpoint_every: int = 50  # updates
    log_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.updates, self.batch, self.checkpoint_every, self.log_every) < 1 or not 0 < self.held_out <= 0.5:
            raise ValueError(f"Training wants counts of one or more and held_out in (0, 0.5], got {self}.")


def model_config(task: str, training: WorldModelTraining, image_size: int) -> LeWMConfig:
    """The size's config with the task's commands as actions. Raises ValueError for pictures of another size."""
    config = lewm_config(training.size, action_dim=command_space(task).dim)
    if config.image_size != image_size:
        raise ValueError(f"Size {training.size} sees {config.image_size} px, the rollouts have {image_size} px.")
    return config


class WorldModelTrainer:
    """Model, optimiser and random generators of one run; `folder` keeps its state and its log.

    The windows, SIGReg's directions and dropout are drawn from generators that the state holds, so a run that was
    killed at any time ends with the weights of one that was not. (On a GPU dropout draws from the GPU's own, and the
    end is another one of the same kind.)
    """

    def __init__(self, config: LeWMConfig, training: WorldModelTraining, rollouts: Rollouts, folder: Path) -> None:
        torch.manual_seed(training.seed)
        self.training, self.folder = training, folder
        self.train_set, self.test_set = rollouts.split(training.held_out)
        self.model = LeWM(config)
        if config.proprio_dim:
            self.model.proprio.set_statistics(*self.train_set.proprio_statistics())
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), training.learning_rate, weight_decay=training.weight_decay
        )
        self.rng = np.random.default_rng([training.seed, 31])
        self.generator = torch.Generator().manual_seed(training.seed)
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, device: str = "cpu", stop_at: int | None = None) -> bool:
        """Train to the end, from where the folder's state is. Ctrl-C stops between two updates and saves.

        stop_at: end there without saving, as a killed process does; for tests. Returns whether the training is done.
        """
        self._restore()
        self.model.to(device).train()
        self._optimizer_to(device)
        last = self.training.updates
        with deferred_interrupt() as interrupt, tqdm(total=last, initial=self.step, desc="world model") as bar:
            while self.step < last:
                if stop_at is not None and self.step >= stop_at:
                    return False
                losses = self._update(device)
                bar.update()
                if self.step % self.training.log_every == 0 or self.step == last:
                    self._log(losses)
                    bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()})
                if self.step % self.training.checkpoint_every == 0 or self.step == last or interrupt.asked:
                    self._checkpoint()
                if interrupt.asked and self.step < last:
                    return False
        self.model.to("cpu").eval()
        return True

    def _update(self, device: str) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.training.learning_rate * schedule(self.step, self.training)
        length = self.model.config.positions + 1
        drawn = self.train_set.windows(self.rng, self.training.batch, length)
        batch = {name: value.to(device) for name, value in drawn.items()}
        proprio = batch["proprio"] if self.model.config.proprio_dim else None
        loss = self.model.loss(batch["frames"], batch["actions"], proprio, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.training.max_grad_norm)
        self.optimizer.step()
        self.step += 1
        return {name: float(value.detach()) for name, value in loss._asdict().items()}

    def _log(self, losses: dict[str, float]) -> None:
        with open(self.folder / LOG_FILE, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self.step} | losses) + "\n")

    def _optimizer_to(self, device: str) -> None:
        for state in self.optimizer.state.values():
            for name, value in state.items():
                if torch.is_tensor(value) and name != "step":
                    state[name] = value.to(device)

    def _settings(self) -> dict[str, Any]:
        return {"model": asdict(self.model.config), "training": asdict(self.training)}

    def _checkpoint(self) -> None:
        buffer = io.BytesIO()
        state = {
            "settings": self._settings(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.bit_generator.state,
            "generator": self.generator.get_state(),
            "torch_rng": torch.get_rng_state(),
            "step": self.step,
        }
        torch.save(state, buffer)
        replace_bytes(self.folder / STATE_FILE, buffer.getbuffer())

    def _restore(self) -> None:
        path = self.folder / STATE_FILE
        if not path.exists():
            (self.folder / LOG_FILE).unlink(missing_ok=True)
            return
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{path} is damaged. Remove it to begin anew.")
        state = torch.load(path, map_location="cpu", weights_only=True)  # it may have been trained on a GPU
        if state["settings"] != self._settings():
            raise ValueError(f"{path} belongs to other settings: {state['settings']}. Choose another --out.")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = state["rng"]
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch_rng"])
        self.step = int(state["step"])
        _keep_log(self.folder / LOG_FILE, self.step)


def schedule(step: int, training: WorldModelTraining) -> float:
    """Factor on the learning rate: a linear warm-up, then a cosine to 2 %."""
    warm = max(1, round(training.warm_up * training.updates))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, training.updates - warm)
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * done))


def read_log(folder: Path) -> list[dict[str, float]]:
    """The lines of a run's log, oldest first."""
    lines = (folder / LOG_FILE).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _keep_log(path: Path, step: int) -> None:
    """Drop what a killed run wrote after its last checkpoint: it is written again."""
    if not path.exists():
        return
    whole = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    kept = [line for line in whole if json.loads(line)["step"] <= step]
    replace_bytes(path, "".join(kept).encode())
