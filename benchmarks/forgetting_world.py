"""The world of the forgetting benchmark: episodes without rendering, for learning and for judging.

Cached features: what the policy sees is looked at once per seed, on a healthy robot at the episode's beginning, and
kept. The goal is read from that picture; no later one is rendered, so an episode costs its physics and the heads. Every
arm, stage and regime shares these looks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from forgetting_tasks import subject_of
from torch import Tensor

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.eval.regimes import Regime
from neon_sim.g1.geometry import points_in_frame
from neon_sim.inference.neon_policy import Decision, NeonPolicy
from neon_sim.model.goal import goal_token
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.video_backbone import BackboneFeatures
from neon_sim.rollout import rollout
from neon_sim.sensors.camera import CameraConfig
from neon_sim.sim import faults
from neon_sim.tasks.arms import PALMS
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.practice import PractisingPolicy

NO_TOKENS = "Its heads attend to the picture's tokens, and a held look keeps none. Take heads without them."
WORLD: dict[str, Any] = {"physics_dt": 0.005, "sensors": ("proprio",)}


def world_of(task: str) -> dict[str, Any]:
    """Options of the env that a task is lived and judged in."""
    return {"task": task, **WORLD, **subject_of(task).options}


def open_env(task: str, eyes: bool = False) -> Any:
    """The task's env on 5 ms physics, unwrapped; with a camera only where somebody looks."""
    options = world_of(task)
    if eyes:
        options |= {"sensors": ("proprio", "camera"), "camera": CameraConfig(rate_hz=12.5)}
    return gymnasium.make("NeonG1-v0", disable_env_checker=True, **options).unwrapped


def fault_of(regime: Regime) -> Any:
    """What `apply_fault` takes: a tuple of faults, or None for nominal."""
    return tuple(getattr(faults, regime.fault)(**fields) for fields in regime.faults) or None


class Looks:
    """What was seen at the beginning of each seed's episode: pooled (D,), text (D,), goal token (5,)."""

    def __init__(self, arrays: Mapping[str, np.ndarray] | None = None) -> None:
        self._rows = {name: np.asarray(value) for name, value in (arrays or {}).items()}
        self._at = {int(seed): i for i, seed in enumerate(self._rows.get("seed", ()))}

    def __contains__(self, seed: int) -> bool:
        return seed in self._at

    def __len__(self) -> int:
        return len(self._at)

    def of(self, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled (1, D), text (1, D) and goal (1, 5) of a seed that was looked at."""
        row = self._at[seed]
        pooled, text, goal = (torch.from_numpy(self._rows[name][row])[None] for name in ("pooled", "text", "goal"))
        return pooled, text, goal

    def save(self, path: Path) -> None:
        """Write all of them, or nothing."""
        import io

        buffer = io.BytesIO()
        np.savez(buffer, **self._rows)  # type: ignore[arg-type]  # the stub's second parameter is no array
        replace_bytes(path, buffer.getbuffer())

    @classmethod
    def load(cls, paths: Iterable[Path]) -> "Looks":
        """Read what `save` wrote; files that are not there are left out."""
        parts = [dict(np.load(path)) for path in paths if path.exists()]
        names = parts[0] if parts else {}
        return cls({name: np.concatenate([part[name] for part in parts]) for name in names})


def look(model: NeonVLA, task: str, seeds: Iterable[int]) -> Looks:
    """Render and encode the first picture of each seed's episode."""
    policy = NeonPolicy(model)
    env = open_env(task, eyes=True)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ("seed", "pooled", "text", "goal")}
    for seed in seeds:
        policy.reset()
        obs, info = env.reset(seed=seed)
        policy.observe(obs, info["time_s"])
        features, _ = policy.perceive()
        with torch.no_grad():
            goal = goal_token(model.goal_reader(features))
        for name, value in (("pooled", features.pooled[0]), ("text", features.text[0]), ("goal", goal[0])):
            rows[name].append(value.numpy())
        rows["seed"].append(np.array(seed, np.int64))
    env.close()
    return Looks({name: np.stack(values) for name, values in rows.items()} if rows["seed"] else None)


class HeldLook(PractisingPolicy):
    """A policy that goes on with what it saw at the episode's beginning.

    What it practises beside the goal follows from the episode's seed alone, so all arms practise the same.

    Raises:
        ValueError: a model whose heads attend to the picture's tokens.
    """

    def __init__(self, model: NeonVLA, looks: Looks, noise_m: float = 0.0) -> None:
        super().__init__(model, noise_m, np.random.default_rng(0))
        if model.config.cross_attention:
            raise ValueError(NO_TOKENS)
        self.looks = looks
        self._tokens = torch.zeros(1, model.backbone.num_tokens, model.backbone.hidden_size)
        self._seen: tuple[Tensor, Tensor, Tensor] | None = None

    def join(self, env: Any) -> None:
        """Act in an env from now on; arms need nothing of it but observations."""

    def begin(self, seed: int) -> None:
        """The next episode is this seed's."""
        self._seen = self.looks.of(seed)
        self.rng = np.random.default_rng([seed, 7])

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None:
        """Keep the body's senses."""
        self._obs = obs
        self.steps_taken += 1

    @torch.no_grad()
    def perceive(self) -> tuple[BackboneFeatures, dict[str, Tensor]]:
        """The held look, and the body's senses as they are now."""
        pooled, text, _ = self._looked()
        known = [name for name in self.model.senses if name in self._obs]
        senses = {name: torch.from_numpy(self._obs[name])[None].float() for name in known}
        return BackboneFeatures(self._tokens, pooled, text), senses

    @torch.no_grad()
    def act(self) -> np.ndarray:
        """Answer with (1, 16, A)."""
        features, senses = self.perceive()
        goal = self.looked_goal()
        self.decision, self.steps_taken = Decision(features, senses, goal, self.decode(features, senses, goal)), 0
        return self.decision.chunk.numpy()

    def looked_goal(self) -> Tensor:
        """The goal token (1, 5) to act on: the one that was read at the beginning, and the offset that is practised."""
        return self.choose_goal(self._looked()[2])

    def _looked(self) -> tuple[Tensor, Tensor, Tensor]:
        if self._seen is None:
            raise ValueError("Nothing was looked at yet: call begin(seed) before the episode.")
        return self._seen


@torch.no_grad()
def act_together(policies: Sequence[HeldLook]) -> np.ndarray:
    """What policies of one model, which remember nothing of their episodes, answer now: (N, 16, A) in one pass."""
    perceived = [policy.perceive() for policy in policies]
    parts = zip(*((seen.tokens, seen.pooled, seen.text) for seen, _ in perceived), strict=True)
    senses = {name: torch.cat([known[name] for _, known in perceived]) for name in perceived[0][1]}
    goal = torch.cat([policy.looked_goal() for policy in policies])
    return policies[0].decode(BackboneFeatures(*map(torch.cat, parts)), senses, goal).numpy()


def arrived(env: Any, offset_m: np.ndarray) -> bool:
    """Whether an episode of the life ended as it was meant to.

    Of a reach: the palm within the task's success distance of the ball moved by the practised offset (3,) m. Of other
    tasks: the task's own success, whatever was practised beside it.
    """
    truth = env.privileged()
    if "target_pos_b" not in truth:
        return bool(env.task.success)
    palm_w = env.world.position(PALMS[truth["hand"]])
    palm_b = points_in_frame([palm_w], *env.world.object_pose("pelvis"))[0]
    error = np.linalg.norm(palm_b - truth["target_pos_b"] - offset_m)
    return bool(error <= env.task.config.success_distance)


@dataclass(frozen=True)
class Judged:
    """A frozen copy on one regime."""

    successes: int
    falls: int
    episodes: int
    median_distance: float | None  # m; None where the task has no distance
    outcomes: str  # 1 for each success and 0 for each failure, in the order of the seeds


def judged_of(episodes: Iterable[tuple[bool, bool, float | None]]) -> Judged:
    """Success, fall and distance (m) of each episode, in the order of the seeds, as one record."""
    successes, falls, distances = zip(*episodes, strict=True)
    outcomes = "".join(str(int(success)) for success in successes)
    return Judged(sum(successes), sum(falls), len(outcomes), median_of(distances), outcomes)


def judge(env: Any, policy: Any, regime: Regime, seeds: Iterable[int]) -> Judged:
    """Play a regime's episodes to success, or to the end where it must last; nothing is learned.

    policy: a `HeldLook`, or a `ResidualPolicy`. The env is left in the regime.
    """
    env.world.apply_fault(fault_of(regime))
    policy.join(env)
    lasts = subject_of(env.task.name).lasts
    episodes = []
    for seed in seeds:
        policy.begin(seed)
        played = rollout(env, policy, seed=seed, keep=(), stop_on_success=not lasts)
        episodes.append((bool(played.success), bool(played.terminated[-1]), env.privileged().get("distance")))
    return judged_of(episodes)


def median_of(distances: Sequence[float | None]) -> float | None:
    """m; None where the task has no distance."""
    known = [distance for distance in distances if distance is not None]
    return float(np.median(known)) if known else None
