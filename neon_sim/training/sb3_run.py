"""What a training by Stable-Baselines3 needs around `model.learn`: whole checkpoints, a log, a bar, Ctrl-C."""

import io
import json
import math
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecNormalize
from tqdm import tqdm

from neon_sim.inference.sb3_policy import POLICY_FILE, STATISTICS, ObservationScale, read_scale, require_sb3
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.interrupt import Interrupt

REPLAY_FILE: Final = "replay_buffer.pkl"
LOG_FILE: Final = "log.jsonl"
EPISODE_REWARD: Final = "rollout/ep_rew_mean"  # Stable-Baselines3's names: means over the last hundred episodes
SUCCESS_RATE: Final = "rollout/success_rate"
_FIRST_SEEDS: Final = 10_000_000  # episodes are trained on with seeds below, and judged with those from here on


def save_checkpoint(model: BaseAlgorithm, folder: Path) -> None:
    """Write what `load_checkpoint` needs: the model and its observations' scale as one file, replaced as a whole.

    A replay buffer is written before it: a machine lost in between leaves one that is a little newer than the model.
    """
    if isinstance(model, OffPolicyAlgorithm):
        partial = folder / (REPLAY_FILE + ".partial")
        with open(partial, "wb") as file:
            model.save_replay_buffer(file)
        os.replace(partial, folder / REPLAY_FILE)
    out = io.BytesIO()
    model.save(out)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(STATISTICS, _scale_of(model.get_vec_normalize_env()).to_bytes())
    replace_bytes(folder / POLICY_FILE, out.getbuffer())


def load_checkpoint(algo: str, folder: Path, envs: VecNormalize, seed: int) -> BaseAlgorithm:
    """Go on from a folder of `save_checkpoint`, with new episodes.

    No random state is kept: the episodes that follow come from `seed` and the number of steps so far.
    """
    model: BaseAlgorithm = getattr(require_sb3(), algo.upper()).load(folder / POLICY_FILE, env=envs, device="cpu")
    _give_scale(envs, read_scale(folder / POLICY_FILE))
    if isinstance(model, OffPolicyAlgorithm):
        model.load_replay_buffer(folder / REPLAY_FILE)
    model.set_random_seed(int(np.random.default_rng([seed, model.num_timesteps]).integers(_FIRST_SEEDS)))
    return model


def _statistics(envs: VecNormalize) -> dict[str, Any]:
    """Running means by key; "" for an observation that is one vector."""
    return envs.obs_rms if isinstance(envs.obs_rms, dict) else {"": envs.obs_rms}


def _scale_of(envs: VecNormalize | None) -> ObservationScale:
    running = {} if envs is None else _statistics(envs)
    mean, var, count = ({key: getattr(one, name) for key, one in running.items()} for name in ("mean", "var", "count"))
    return ObservationScale(mean, var, count)


def _give_scale(envs: VecNormalize, scale: ObservationScale) -> None:
    for key, running in _statistics(envs).items():
        running.mean, running.var, running.count = scale.mean[key], scale.var[key], scale.count[key]


class RunLog(KVWriter):
    """Stable-Baselines3's figures as lines of log.jsonl and as TensorBoard events.

    Args:
        folder: of the run.
        steps: done so far; what was logged after them belongs to what was lost, and goes.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path = folder / LOG_FILE
        kept = [line for line in read_log(folder) if line["steps"] <= steps]
        replace_bytes(self._path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._board = SummaryWriter(str(folder), purge_step=steps + 1)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """One line, and one point per figure."""
        numbers = {
            name: float(value) for name, value in key_values.items() if isinstance(value, int | float | np.number)
        }
        finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
        with open(self._path, "a") as file:
            file.write(json.dumps({"steps": step, **{name: round(value, 6) for name, value in finite.items()}}) + "\n")
        for name, value in finite.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Write the last events."""
        self._board.close()


def read_log(folder: Path) -> list[dict[str, float]]:
    """The lines of log.jsonl so far: `steps`, and Stable-Baselines3's figures by name."""
    path = folder / LOG_FILE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Watch(BaseCallback):
    """Moves the bar, saves every so often between two rollouts, and ends the training when Ctrl-C asked for it."""

    def __init__(self, bar: "tqdm[Any]", save: Callable[[], None], every_s: float, interrupt: Interrupt) -> None:
        super().__init__()
        self._bar, self._save, self._every_s, self._interrupt = bar, save, every_s, interrupt
        self._saved_s = time.monotonic()

    def _on_rollout_start(self) -> None:
        if time.monotonic() - self._saved_s > self._every_s and self.num_timesteps > 0:
            self._save()
            self._saved_s = time.monotonic()

    def _on_step(self) -> bool:
        self._bar.update(self.num_timesteps - self._bar.n)
        episodes = self.model.ep_info_buffer
        if episodes:
            self._bar.set_postfix_str(f"reward {np.mean([one['r'] for one in episodes]):.2f}", refresh=False)
        return not self._interrupt.asked


def learn(model: BaseAlgorithm, folder: Path, steps: int, every_s: float, interrupt: Interrupt) -> None:
    """Train until `steps` control steps of all envs together, or until `interrupt` asks; then save."""
    log = RunLog(folder, model.num_timesteps)
    model.set_logger(Logger(str(folder), [log]))
    left = steps - model.num_timesteps
    with tqdm(total=steps, initial=model.num_timesteps, unit="step", unit_scale=True, smoothing=0.05) as bar:
        watch = Watch(bar, lambda: save_checkpoint(model, folder), every_s, interrupt)
        every = model.n_envs if isinstance(model, OffPolicyAlgorithm) else 1  # episodes of SAC, batches of PPO
        model.learn(left, callback=watch, log_interval=every, reset_num_timesteps=False)
    save_checkpoint(model, folder)
    log.close()
