"""Stand and walk in the forgetting benchmark: what their policies begin with, and the arms that learn in another way.

They begin with the walker alone: a residual of zero. What is known beforehand is the healthy robot's body, found out by
babbling: it walks with random residuals, and a forward model learns what each of them does.
"""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from forgetting_randomised import RivalConfig, drawn_fault, rival_seeds
from forgetting_reward import MOST, TEMPERATURE, reward_of
from forgetting_tasks import subject_of
from forgetting_world import open_env
from torch import Tensor

from neon_sim.g1.joints import JOINT_NAMES
from neon_sim.locomotion.residual import OWN_JOINTS, Window
from neon_sim.rollout import rollout
from neon_sim.shipped import walker_fingerprint
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.fisher import Batch
from neon_sim.training.residual_learner import (
    ResidualLearner,
    ResidualLearnerConfig,
    experience_of,
    healthy_of,
    stack_items,
)
from neon_sim.training.residual_model import (
    FILE,
    ResidualForward,
    ResidualNet,
    load_residual,
    save_residual,
)
from neon_sim.training.residual_policy import ResidualPolicy
from neon_sim.training.run_folder import claim_folder
from neon_sim.training.workers import parallel_map

BABBLE_SEED: Final = 8_000_000  # beyond rivals (7 million) and below what is judged (10 million)
BLOCK: Final = 20  # episodes in one file
LEG_MOTORS: Final = JOINT_NAMES[:12]


@dataclass(frozen=True)
class Babbling:
    """How long the healthy robot tries what residuals do."""

    episodes: int = 160
    steady: int = 40  # of them without a residual: what is healthy
    spread_rad: float = 0.08  # std of the residual of each joint
    seed: int = 0


TINY: Final = Babbling(episodes=4, steady=2)


def babble_block(job: tuple[Path, str, int, int, Babbling]) -> None:
    """Walk a block of episodes and keep their windows, unless the file is there."""
    path, task, first, count, babbling = job
    if path.exists():
        return
    env = open_env(task)
    episodes = [babble(env, task, i, babbling) for i in range(first, first + count)]
    env.close()
    buffer = io.BytesIO()
    rows = {str(first + i): _flat(windows) for i, windows in enumerate(episodes)}
    np.savez(buffer, **rows)  # type: ignore[arg-type]  # the stub's second parameter is no array
    replace_bytes(path, buffer.getbuffer())


def babble(env: Any, task: str, number: int, babbling: Babbling) -> list[Window]:
    """One episode's windows."""
    policy = ResidualPolicy(None, None, 0.0 if number < babbling.steady else babbling.spread_rad)
    seed = BABBLE_SEED + 10_000 * babbling.seed + number
    policy.join(env)
    policy.begin(seed)
    rollout(env, policy, subject_of(task).steps, seed, keep=())
    policy.end()
    return policy.windows


def _flat(windows: Sequence[Window]) -> np.ndarray:
    return np.array([np.concatenate(window) for window in windows])


def _windows(rows: np.ndarray) -> list[Window]:
    borders = np.cumsum((3, rows.shape[1] - 3 - 2 * OWN_JOINTS, OWN_JOINTS)).tolist()
    return [Window(*np.split(row, borders)) for row in rows]


def begin_residual(task: str, folder: Path, babbling: Babbling, workers: int) -> Path:
    """Make sure that a folder holds what a residual policy of a task begins with, and return that; resumable.

    Raises:
        ValueError: the folder was begun with other settings.
    """
    policy = folder / "policy"
    begun = {"task": task, "env": dict(subject_of(task).options), "walker": walker_fingerprint()}
    claim_folder(folder, asdict(babbling) | begun)
    if (policy / FILE).exists():
        return policy
    blocks = range(0, babbling.episodes, BLOCK)
    jobs = [(folder / "babble" / f"{i:06d}.npz", task, i, min(BLOCK, babbling.episodes - i), babbling) for i in blocks]
    list(parallel_map(babble_block, jobs, min(workers, len(jobs)), "babbling"))
    episodes = [_windows(rows) for path, *_ in jobs for rows in np.load(path).values()]
    torch.manual_seed(babbling.seed)
    healthy = healthy_of(episodes[: babbling.steady])
    batch = stack_items([item for windows in episodes for item in experience_of(windows, healthy)])
    net, forward_model = ResidualNet(), ResidualForward()
    share = unforeseen_share(forward_model, batch)
    print(f"forward model of {task}: {100 * share:.0f} % of the error of foreseeing the usual", flush=True)
    forward_model.fit(batch)
    save_residual(policy, net, forward_model, healthy)
    return policy


def unforeseen_share(model: ResidualForward, batch: Batch) -> float:
    """Squared error on the last quarter of a batch, fitted to the rest, as a share of that of expecting nothing odd."""
    border = 3 * len(batch["weight"]) // 4
    model.fit({name: value[:border] for name, value in batch.items()})
    rest = {name: value[border:] for name, value in batch.items()}
    error = model(rest["features"], rest["executed"]) - rest["outcome"]
    return float(error.square().mean() / rest["outcome"].square().mean())


def residual_policy(folder: str | Path) -> ResidualPolicy:
    """What a folder's policy begins with, ready to act."""
    net, _, healthy = load_residual(Path(folder))
    return ResidualPolicy(net, healthy)


class RewardedResidual(ResidualLearner):
    """What labels would buy: it imitates the residuals that it tried, the more the better the episode was rewarded."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """As without labels, with reward-weighted regression in the place of what the forward model asks for."""
        rewards, limit = batch["weight"], self.model.limit
        above = (rewards - rewards.mean()) / rewards.std(correction=0).clamp(min=1e-3)
        weight = (above.clamp(-MOST, MOST) / TEMPERATURE).exp()
        error = ((self.model(batch["features"]) - batch["executed"]) / limit).square().mean(dim=1)
        asked = self.config.asked_weight * (error * weight).sum() / weight.sum()
        return {**super().losses(batch), "asked": asked}


def residual_learner(
    folder: str | Path, config: ResidualLearnerConfig, labels: bool, rival: Path | None = None
) -> ResidualLearner:
    """A learner that begins with a folder's policy; rival: the file of a network to take in its place."""
    net, forward_model, healthy = load_residual(Path(folder))
    if rival is not None:
        net.load_state_dict(torch.load(rival, weights_only=True))
    return (RewardedResidual if labels else ResidualLearner)(net, forward_model, healthy, config)


def train_legs_rival(folder: str, task: str, config: RivalConfig, path: Path) -> None:
    """Train the arm `randomised` on episodes with a motor of the legs at fault, unless it is there.

    It learns as the learners do, from all of its episodes at once, and then never again; nobody shows it what to do, as
    reach's rival is shown.
    """
    if path.exists():
        return
    torch.set_num_threads(1)
    own = ResidualLearnerConfig(buffer_size=10**6, seed=config.seed)
    learner, env = residual_learner(folder, own, labels=False), open_env(task)
    for seed in rival_seeds(config):
        env.world.apply_fault(drawn_fault(config, np.random.default_rng([seed, config.seed]), LEG_MOTORS))
        live_episode(env, learner, seed, subject_of(task).steps)
    env.close()
    buffer = io.BytesIO()
    torch.save(learner.model.state_dict(), buffer)
    replace_bytes(path, buffer.getbuffer())


def live_episode(env: Any, learner: ResidualLearner, seed: int, steps: int) -> tuple[bool, bool]:
    """One episode that is learned from; returns whether the task was done at its end, and whether the robot fell."""
    learner.policy.join(env)
    learner.policy.begin(seed)
    played = rollout(env, learner.policy, steps, seed, keep=(), on_chunk=lambda _: learner.before_chunk())
    learner.reward = reward_of(played.rewards)
    learner.end_episode()
    return played.success, bool(played.terminated[-1])
