"""One worker that records episodes: a simulator, a policy, and a folder after the other."""

import multiprocessing
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np

from neon_sim.cells import LASTING, TASKS, TWO_EARS
from neon_sim.data.lerobot import LeRobotWriter
from neon_sim.episode import NeonEpisode
from neon_sim.eval.evaluate import EvaluationJob, build_policy
from neon_sim.inference.references import STEPS, ExpertPolicy
from neon_sim.rollout import FrameLog, rollout
from neon_sim.training.told_to_stand import STAND, STANDING_STEPS, ToldToStand, is_told
from neon_sim.training.whole_body import StandingExpert

RATE_HZ = 50
ORPHAN_WAIT_S = 120.0  # a worker whose run was killed ends with its episode
TELEOP = "teleop"  # the policy's name where a person drives


@dataclass(frozen=True)
class Collecting:
    """What is recorded. seconds: of each episode at most.

    full_lidar: keep whole LiDAR frames as info.lidar_full (T, 20000, 4) float16: x, y, z in m in the torso frame and
    Livox's reflectivity, misses 0; half a float is exact to 2 mm up to 8 m away, to 16 mm at 40 m.

    microphones: 2 are those of `cells.TWO_EARS`. stand_share: of the episodes, told to stand instead of what the task
    is, and standing there (`told_to_stand`).
    """

    task: str = "reach"
    policy: str = "expert"
    seconds: float = 10.0
    sensors: tuple[str, ...] = ("proprio",)
    control_mode: str = "arms_only"
    physics_dt: float = 0.005  # s
    stop_on_success: bool = False
    noise_rad: float = 0.12  # of noisy_expert: std of the offset per arm joint
    noisy_share: float = 0.5  # of noisy_expert: chunks with an offset
    paused_share: float = 0.0  # of noisy_expert: chunks in which it holds still
    full_lidar: bool = False
    microphones: int = 1
    stand_share: float = 0.0
    seed: int = 0


# noise_rad and noisy_share where the usual ones are too much: half of the boxes fell at 0.06 rad, and a palm that is
# pushed off its path all the time is never on it.
NOISE_BORNE: dict[str, tuple[float, float]] = {"lift_box": (0.04, 0.3), "track": (0.08, 0.5)}


def as_judged(config: Collecting) -> Collecting:
    """The same with episodes like NeonBench's: of the task's own length, ended by success where that ends it there.

    A noisy expert is disturbed by what the task bears, and now and then it pauses: who learns from it must know how to
    go on from a halt, wherever that is.
    """
    noise_rad, noisy_share = NOISE_BORNE.get(config.task, (config.noise_rad, config.noisy_share))
    return replace(
        config,
        seconds=TASKS[config.task]().max_steps / RATE_HZ,
        stop_on_success=config.task not in LASTING,
        noise_rad=noise_rad,
        noisy_share=noisy_share,
        paused_share=0.1 if config.policy == "noisy_expert" else 0.0,
    )


@dataclass(frozen=True)
class Shard:
    """A folder, and the seeds of the episodes that belong there."""

    folder: str
    first_seed: int
    count: int


def check_lidar(config: Collecting) -> None:
    """Raise ValueError for full LiDAR frames of a robot that is not given a LiDAR."""
    if config.full_lidar and "lidar" not in config.sensors:
        raise ValueError(f'Full LiDAR frames want "lidar" among the sensors, got {config.sensors}. Add it.')


def check_whole_body(config: Collecting) -> None:
    """Raise ValueError for a noisy expert that owns the legs: what balances must not be pushed off its path."""
    if config.control_mode == "whole_body" and config.policy == "noisy_expert":
        raise ValueError("In whole_body the expert balances, and has no noisy version: record --policy expert.")


def check_words(config: Collecting) -> None:
    """Raise ValueError for ears that are not sensed, and for a share of other words that nobody could follow."""
    if config.microphones not in (1, 2) or (config.microphones == 2 and "audio" not in config.sensors):
        raise ValueError(
            f'microphones wants 1, or 2 with "audio" among the sensors, got {config.microphones}, {config.sensors}.'
        )
    if not 0.0 <= config.stand_share < 1.0 or (config.stand_share and config.policy != "noisy_expert"):
        raise ValueError(
            f"stand_share wants 0 to less than 1, and above 0 the noisy_expert, which can stand instead; got "
            f"{config.stand_share} and {config.policy}."
        )


def _require_same_actions(policy: Any, env: Any) -> None:
    model = getattr(policy, "model", None)
    wanted = getattr(model, "action_space", env.action_map)
    if wanted != env.action_map:
        raise ValueError(f"This checkpoint's actions are {wanted}, but {env.action_map} is what is recorded.")


class NoisyExpert(ExpertPolicy):
    """The expert, in some chunks pushed off its path or held still; `wanted` is what it would have done itself.

    `expert` answers a number of steps with as many actions; it may be exchanged between episodes.
    """

    def __init__(self, env: Any, noise_rad: float, noisy_share: float, paused_share: float = 0.0) -> None:
        super().__init__(env)
        self.expert: Callable[[int], np.ndarray] = env.expert_chunk
        self._noise_rad, self._share, self._paused = noise_rad, noisy_share, paused_share
        self._rng: np.random.Generator | None = None
        self.wanted: list[np.ndarray] = []

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Forget the episode before."""
        self._rng, self.wanted = None, []

    def act(self) -> np.ndarray:
        """(1, 16, A): in some chunks with an offset on the arms that grows over the chunk, in some the last targets."""
        if self._rng is None:
            self._rng = np.random.default_rng([self.env.np_random_seed, 11])
        chunk = self.expert(STEPS)
        self.wanted.append(chunk.astype(np.float32))
        if self._paused and self._rng.random() < self._paused:
            still = self.env.action_map.encode(self.env.robot.read().joint_target)
            return np.tile(still, (1, STEPS, 1))
        if self._rng.random() >= self._share:
            return chunk[None]
        space = self.env.action_map
        arms = np.flatnonzero(["shoulder" in n or "elbow" in n or "wrist" in n for n in space.names])
        half_span = (space.upper - space.lower)[arms] / 2.0
        offset = self._rng.normal(0.0, self._noise_rad, len(arms)) / half_span
        noisy = chunk.copy()
        noisy[:, arms] += np.linspace(0.2, 1.0, STEPS)[:, None] * offset
        return np.clip(noisy, -1.0, 1.0)[None]


class Witness:
    """A policy under observation: what its words mean at every step is noted, for those who will learn to read them.

    full_lidar: whole LiDAR frames as well, each when it is taken and repeated until the next.
    """

    def __init__(self, policy: Any, env: Any, full_lidar: bool = False) -> None:
        self.policy, self._env, self._full_lidar = policy, env, full_lidar
        self.told_otherwise = False  # the words are another task's: what this one's would mean is no goal
        self._goals: list[tuple[int, np.ndarray]] = []
        self._scans = FrameLog(np.float16)
        self._scan_number: int | None = None
        self._newest_scan = np.zeros((0, 4), np.float16)

    def reset(self, env_ids: list[int] | None = None) -> None:
        """Forget the episode before."""
        self._goals, self._scans, self._scan_number = [], FrameLog(np.float16), None
        self.policy.reset(env_ids)

    def observe(self, obs: Mapping[str, np.ndarray], now_s: float) -> None:
        """Called before the first step and after every one."""
        self._note_goal()
        if self._full_lidar:
            self._scan()
        self.policy.observe(obs, now_s)

    def act(self) -> np.ndarray:
        """As the policy says."""
        return self.policy.act()

    def infos(self, steps: int) -> dict[str, np.ndarray]:
        """What was noted, by name: goal_hand (T,) 0 left, 1 right, 2 both, -1 no goal (goal_pos_b then says nothing),
        goal_pos_b (T, 3) m, expert_action (T, A), lidar_full (T, N, 4) float16. Can be asked once: the LiDAR's
        frames are handed over, not copied.
        """
        noted: dict[str, np.ndarray] = {}
        if self._goals:
            hands, places = zip(*self._goals[:steps], strict=True)
            noted = {"goal_hand": np.array(hands), "goal_pos_b": np.array(places, np.float32)}
        if isinstance(self.policy, NoisyExpert):
            noted["expert_action"] = np.concatenate(self.policy.wanted)[:steps]
        if len(self._scans):
            noted["lidar_full"] = self._scans.array(steps)
        return noted

    def _note_goal(self) -> None:
        """Which hand belongs where, in tasks that say where."""
        truth, ask = self._env.privileged(), getattr(self._env.task, "expert_hand", None)
        if "target_pos_b" not in truth or (ask is None and "hand" not in truth):
            return
        hand = truth["hand"] if ask is None else ask(self._env.robot.read(), self._env.world)
        known = hand is not None and not self.told_otherwise
        self._goals.append((hand, truth["target_pos_b"]) if known else (-1, np.zeros(3)))

    def _scan(self) -> None:
        """The frame that the robot's LiDAR took at this step, all of it, or the one before if it took none."""
        robot = self._env.robot
        lidar = robot.sensor("lidar")
        number = lidar.get_state()["frame"]
        if number != self._scan_number:
            self._scan_number, self._newest_scan = number, lidar.full_frame(robot.data).astype(np.float16)
        self._scans.append(self._newest_scan)


class Recorder:
    """One worker: a simulator, a policy, and one shard after the other.

    Args:
        config: what is recorded.
        driver: makes the policy that follows a person in an env; for the policy "teleop", which needs one.
        window: show the robot live.

    Raises:
        ValueError: "teleop" without a driver, full LiDAR frames of a robot without LiDAR, a noisy expert that would
            have to balance, two microphones that are not sensed, a checkpoint whose actions mean something else than
            the data's, or a share of other words for anyone but the noisy expert.
    """

    def __init__(self, config: Collecting, driver: Callable[[Any], Any] | None = None, window: bool = False) -> None:
        if config.policy == TELEOP and driver is None:
            raise ValueError("The policy 'teleop' is a person. Say how it drives: agents/collect.py --policy teleop.")
        check_lidar(config)
        check_whole_body(config)
        check_words(config)
        self.config = config
        ears: dict[str, Any] = {"audio": TWO_EARS} if config.microphones == 2 else {}
        self.env: Any = gymnasium.make(
            "NeonG1-v0",
            task=config.task,
            control_mode=config.control_mode,
            sensors=config.sensors,
            physics_dt=config.physics_dt,
            max_steps=round(config.seconds * RATE_HZ),
            render_mode="human" if window else None,
            disable_env_checker=True,
            **ears,
        ).unwrapped
        if driver is not None:
            policy: Any = driver(self.env)
        elif config.policy == "noisy_expert":
            policy = NoisyExpert(self.env, config.noise_rad, config.noisy_share, config.paused_share)
        elif config.policy == "expert" and config.control_mode == "whole_body":
            policy = StandingExpert(self.env)
        else:
            policy = build_policy(EvaluationJob("collect", config.policy, ()), self.env)
        _require_same_actions(policy, self.env)
        self.policy = Witness(policy, self.env, config.full_lidar)
        self._standing = ToldToStand(self.env)

    def episode(self, seed: int) -> NeonEpisode:
        """Play one episode and keep everything that was observed."""
        keep = tuple(self.env.observation_space.spaces)
        if self.config.task != STAND and is_told(seed, self.config.stand_share):
            return self._episode_of_standing(seed, keep)
        episode = rollout(self.env, self.policy, seed=seed, keep=keep, stop_on_success=self.config.stop_on_success)
        return replace(episode, infos=self.policy.infos(len(episode)))

    def _episode_of_standing(self, seed: int, keep: tuple[str, ...]) -> NeonEpisode:
        """The same scene with other words, and what those ask for."""
        told, words = self._standing, {"instruction": self._standing.words(seed)}
        expert, self.policy.told_otherwise = self.policy.policy, True
        expert.expert = told.chunk
        try:
            episode = rollout(
                self.env, self.policy, STANDING_STEPS, seed, keep=keep, on_chunk=told.watch, options=words
            )
        finally:
            expert.expert, self.policy.told_otherwise = self.env.expert_chunk, False
        ended = bool(episode.terminated[-1])
        return replace(episode, infos=self.policy.infos(len(episode)), success=told.done() and not ended)

    def record(self, shard: Shard) -> int:
        """Bring a shard up to its count; returns how many episodes were new."""
        with LeRobotWriter(shard.folder, wait_s=ORPHAN_WAIT_S) as writer:
            begun = len(writer)
            while len(writer) < shard.count:
                leave_if_orphaned()
                writer.add(self.episode(shard.first_seed + len(writer)))
        return shard.count - begun


def leave_if_orphaned() -> None:
    """End a worker whose run was killed: its successor wants the shard."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        sys.exit(1)
