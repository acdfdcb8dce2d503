"""One online life of a self-learner: healthy episodes, then a fault, episode after episode, saved as it goes."""

import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from neon_sim.model.neon_vla import NeonVLA
from neon_sim.rollout import rollout
from neon_sim.training.forward_model import ForwardModel
from neon_sim.training.practice import missed_by
from neon_sim.training.self_learner import NeonSelfLearner, SelfLearnerConfig


@dataclass(frozen=True)
class LifeConfig:
    """What happens to one learner."""

    healthy_episodes: int = 40
    faulty_episodes: int = 120
    steps: int = 96  # control steps an episode: six chunks
    first_seed: int = 5_000_000
    fault: Any = None


@dataclass(frozen=True)
class LifeEpisode:
    """One line of the learning curve."""

    episode: int
    faulty: bool
    success: bool  # whether the palm ended within the task's distance of where it was sent, practice included
    final_distance: float  # m from there
    hand: int


def live(
    env: Any,
    policy_folder: Path,
    learner_config: SelfLearnerConfig,
    life: LifeConfig,
    folder: Path,
    on_episode: Callable[[LifeEpisode, dict[str, float]], None] | None = None,
) -> list[LifeEpisode]:
    """Run (or go on with) one life; leaves `folder/policy` and returns the learning curve.

    Args:
        env: an unwrapped NeonG1Env of the reach task with camera and proprioception.
        policy_folder: the checkpoint to begin with, with `forward_model.pt` beside its weights.
        learner_config: losses, rate, protection, seed.
        life: episodes, seeds, fault.
        folder: where the state is kept; a life that was interrupted goes on from there.
        on_episode: called after each episode with its line and the last losses.
    """
    model = NeonVLA.from_pretrained(policy_folder)
    learner = NeonSelfLearner(model, load_forward_model(model, policy_folder), learner_config)
    folder.mkdir(parents=True, exist_ok=True)
    state_path = folder / "state.pt"
    curve: list[LifeEpisode] = []
    if state_path.exists():
        saved = torch.load(state_path, weights_only=True)
        learner.load_state_dict(saved["learner"])
        curve = [LifeEpisode(**line) for line in saved["curve"]]
    total = life.healthy_episodes + life.faulty_episodes
    for episode in range(len(curve), total):
        faulty = episode >= life.healthy_episodes
        if episode == life.healthy_episodes and not learner.ends_regimes:
            learner.end_regime()
        env.world.apply_fault(life.fault if faulty else None)
        line = _one_episode(env, learner, life, episode, faulty)
        curve.append(line)
        _save({"learner": learner.state_dict(), "curve": [asdict(point) for point in curve]}, state_path)
        if on_episode is not None:
            on_episode(line, learner.last_losses)
    model.save_pretrained(folder / "policy")
    return curve


def _one_episode(env: Any, learner: NeonSelfLearner, life: LifeConfig, episode: int, faulty: bool) -> LifeEpisode:
    seed = life.first_seed + 10_000 * learner.config.seed + episode
    rollout(
        env, learner.policy, life.steps, seed, keep=(), on_chunk=lambda _: learner.before_chunk(), stop_on_success=False
    )
    learner.end_episode()
    return line_of(env, learner, episode, faulty)


def line_of(env: Any, learner: NeonSelfLearner, episode: int, faulty: bool) -> LifeEpisode:
    """The line of an episode that has just ended; it is for the record only, the learner never sees it."""
    missed = missed_by(env, learner.policy)
    hand = int(env.privileged()["hand"])
    return LifeEpisode(episode, faulty, missed <= env.task.config.success_distance, missed, hand)


def save_forward_model(forward_model: ForwardModel, folder: Path) -> None:
    """Keep f_pred and P beside a checkpoint."""
    _save(forward_model.state_dict(), folder / "forward_model.pt")


def load_forward_model(model: NeonVLA, folder: Path) -> ForwardModel:
    """Read what `save_forward_model` wrote.

    Raises:
        ValueError: there is none, or it belongs to another model.
    """
    forward_model = ForwardModel.for_model(model)
    try:
        forward_model.load_state_dict(torch.load(folder / "forward_model.pt", map_location="cpu", weights_only=True))
    except (OSError, EOFError, RuntimeError, TypeError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{folder} has no fitting forward_model.pt ({error}). agents/pretrain.py writes one."
        ) from error
    return forward_model


def _save(state: Any, path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    torch.save(state, partial)
    partial.replace(path)
