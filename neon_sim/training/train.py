"""NeonTrainer: data soup in, action layer out. Frozen backbone, AdamW, cosine, exact resume, one process or many.

The randomness of a step (samples, dropout, noise) follows from the seed and the step's number, and a run's state is
written as a whole: a run that was killed at any moment and begun again ends with the weights of an unbroken one.
"""

import io
import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from neon_sim.data.data_soup import DataSoup
from neon_sim.data.windows import WindowConfig
from neon_sim.model.feature_cache import FeatureCache
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.video_backbone import VideoBackbone
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.averaging import WeightAverage
from neon_sim.training.batches import Group, batches, group_windows
from neon_sim.training.chunk_loss import Encoder, encode_group, group_losses, teacher_chunk
from neon_sim.training.distributed import join_team
from neon_sim.training.input_statistics import set_statistics
from neon_sim.training.interrupt import deferred_interrupt
from neon_sim.training.optim import make_optimizer, rate_at
from neon_sim.training.precision import mixed_precision
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.train_config import TrainConfig


class NeonTrainer:
    """One training.

    Writes below `config.output_dir`: `last` and `best` (checkpoints for `NeonVLA.from_pretrained`), state.pt to go on
    from, log.jsonl, data.json (what was mixed) and TensorBoard's files. The same config on a folder that is there goes
    on with it.

    Args:
        config: what to do.
        backbone: one that is loaded already.
        progress: show a bar.

    Raises:
        ValueError: a setting that makes no sense, or a folder that was begun with other settings.
    """

    def __init__(self, config: TrainConfig, backbone: VideoBackbone | None = None, progress: bool = True) -> None:
        config.check()
        self.config, self.progress = config, progress
        self.team = join_team(config.device)
        if self.team.leads:
            claim_folder(config.folder, {**config.decides(), "processes": self.team.size})
        self.team.wait()
        torch.manual_seed(config.seed)
        self.model = NeonVLA(_with_group_weights(config), backbone)
        self.model.load_backbone()
        self.model.to(self.team.device)
        self.windows = _windows(self.model, config)
        assert config.data is not None  # check() saw to it
        space = self.model.action_space
        self.soup = DataSoup(config.data, space, self.windows, config.seed)
        self.held_back = _held_back(config, self.soup, self.windows)
        self.params = [p for p in (*self.model.parameters(), *self.model.backbone.parameters()) if p.requires_grad]
        self.optimizer = make_optimizer(self.params, config)
        self.average = WeightAverage(self.params, config.ema_decay)
        self.encode = _encoder(self.model, config)
        self.teacher = _teacher(config, self.model)
        self.total_steps = config.max_steps or self._steps_in(config.epochs)
        self.step, self.best_loss = 0, float("inf")
        if (config.folder / "state.pt").exists():
            self._load()
        else:
            set_statistics(self.model, self.soup)

    def train(self) -> dict[str, Any]:
        """Train what remains. Ctrl-C saves and stops; calling again goes on.

        Returns best_loss and last_loss (on held-back samples; of the training where nothing is held back), steps,
        seconds, and the samples by source.
        """
        config, begun, saved = self.config, time.perf_counter(), time.monotonic()
        writer = _tensorboard(config.folder) if self.team.leads else None
        bar = tqdm(
            total=self.total_steps, initial=self.step, unit="step", disable=not (self.progress and self.team.leads)
        )
        losses: list[float] = []
        last_loss = float("nan")
        try:
            with deferred_interrupt() as interrupt:
                for micro_batches in self._micro_batches():
                    losses.append(self.update(micro_batches))
                    bar.update()
                    bar.set_postfix(loss=f"{np.mean(losses[-50:]):.4g}", refresh=False)
                    done = self.step == self.total_steps
                    if done or self.step % config.evaluate_every == 0:
                        last_loss = self._report(losses, writer)
                        losses.clear()
                    if done or interrupt.asked or self._due(saved):
                        self.save()
                        saved = time.monotonic()
                    if interrupt.asked and not done:
                        raise KeyboardInterrupt
        finally:
            bar.close()
            if writer is not None:
                writer.close()
        self._push()
        return {
            "best_loss": self.best_loss,
            "last_loss": last_loss,
            "steps": self.step,
            "seconds": time.perf_counter() - begun,
            "sources": self.soup.counts(),
            "skipped": dict(self.soup.skipped),
        }

    def update(self, micro_batches: list[list[Group]]) -> float:
        """One optimiser step from `gradient_accumulation` batches of this process; returns the loss over all."""
        config, team = self.config, self.team
        self.model.train()
        torch.manual_seed(_seed_of(config.seed, self.step, team.rank))
        groups = [group for batch in micro_batches for group in batch]
        entries = team.total(sum(group.entries for group in groups))
        goals = team.total(sum(group.goals for group in groups))
        loss_sum = 0.0
        for group in groups:
            loss = self._loss(group.to(team.device), entries, goals)
            loss.backward()
            loss_sum += float(loss.detach())
        team.sum_gradients(self.params)
        nn.utils.clip_grad_norm_(self.params, config.max_grad_norm)
        for settings in self.optimizer.param_groups:
            settings["lr"] = rate_at(self.step, self.total_steps, config)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.average.update(self.step)
        return team.total(loss_sum)

    def _loss(self, group: Group, entries: float, goals: float) -> torch.Tensor:
        """This group's part of the mean over everything that makes the step, on all processes (D16)."""
        config = self.config
        with self._precision():
            features = encode_group(self.model, self.encode, group)
            action, reading = group_losses(self.model, features, group)
            if self.teacher is not None:
                shown = replace(group, chunk=teacher_chunk(self.teacher, features, group))
                action = torch.lerp(action, group_losses(self.model, features, shown)[0], config.teacher_weight)
        loss = action * (group.entries / entries)
        if group.goals:
            loss = loss + config.goal_weight * reading * (group.goals / goals)
        return loss

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Mean squared error of the chunk on held-back samples: all of it, and by joint group."""
        self.model.eval()
        soup = self.held_back
        if soup is None:
            return {}
        torch.manual_seed(self.config.seed)
        squared: dict[str, float] = {}
        entries = 0.0
        places = soup.each(self.config.evaluate_samples)
        for first in range(0, len(places), self.config.batch_size):
            windows = [soup.window(*place) for place in places[first : first + self.config.batch_size]]
            for group in group_windows(windows):
                group = group.to(self.team.device)
                with self.average.in_place(), self._precision():
                    chunk, _ = self.model(encode_group(self.model, self.encode, group), group.senses)
                error = (chunk.float() - group.chunk).square() * group.mask[..., None]
                for name, where in self.model.action_space.groups.items():
                    squared[name] = squared.get(name, 0.0) + float(error[..., where].mean(-1).sum())
                squared["mse"] = squared.get("mse", 0.0) + float(error.mean(-1).sum())
                entries += float(group.mask.sum())
        return {name: value / entries for name, value in squared.items()}

    def save(self) -> None:
        """Write `last` and the state, each replaced as a whole; only the leading process does."""
        if not self.team.leads:
            return
        with self.average.in_place():
            self.model.save_pretrained(self.config.folder / "last", training=_story(self.config, self.step))
        state = {
            "model": self.model.state_dict(),
            "adapter": [p.detach() for p in self.model.backbone.parameters() if p.requires_grad],
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.values,
            "step": self.step,
            "best_loss": self.best_loss,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        replace_bytes(self.config.folder / "state.pt", buffer.getbuffer())

    def _load(self) -> None:
        state = torch.load(self.config.folder / "state.pt", weights_only=True, map_location=self.team.device)
        self.model.load_state_dict(state["model"])
        adapter = [p for p in self.model.backbone.parameters() if p.requires_grad]
        with torch.no_grad():
            for param, value in zip(adapter, state["adapter"], strict=True):
                param.copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.values = state["average"]
        self.step, self.best_loss = int(state["step"]), float(state["best_loss"])

    def _steps_in(self, epochs: int) -> int:
        per_step = self.config.batch_size * self.config.gradient_accumulation * self.team.size
        return max(1, -(-epochs * len(self.soup) // per_step))

    def _micro_batches(self) -> Iterator[list[list[Group]]]:
        config, team = self.config, self.team
        together = config.gradient_accumulation
        first, end = self.step * together, self.total_steps * together
        stream = batches(self.soup, config.batch_size, first, end, team.rank, team.size, config.num_workers)
        for _ in range(self.step, self.total_steps):
            yield [next(stream) for _ in range(together)]

    def _report(self, losses: list[float], writer: Any) -> float:
        """Evaluate, keep the best, log; returns the loss that is compared."""
        if not self.team.leads:
            return float("nan")
        figures = {"train_loss": float(np.mean(losses)), **self.evaluate()}
        judged = figures.get("mse", figures["train_loss"])
        if judged < self.best_loss:
            self.best_loss = judged
            with self.average.in_place():
                self.model.save_pretrained(self.config.folder / "best", training=_story(self.config, self.step))
        with open(self.config.folder / "log.jsonl", "a") as file:
            file.write(json.dumps({"step": self.step, **figures}) + "\n")
        for name, value in figures.items():
            writer.add_scalar(name, value, self.step)
        (self.config.folder / "data.json").write_text(json.dumps(self.soup.counts(), indent=2) + "\n")
        return judged

    def _due(self, saved: float) -> bool:
        return time.monotonic() - saved > self.config.save_every_s

    def _precision(self) -> AbstractContextManager[Any]:
        return mixed_precision(self.team.device, self.config.bf16)

    def _push(self) -> None:
        config = self.config
        if config.push_to_hub and config.hub_model_id and self.team.leads:
            best = NeonVLA.from_pretrained(config.folder / "best", backbone=self.model.backbone)
            best.push_to_hub(config.hub_model_id, private=config.hub_private, training=_story(config, self.step))


def _with_group_weights(config: TrainConfig) -> Any:
    if not config.group_weights:
        return config.model
    return replace(config.model, head={**config.model.head, "group_weights": config.group_weights})


def _windows(model: NeonVLA, config: TrainConfig) -> WindowConfig:
    backbone = config.model.backbone
    return WindowConfig(
        config.model.num_action_steps, config.stride, backbone.fps, backbone.max_frames, backbone.image_size
    )


def _held_back(config: TrainConfig, soup: DataSoup, windows: WindowConfig) -> DataSoup | None:
    assert config.data is not None
    if config.data.validation_share == 0.0 or max(len(source) for source in soup.sources.values()) < 2:
        return None
    return DataSoup(config.data, soup.action_space, windows, config.seed, validation=True)


def _encoder(model: NeonVLA, config: TrainConfig) -> Encoder:
    if config.feature_cache is None:
        return model.encode
    return FeatureCache(config.feature_cache, model.backbone)


def _teacher(config: TrainConfig, model: NeonVLA) -> NeonVLA | None:
    if config.teacher is None:
        return None
    teacher = NeonVLA.from_pretrained(config.teacher, control_mode=config.model.control_mode, backbone=model.backbone)
    return teacher.requires_grad_(False).to(next(model.parameters()).device)


def _seed_of(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)


def _story(config: TrainConfig, step: int) -> dict[str, Any]:
    """What a model card says about how the weights were made."""
    sources = [] if config.data is None else [f"{s.name} ({s.type}, weight {s.weight:g})" for s in config.data.sources]
    told = {"steps": step, "seed": config.seed, "learning_rate": config.learning_rate, "optimizer": config.optim}
    batch = config.batch_size * config.gradient_accumulation
    return {**told, "samples_per_step_and_process": batch, "data": ", ".join(sources)}


def _tensorboard(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder)
