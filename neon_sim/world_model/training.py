"""Training a world model: so many updates, stopped and resumed to the bit, or so many minutes by the clock."""

import io
import json
import math
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.interrupt import deferred_interrupt
from neon_sim.world_model.config import LeWMConfig
from neon_sim.world_model.dataset import ResidentRollouts, Rollouts, SeenRollouts, moments_of
from neon_sim.world_model.encoder import VisionEncoder
from neon_sim.world_model.graphed import GraphedStep
from neon_sim.world_model.lewm import LeWM, LeWMLoss, load_world_model
from neon_sim.world_model.objects import PlaceHead
from neon_sim.world_model.probe import rollout_error
from neon_sim.world_model.training_config import WorldModelTraining, schedule, timed_schedule

STATE_FILE: Final = "state.pt"
LOG_FILE: Final = "log.jsonl"
_JUDGED_WINDOWS, _JUDGED_STEPS = 64, 5  # held-out windows, and how far ahead their error is told
_TIMED: Final = 20  # updates after which the time of all is told
LabelProbe = Callable[[LeWM, Rollouts, Rollouts], dict[str, float]]  # a model in eval mode, training, held out


class WorldModelTrainer:
    """Model, optimiser and random generators of one run; `folder` keeps its state and its log.

    The windows, SIGReg's directions and dropout are drawn from generators that the state holds, so a run that was
    killed at any time ends with the weights of one that was not. (On a GPU dropout draws from the GPU's own, matrices
    are multiplied in bfloat16, a step is a CUDA graph, and the end is another one of the same kind. On a CPU bfloat16
    is off: most have no instructions for it and take three to four times as long.)
    """

    def __init__(
        self,
        config: LeWMConfig,
        training: WorldModelTraining,
        rollouts: Rollouts,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
        probe: LabelProbe | None = None,
    ) -> None:
        """probe: what the latents know, by name, told of training and held-out episodes every `probe_every` updates.

        Raises ValueError for too few episodes, if a supervised loss is asked for and they lack its labels, or for an
        encoder of another size.
        """
        torch.manual_seed(training.seed)
        self.training, self.folder = training, folder
        self.train_set, self.test_set = rollouts.split(training.held_out)
        if not len(self.test_set):
            raise ValueError(f"{len(rollouts)} episodes are too few to hold {training.held_out:.0%} out. Record more.")
        self.model = LeWM(config)
        if config.proprio_dim:
            self.model.proprio.set_statistics(*self.train_set.proprio_statistics())
        self._seen = self._taken_over() if training.encoder_from else self.train_set
        self._place_head = self._made_head()
        self._learned = nn.ModuleList([self.model, self._place_head] if self._place_head else [self.model])
        self.optimizer = torch.optim.AdamW(
            self._learned.parameters(), training.learning_rate, weight_decay=training.weight_decay
        )
        self.rng = np.random.default_rng([training.seed, 31])
        self.generator = torch.Generator().manual_seed(training.seed)
        self.step = 0
        self.seconds = 0.0  # spent up to the newest update, all pieces together
        self._clock, self._probe = clock, probe
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def done(self) -> float:
        """Share of the training that is behind us, 0 to 1."""
        if self.training.minutes is None:
            return self.step / self.training.updates
        return min(1.0, self.seconds / (60.0 * self.training.minutes))

    def run(self, device: str = "cpu", stop_at: int | None = None) -> bool:
        """Train to the end, from where the folder's state is. Ctrl-C stops between two updates and saves. The model is
        on the CPU in eval mode afterwards.

        stop_at: end there without saving, as a killed process does; for tests. Returns whether the training is done.
        """
        if device != "cpu":
            self.generator = torch.Generator(device).manual_seed(self.training.seed)
        self._restore()
        self._learned.to(device).train()
        self._optimizer_to(device)
        windows, judged, update = self._source(device), self._held_out(device), self._updater(device)
        begun, first, before = self._clock() - self.seconds, self.step, self.seconds
        total = self.training.updates if self.training.minutes is None else None
        with (
            deferred_interrupt() as interrupt,
            tqdm(total=total, initial=self.step, desc="world model", unit=" updates") as bar,
            torch.backends.cudnn.flags(enabled=True, benchmark=device != "cpu"),
        ):
            while self.done < 1.0 and not interrupt.asked and self.step != stop_at:
                loss = self._update(windows(), update, device)
                self.seconds = self._clock() - begun
                bar.update()
                if self.step - first == _TIMED and total:
                    left = (total - self.step) * (self.seconds - before) / _TIMED
                    bar.write(f"{left / 60.0:.1f} minutes to go at the rate of the first {_TIMED} updates")
                self._note(loss, judged, bar, save=interrupt.asked)
        self._learned.to("cpu").eval()
        return self.done >= 1.0

    def _taken_over(self) -> SeenRollouts:
        """Take another world model's encoder; the training episodes as it sees them."""
        take_encoder(self.model.encoder, Path(str(self.training.encoder_from)))
        return SeenRollouts(self.train_set, self.model.encoder)

    def _made_head(self) -> PlaceHead | None:
        """What the supervised loss is read off with, if there is to be one."""
        if not self.training.place_weight:
            return None
        if "objects" not in self.train_set:
            raise ValueError("place_weight wants the places of objects, which these rollouts have not. Record anew.")
        places = next(moments_of(self.train_set, self.train_set["objects"]))
        return PlaceHead(self.model.config.dim, places, self.training.place_weight)

    def _source(self, device: str) -> Callable[[], dict[str, Tensor]]:
        """What draws the next batch: from the disk, or from the GPU's memory if the pictures fit into it."""
        fits = self._seen.nbytes <= 1e9 * self.training.resident_gb
        length, also = self.model.config.positions + 1, ("objects",) if self._place_head else ()
        if device != "cpu" and fits:
            resident = ResidentRollouts(self._seen, device, also)
            return lambda: resident.windows(self.rng, self.training.batch, length)
        return lambda: self._seen.windows(self.rng, self.training.batch, length, also)

    def _held_out(self, device: str) -> dict[str, Tensor]:
        """Windows of held-out episodes, the same ones whenever they are judged."""
        config, rng = self.model.config, np.random.default_rng([self.training.seed, 37])
        length = min(config.history + _JUDGED_STEPS, config.positions + 1)
        return {name: value.to(device) for name, value in self.test_set.windows(rng, _JUDGED_WINDOWS, length).items()}

    def _updater(self, device: str) -> Callable[[dict[str, Tensor]], tuple[Tensor, ...]]:
        """What learns from a batch that is on the device already."""
        kind = torch.device(device).type
        learn = partial(self._learn, device=kind)
        return GraphedStep(learn, self.generator) if kind == "cuda" else learn

    def _update(
        self, drawn: dict[str, Tensor], update: Callable[[dict[str, Tensor]], tuple[Tensor, ...]], device: str
    ) -> LeWMLoss:
        """One step; nothing in it waits for a GPU. The losses are detached, and the next step may overwrite them."""
        rate = self.training.learning_rate * self._rate()
        for group in self.optimizer.param_groups:
            if torch.is_tensor(group["lr"]):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        losses = update({name: value.to(device) for name, value in drawn.items()})
        self.step += 1
        return LeWMLoss(*losses)

    def _learn(self, batch: dict[str, Tensor], device: str) -> tuple[Tensor, ...]:
        """Losses, gradients, and the step that they ask for."""
        proprio = batch["proprio"] if self.model.config.proprio_dim else None
        extra = partial(self._place_head.loss, objects=batch["objects"]) if self._place_head else None
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            loss = self.model.loss(batch["frames"], batch["actions"], proprio, self.generator, extra)
        loss.total.backward()
        nn.utils.clip_grad_norm_(self._learned.parameters(), self.training.max_grad_norm)
        self.optimizer.step()
        return tuple(value.detach() for value in loss)

    def _rate(self) -> float:
        if self.training.minutes is None:
            return schedule(self.step, self.training)
        return timed_schedule(self.done, self.training)

    def _note(self, loss: LeWMLoss, judged: dict[str, Tensor], bar: Any, save: bool) -> None:
        """Log, judge and save where it is time to."""
        training, last = self.training, self.done >= 1.0
        judge = self.step % training.judge_every == 0 or last
        probe = self._probe is not None and (self.step % training.probe_every == 0 or last)
        if judge or probe or self.step % training.log_every == 0:
            losses = {name: float(value) for name, value in loss._asdict().items()}
            if not math.isfinite(losses["total"]):
                raise ValueError(f"The loss of update {self.step} is {losses}. Begin anew with a lower learning rate.")
            losses |= self._judge(judged) if judge else {}
            found = self._probed() if probe else {}
            self._log(losses | found)
            if found:
                bar.write(f"update {self.step}, held out: " + ", ".join(f"{k} {v:.2f}" for k, v in found.items()))
            bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()})
        if save or last or self.step % training.checkpoint_every == 0:
            self._checkpoint()

    def _probed(self) -> dict[str, float]:
        """What the probe says of the model as it will be used; it draws nothing, so training goes on the same."""
        self.model.eval()
        found = self._probe(self.model, self.train_set, self.test_set) if self._probe else {}
        self.model.train()
        return found

    @torch.no_grad()
    def _judge(self, judged: dict[str, Tensor]) -> dict[str, float]:
        """Held-out squared error per latent entry one step and the last step ahead, and of saying that nothing moves.

        Of the model as it will be used (no dropout, running statistics); draws nothing, so training goes on the same.
        """
        self.model.eval()
        proprio = judged["proprio"] if self.model.config.proprio_dim else None
        latents = self.model.encode(judged["frames"], proprio)
        steps = latents.shape[1] - self.model.config.history
        error = rollout_error(self.model, latents, judged["actions"], steps)
        self.model.train()
        return {
            "held_out_1": float(error.model[0]),
            f"held_out_{steps}": float(error.model[-1]),
            "no_change_1": float(error.no_change[0]),
            f"no_change_{steps}": float(error.no_change[-1]),
        }

    def _log(self, losses: dict[str, float]) -> None:
        with open(self.folder / LOG_FILE, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self.step} | losses) + "\n")

    def _optimizer_to(self, device: str) -> None:
        """Move its state; on a GPU all weights are updated by one kernel, which counts the steps there as well, and for
        a CUDA graph the rate lies there, too.
        """
        gpu, graph = device != "cpu", torch.device(device).type == "cuda"
        for group in self.optimizer.param_groups:
            rate = float(group["lr"])
            group |= {"fused": True if gpu else None, "capturable": graph}
            group["lr"] = torch.tensor(rate, device=device) if graph else rate
        for state in self.optimizer.state.values():
            for name, value in state.items():
                if torch.is_tensor(value):
                    state[name] = value.to(device if gpu or name != "step" else "cpu")

    def _settings(self) -> dict[str, Any]:
        return {"model": asdict(self.model.config), "training": self.training.learned_from}

    def _checkpoint(self) -> None:
        buffer = io.BytesIO()
        state = {
            "settings": self._settings(),
            "model": self._learned.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.bit_generator.state,
            "generator": self.generator.get_state(),
            "torch_rng": torch.get_rng_state(),
            "step": self.step,
            "seconds": self.seconds,
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
        self._learned.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = state["rng"]
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        if state["generator"].shape == self.generator.get_state().shape:
            self.generator.set_state(state["generator"])
        else:  # the other kind of device began this run
            self.generator.manual_seed(self.training.seed + self.step)
        torch.set_rng_state(state["torch_rng"])
        _keep_log(self.folder / LOG_FILE, self.step)


def take_encoder(encoder: VisionEncoder, folder: Path) -> None:
    """Give it the weights of another world model's, which learn no more. Raises ValueError for those of another size,
    and for a folder without a world model.
    """
    try:
        encoder.load_state_dict(load_world_model(folder).float().encoder.state_dict())
    except RuntimeError as error:
        raise ValueError(f"The encoder in {folder} is of another size than this training's: {error}") from error
    encoder.requires_grad_(False)


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
