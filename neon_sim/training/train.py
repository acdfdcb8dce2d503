"""NeonTrainer: data soup in, action layer out. Frozen backbone, AdamW, cosine, exact resume, one process or many.

The randomness of a step (samples, dropout, noise) follows from the seed and the step's number, and a run's state is
written as a whole: a run that was killed at any moment and begun again ends with the weights of an unbroken one.
"""

import io
import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from neon_sim.data.data_soup import DataSoup
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.video_backbone import COMPACT, VideoBackbone
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.averaging import WeightAverage
from neon_sim.training.batches import Group, batches
from neon_sim.training.chunk_loss import encode_group, group_losses, teacher_chunk
from neon_sim.training.data_report import all_bad, by_source, dropped_lines, write_data
from neon_sim.training.distributed import gathered, is_spread, join_team, keep_shares, share_of, spread_optimizer_state
from neon_sim.training.held_back import chunk_errors, held_back_soup
from neon_sim.training.input_statistics import set_statistics
from neon_sim.training.interrupt import deferred_interrupt
from neon_sim.training.listening import build_listener, remember_words
from neon_sim.training.optim import make_optimizer, rate_at
from neon_sim.training.precision import mixed_precision
from neon_sim.training.push import Pusher
from neon_sim.training.run_folder import check_folder, claim_folder
from neon_sim.training.same_data import require_same_data, stamps_of
from neon_sim.training.train_config import TrainConfig
from neon_sim.training.train_parts import (
    SAMPLES,
    build_encoder,
    build_rewording,
    load_teacher,
    model_config,
    open_tensorboard,
    plot_losses,
    sample_cache,
    seed_of_step,
    shorten_log,
    story,
    window_config,
    write_spread,
)
from neon_sim.training.whole_folder import put_right, whole_folder

_CHECKPOINTS = ("last", "best")
_SAVE, _STOP = 1, 2  # what a process asks of all of them after a step


class NeonTrainer:
    """One training.

    Writes below `config.output_dir`: `last` and `best` (checkpoints for `NeonVLA.from_pretrained`), state.pt to go on
    from, log.jsonl, data.json (what was mixed, mapped and left out), TensorBoard's files, and when it ends loss.png.
    The same config on a folder that is there goes on with it; what only says how data are read may be another.

    Args:
        config: what to do.
        backbone: one that is loaded already.
        progress: show a bar.

    Raises:
        ValueError: a setting that makes no sense, data that cannot be learned from, or a folder that was begun with
            other settings or other data.
    """

    def __init__(self, config: TrainConfig, backbone: VideoBackbone | None = None, progress: bool = True) -> None:
        config.check()
        self.config, self.progress = config, progress
        self.seconds = 0.0  # that this training took so far, in all calls and processes one after another
        self._begun = time.perf_counter()
        self.team = join_team(config.device)
        if self.team.leads:
            check_folder(config.folder, self._settings())
        torch.manual_seed(config.seed)
        self.model = NeonVLA(model_config(config), backbone)
        eyes = self.model.load_backbone()
        if self.model.config.backbone.model_id == COMPACT:
            eyes.to(self.team.device)  # the others place themselves
        self.model.to(self.team.device)
        self.teacher = load_teacher(config, self.model)
        self.windows = window_config(config, self.model, self.teacher)
        assert config.data is not None  # check() saw to it
        space = self.model.action_space
        self.soup = DataSoup(config.data, space, self.windows, config.seed)
        self.counts = self.soup.counts()
        self.soup.listen = build_listener(self.model, self.teacher)
        remember_words(self.model)
        self.stamps = stamps_of(config)
        self.soup.samples = sample_cache(config, self.soup, self.stamps)
        self.held_back = held_back_soup(config, self.soup, self.windows)
        if config.shard_backbone:
            self.team.spread(self.model.backbone)
        self.params = [p for p in (*self.model.parameters(), *self.model.backbone.parameters()) if p.requires_grad]
        self.spread = [p for p in self.params if is_spread(p)]
        self.optimizer = make_optimizer([p for p in self.params if not is_spread(p)], config)
        if self.spread:  # in a group of their own: what lies here and what lies everywhere is not stepped in one call
            self.optimizer.add_param_group({"params": self.spread})
        self.pusher = Pusher(config)
        self.average = WeightAverage(self.params, config.ema_decay)
        self.encode = build_encoder(self.model, config)
        self.reword = build_rewording(eyes, config)
        self.total_steps = config.max_steps or self._steps_in(config.epochs)
        self.step, self.best_loss = 0, float("inf")
        self.losses: list[float] = []  # since the last report
        self._claim()
        if (config.folder / "state.pt").exists():
            self._load()
        else:
            set_statistics(self.model, self.soup)
        self._count_time()

    def _settings(self) -> dict[str, Any]:
        """What a run that goes on must have been begun with."""
        return {**self.config.decides(), "processes": self.team.size}

    def _claim(self) -> None:
        """Take the folder, when all that a typo can name was found: the corrected line is no other run's then."""
        if self.team.leads:
            claim_folder(self.config.folder, self._settings())
            for name in _CHECKPOINTS:
                put_right(self.config.folder / name)
        self.team.wait()

    def train(self) -> dict[str, Any]:
        """Train what remains. Ctrl-C or SIGTERM, to any of the processes, saves and stops; calling again goes on.

        Returns best_loss and last_loss (on held-back samples; of the training where nothing is held back), steps,
        seconds (of all calls; of a process that was killed, what it had saved), the samples by source, and how many
        episodes of each source were left out (`skip_bad`).

        Raises:
            FloatingPointError: the loss is no number any more.
            ValueError: an episode that cannot be learned from, unless `skip_bad`.
        """
        config = self.config
        self._begun = time.perf_counter()
        writer = open_tensorboard(config.folder, self.step) if self.team.leads else None
        shown = self.progress and self.team.leads
        if shown and (dropped := dropped_lines(self.soup.reports())):
            print(dropped, flush=True)
        try:
            with tqdm(total=self.total_steps, initial=self.step, unit="step", disable=not shown) as bar:
                last_loss = self._train(writer, bar)
        finally:
            if writer is not None:
                writer.close()
        skipped = by_source(all_bad(self.team, self._bad()))
        if self.team.leads:
            write_data(config.folder, self.counts, self.soup.reports(), skipped)
            if self.soup.samples is not None:
                self.soup.samples.close()
            shutil.rmtree(config.folder / SAMPLES, ignore_errors=True)
            plot_losses(config.folder / "log.jsonl", config.folder / "loss.png")
            self.pusher.push()
        return {
            "best_loss": self.best_loss,
            "last_loss": last_loss,
            "steps": self.step,
            "seconds": self.seconds,
            "sources": self.counts,
            "skipped": skipped,
        }

    def _train(self, writer: Any, bar: Any) -> float:
        """The remaining steps; returns the last loss that was reported, NaN without one."""
        saved, last_loss = time.monotonic(), float("nan")
        with deferred_interrupt() as interrupt:
            for micro_batches in self._micro_batches():
                self.losses.append(self.update(micro_batches))
                bar.update()
                bar.set_postfix(loss=f"{np.mean(self.losses[-50:]):.4g}", refresh=False)
                done = self.step == self.total_steps
                if done or self.step % self.config.evaluate_every == 0:
                    last_loss = self._report(writer)
                asks = self.team.most(_STOP if interrupt.asked else _SAVE if self._due(saved) else 0)
                if done or asks:
                    self.save()
                    saved = time.monotonic()
                if asks == _STOP and not done:
                    self.team.wait()  # a process that ends before the state is written may take the others along
                    raise KeyboardInterrupt
        return last_loss

    def update(self, micro_batches: list[list[Group]]) -> float:
        """One optimiser step from `gradient_accumulation` batches of this process; returns the loss over all.

        Raises FloatingPointError, in all processes and before any weight has changed, if the loss is no number.
        """
        config, team = self.config, self.team
        self.model.train()
        torch.manual_seed(seed_of_step(config.seed, self.step, team.rank))
        groups = [group for batch in micro_batches for group in batch]
        entries = team.total(sum(group.entries for group in groups))
        goals = team.total(sum(group.goals for group in groups))
        loss_sum = 0.0
        for group, counts in self._turns(groups):
            loss = self._loss(group.to(team.device), entries, goals) * counts
            loss.backward()
            loss_sum += float(loss.detach())
        loss_sum = team.total(loss_sum)
        if not math.isfinite(loss_sum):
            raise FloatingPointError(
                f"The loss of step {self.step} is {loss_sum}. What was saved last is whole: lower the learning rate, "
                "or look for what is not finite in the data, and begin the same line again."
            )
        team.sum_gradients(self.params)
        team.clip_gradients(self.params, config.max_grad_norm)
        for settings in self.optimizer.param_groups:
            settings["lr"] = rate_at(self.step, self.total_steps, config)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.average.update(self.step)
        return loss_sum

    def _turns(self, groups: list[Group]) -> Iterator[tuple[Group, float]]:
        """Groups with the weight 1; where weights are spread, the last one again with 0 until everybody is through.

        A layer is gathered by all processes together, so all of them must have equally many passes.
        """
        yield from ((group, 1.0) for group in groups)
        if self.spread:
            yield from ((groups[-1], 0.0) for _ in range(len(groups), self.team.most(len(groups))))

    def _loss(self, group: Group, entries: float, goals: float) -> torch.Tensor:
        """This group's part of the mean over everything that makes the step, on all processes (D16)."""
        config = self.config
        with self._precision():
            features = encode_group(self.model, self.encode, group)
            told = features if self.reword is None else self.reword(features, group.instructions)
            action, reading = group_losses(self.model, told, group)
            if self.teacher is not None:
                shown = replace(group, chunk=teacher_chunk(self.teacher, self.model, features, group))
                action = torch.lerp(action, group_losses(self.model, told, shown)[0], config.teacher_weight)
        loss = action * (group.entries / entries)
        if group.goals:
            loss = loss + config.goal_weight * reading * (group.goals / goals)
        return loss

    def evaluate(self) -> dict[str, float]:
        """Mean squared error of the chunk on held-back samples: all of it, and by joint group; {} if there are none.

        Raises BadEpisodeError for an episode that cannot be learned from, unless `skip_bad`.
        """
        self.model.eval()
        if self.held_back is None:
            return {}
        torch.manual_seed(self.config.seed)
        return chunk_errors(self.model, self.encode, self.held_back, self.config, self.team.device, self._judged)

    @contextmanager
    def _judged(self) -> Iterator[None]:
        with self.average.in_place(), self._precision():
            yield

    def save(self) -> None:
        """Write `last` and the state, each replaced as a whole; only the leading process does.

        What is spread over the processes is put together for it, which takes all of them.
        """
        self._count_time()
        adapter, optimizer = self._adapter(), gathered(self.optimizer.state_dict())
        if not self.team.leads:
            return
        self._write("last", adapter)
        state = {
            "model": self.model.state_dict(),
            "adapter": adapter,
            "optimizer": optimizer,
            "average": self.average.values,
            "step": self.step,
            "seconds": self.seconds,
            "best_loss": self.best_loss,
            "losses": self.losses,
            **self._data(),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        replace_bytes(self.config.folder / "state.pt", buffer.getbuffer())

    def _data(self) -> dict[str, Any]:
        """What a run that goes on must find as it was: how many samples of each source, and its files."""
        return {"data": self.counts, "files": {name: stamp.told() for name, stamp in self.stamps.items()}}

    def _adapter(self) -> list[torch.Tensor]:
        """What is trained of the backbone, put together: where it is spread, all processes must ask for it."""
        keep_shares(self.model.backbone)
        return gathered([p.detach() for p in self.model.backbone.parameters() if p.requires_grad])

    def _write(self, name: str, adapter: list[torch.Tensor]) -> None:
        """A checkpoint of the averaged weights, and of what was trained of the backbone, replaced as a whole."""
        with self.average.in_place(), whole_folder(self.config.folder / name) as fresh:
            write_spread(self.model.backbone, adapter, fresh)
            self.model.save_pretrained(fresh, training=story(self.config, self.step, self.seconds), name=name)

    def _load(self) -> None:
        state = torch.load(self.config.folder / "state.pt", weights_only=True, map_location=self.team.device)
        require_same_data(state, self._data())
        self.model.load_state_dict(state["model"])
        adapter = [p for p in self.model.backbone.parameters() if p.requires_grad]
        with torch.no_grad():
            for param, value in zip(adapter, state["adapter"], strict=True):
                param.copy_(share_of(value, param))
        self.optimizer.load_state_dict(state["optimizer"])
        spread_optimizer_state(self.optimizer)
        self.average.values = state["average"]
        self.step, self.best_loss = int(state["step"]), float(state["best_loss"])
        self.losses = list(state.get("losses", []))
        self.seconds = float(state.get("seconds", 0.0))
        if self.team.leads:
            shorten_log(self.config.folder / "log.jsonl", self.step)

    def _count_time(self) -> None:
        now = time.perf_counter()
        self.seconds += now - self._begun
        self._begun = now

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

    def _report(self, writer: Any) -> float:
        """Evaluate, keep the best, log; returns the loss that is compared."""
        train_loss = float(np.mean(self.losses))
        self.losses.clear()
        if not (self.team.leads or self.spread):
            return float("nan")
        figures, adapter = {"train_loss": train_loss, **self.evaluate()}, self._adapter()
        if not self.team.leads:
            return float("nan")
        judged = figures.get("mse", figures["train_loss"])
        if judged < self.best_loss:
            self.best_loss = judged
            self._write("best", adapter)
            self.pusher.now_and_then()
        with open(self.config.folder / "log.jsonl", "a") as file:
            self._count_time()
            file.write(json.dumps({"step": self.step, **figures, "seconds": round(self.seconds, 1)}) + "\n")
        for name, value in figures.items():
            writer.add_scalar(name, value, self.step)
        write_data(self.config.folder, self.counts, self.soup.reports(), by_source(self._bad()))
        return judged

    def _due(self, saved: float) -> bool:
        return time.monotonic() - saved > self.config.save_every_s

    def _precision(self) -> AbstractContextManager[Any]:
        return mixed_precision(self.team.device, self.config.bf16)

    def _bad(self) -> set[tuple[str, int]]:
        """(source, episode) of what this process has left out."""
        return {*self.soup.bad, *({} if self.held_back is None else self.held_back.bad)}
