"""A planner as teacher: while the self-learner practises, a planner in a world model acts, and the heads learn from it.

For each chunk the policy reads its own goal out of picture and words, the planner looks for commands that bring the
palm there, and the joint targets that carry those commands out are what is done and what is learned. Nothing is
labelled: the goal is the policy's own reading, and hindsight (D18) says what the chunks achieved.
"""

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from neon_sim.g1 import joints
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.model.goal import HANDS, goal_position
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.video_backbone import BackboneFeatures
from neon_sim.names import nearest
from neon_sim.rollout import rollout
from neon_sim.training.atomic_file import replace_bytes
from neon_sim.training.online import LifeEpisode, line_of, load_forward_model
from neon_sim.training.practice import PractisingPolicy
from neon_sim.training.self_learner import NeonSelfLearner, SelfLearnerConfig
from neon_sim.world_model.bundle import Bundle
from neon_sim.world_model.command_space import STEP_TICKS, CommandSpace, carry_out, palm_command
from neon_sim.world_model.controllers import PLANNERS, LatentController, PlanningConfig
from neon_sim.world_model.encoder import shrink_frames
from neon_sim.world_model.problems import Problem
from neon_sim.world_model.worlds import Moment

TASK: Final = "reach"  # whose goal the policy reads: a hand and a place
STATE_FILE: Final = "state.pt"
_TRACKING_ERROR: Final = slice(87, 116)  # of the proprio vector: last sent target - position


@dataclass(frozen=True)
class TeachingConfig:
    """How long it is taught, and how it is planned."""

    own_episodes: int = 20  # first, by the heads themselves: what a protection is to keep
    taught_episodes: int = 80
    steps: int = 96  # control steps an episode: six chunks
    first_seed: int = 5_500_000
    planner: str = "cem"
    planning: PlanningConfig = field(default_factory=PlanningConfig)
    offset_gain: float = 0.5  # share of what the last chunk missed that the next one aims beside; 0: model believed
    teacher: bool = True  # False: the heads act in the taught episodes as well, for comparison
    fault: Any = None  # what is broken in the taught episodes

    def __post_init__(self) -> None:
        if min(self.own_episodes, self.taught_episodes, self.steps) < 1:
            raise ValueError(f"Teaching wants counts of one or more, got {self}.")
        if not 0.0 <= self.offset_gain <= 1.0:
            raise ValueError(f"offset_gain is a share, wanted 0 to 1, got {self.offset_gain}.")
        if self.planner not in PLANNERS:
            raise nearest("planner", self.planner, PLANNERS)


class PlanningTeacher(PractisingPolicy):
    """A policy whose chunks come from a planner; its goals and what it remembers of them are the network's own.

    In the place of `NeonSelfLearner.policy` it is what the heads learn from. A world model that was trained on a
    healthy body misses with a broken one; so what a chunk missed its own prediction by is taken off the next one's goal
    (offset-free predictive control, Pannocchia and Rawlings 2003): sensed by the joints, no label.

    Raises ValueError for a world model of another task, and a network of another action space than the commands'.
    """

    def __init__(
        self,
        model: NeonVLA,
        bundle: Bundle,
        config: TeachingConfig,
        noise_m: float,
        rng: np.random.Generator,
    ) -> None:
        super().__init__(model, noise_m, rng)
        if bundle.task != TASK:
            raise ValueError(f"The teacher wants a world model of {TASK}, got one of {bundle.task}.")
        G1ActionSpace("arms_only").require_equal(model.action_space, "policy")
        steps = -(-model.config.num_action_steps // STEP_TICKS)
        hold = max(config.planning.hold, -(-steps // config.planning.horizon))  # a plan is as long as a chunk
        planning = replace(config.planning, goal="state", execute=steps, hold=hold)
        self.bundle, self._gain = bundle, config.offset_gain
        self._controller = LatentController(bundle, planning, config.planner)
        self._foreseen: np.ndarray | None = None  # (2, 3) m, both palms at the end of the last chunk, pelvis frame
        self._missed = np.zeros((2, 3))  # m, running mean

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Forget the clip and what was missed, and draw a new offset to practise."""
        super().reset(env_ids)
        self._foreseen, self._missed = None, np.zeros((2, 3))

    def decode(self, features: BackboneFeatures, senses: dict[str, Tensor], goal: Tensor) -> Tensor:
        """The planner's chunk (1, 16, 17) for a goal token (1, 5)."""
        seen, space = self._moment(), self.bundle.space
        if self._foreseen is not None:
            self._missed += self._gain * (seen.palms.reshape(2, 3) - self._foreseen - self._missed)
        wanted = palms_wanted(space, int(goal[0, :HANDS].argmax()), goal_position(goal)[0].double().numpy())
        seed = int(self.rng.integers(2**31))  # of the learner's generator: a resumed course searches as the whole one
        self._controller.begin(Problem(seed, {}, {}, seen, seen, wanted - self._missed, ""))
        self._controller.see(seen, None)  # one look is enough: proprioception carries the velocities
        ticks = self.model.config.num_action_steps
        chunk = commanded_chunk(space, self._controller.decide(), seen.proprio, ticks)
        self._foreseen = self._imagined_palms(round(ticks / STEP_TICKS))
        return torch.from_numpy(chunk)[None].float()

    def _imagined_palms(self, step: int) -> np.ndarray:
        """Where the last plan says that the palms (2, 3) are after so many model steps, at least one."""
        latents = self._controller.imagined
        assert latents is not None  # it has just decided
        with torch.no_grad():
            places = self.bundle.readout.outcome(TASK, latents[:1], latents[None, None].float())
        return places[0, 0, max(step, 1) - 1].double().numpy()

    def _moment(self) -> Moment:
        """What the world model is shown: nothing but what the robot senses."""
        size, nothing = self.bundle.model.config.image_size, np.zeros(3)
        frame = shrink_frames(torch.from_numpy(np.ascontiguousarray(self._obs["camera"])), size).numpy()
        palms = np.concatenate([self._obs["eef"][:3], self._obs["eef"][7:10]])
        return Moment(frame, self._obs["proprio"], nothing, palms, nothing, nothing)


def palms_wanted(space: CommandSpace, hand: int, point_b: np.ndarray) -> np.ndarray:
    """Where both palms should be, (2, 3) m in the pelvis frame: one at a point (3,), the other waits low."""
    return space.to_units(palm_command(space, hand, point_b)).reshape(2, 3)


def commanded_chunk(space: CommandSpace, commands: np.ndarray, proprio: np.ndarray, ticks: int = 16) -> np.ndarray:
    """The actions (ticks, 17) of arms_only that carry commands (n, A) out one after the other, 5 ticks each.

    proprio: (125,), of now; each command goes on from the targets that the one before it ended with.
    Raises ValueError for too few commands.
    """
    if len(commands) * STEP_TICKS < ticks:
        raise ValueError(f"{ticks} ticks want {-(-ticks // STEP_TICKS)} commands of {STEP_TICKS}, got {len(commands)}.")
    actions, felt, parts = G1ActionSpace("arms_only"), np.array(proprio, np.float64), []
    for command in commands:
        parts.append(carry_out(space, command, felt))
        told, _ = actions.decode(parts[-1][-1])
        felt[_TRACKING_ERROR] = told - felt[: joints.NUM_JOINTS]
    return np.concatenate(parts)[:ticks]


def teach(
    env: Any,
    policy_folder: Path,
    bundle: Bundle,
    learner_config: SelfLearnerConfig,
    config: TeachingConfig,
    folder: Path,
    on_episode: Callable[[LifeEpisode, dict[str, float]], None] | None = None,
) -> list[LifeEpisode]:
    """Run, or go on with, one course; leaves `folder/policy` and returns a line for each episode.

    First the heads act by themselves, and the protection in `learner_config` is put on what they
    know; then the planner acts, and what it does is all that is learned from. A stopped course loses one episode.

    Args:
        env: an unwrapped NeonG1Env of the reach task with camera and proprioception.
        policy_folder: the checkpoint to begin with, with `forward_model.pt` beside its weights.
        bundle: a world model of reach.
        learner_config: losses, rate, protection, seed.
        config: episodes, planner, fault.
        folder: where the state is kept.
        on_episode: called after each episode with its line and the last losses.
    """
    model = NeonVLA.from_pretrained(policy_folder)
    learner = NeonSelfLearner(model, load_forward_model(model, policy_folder), learner_config)
    own = learner.policy
    teacher = PlanningTeacher(model, bundle, config, learner_config.practice_noise_m, own.rng)
    lines = _restored(learner, folder)
    total = config.own_episodes + config.taught_episodes
    while len(lines) < total:
        taught = len(lines) >= config.own_episodes
        if len(lines) == config.own_episodes:
            learner.end_regime()  # protect what the heads know, then learn from the teacher alone
        learner.policy = teacher if taught and config.teacher else own
        env.world.apply_fault(config.fault if taught else None)
        seed = config.first_seed + 10_000 * learner_config.seed + len(lines)
        rollout(env, learner.policy, config.steps, seed, keep=(), on_chunk=lambda _: learner.before_chunk())
        learner.end_episode()
        lines.append(line_of(env, learner, len(lines), taught))
        _save(learner, lines, folder)
        if on_episode is not None:
            on_episode(lines[-1], learner.last_losses)
    model.save_pretrained(folder / "policy")
    return lines


def _restored(learner: NeonSelfLearner, folder: Path) -> list[LifeEpisode]:
    path = folder / STATE_FILE
    if not path.exists():
        return []
    saved = torch.load(path, weights_only=True)
    learner.load_state_dict(saved["learner"])
    return [LifeEpisode(**line) for line in saved["lines"]]


def _save(learner: NeonSelfLearner, lines: list[LifeEpisode], folder: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"learner": learner.state_dict(), "lines": [asdict(line) for line in lines]}, buffer)
    replace_bytes(folder / STATE_FILE, buffer.getbuffer())
