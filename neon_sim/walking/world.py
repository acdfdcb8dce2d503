"""WalkWorld: B robots that are told where to go, whose arms do what they like, and that are pushed and punched."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import quat_to_matrix
from neon_sim.g1.kinematics import joint_places, limb_poses
from neon_sim.locomotion.posture import HEIGHT_RANGE, crouch
from neon_sim.locomotion.stepper import ACTION_SIZE, CONTROL_DT, OWN, Stepper
from neon_sim.sim.batch import BatchPhysics, Truth
from neon_sim.sim.noise import SensorNoise
from neon_sim.sim.randomize import TRAINING, ModelRandomization
from neon_sim.walking.arms import ARMS, Arms
from neon_sim.walking.blows import Blows
from neon_sim.walking.critic import Blow, mirror_privileged, privileged
from neon_sim.walking.curriculum import Difficulty
from neon_sim.walking.orders import Orders
from neon_sim.walking.rewards import RewardWeights, Step, reward_terms, total_reward

FORGIVING_S: Final = 1.2  # how long after a punch's beginning the rewards forgive
_BLAMED_S: Final = 3.0  # how long after it a fall is put down to it
_EMA: Final = CONTROL_DT / 0.4
# Nothing real is as fast: its few iterations let the solver break down, seen twice in 124 million steps.
_BROKEN: Final = {"velocity_w": 20.0, "gyro": 100.0, "joint_vel": 200.0}  # m/s, rad/s, rad/s
_REWARD_LIMIT: Final = 10.0  # of a step either way: a fall is -6


@dataclass(frozen=True)
class WalkConfig:
    """The world's settings that do not change during a training."""

    count: int = 512
    models: int = 64
    randomization: ModelRandomization = TRAINING
    loaded: float = 0.12  # share of the models that carry a load: `randomize.LOADED`
    slopes: float = 0.2
    max_slope: float = 10.0  # degrees
    noise: SensorNoise = field(default_factory=SensorNoise)
    delay_s: tuple[float, float] = (0.0, 0.015)  # from target to motor
    long_delays: float = 0.08  # share of episodes with up to 40 ms
    episode_s: float = 20.0
    free_waist: float = 0.8  # share of episodes in which the waist is the walker's
    standing: float = 0.2  # share of commands that say: stand
    burdened_punch: float = 0.5  # share of a punch for robots that bear a load or stand on a slope
    physics_dt: float = 0.02 / 3.0
    threads: int = 2
    weights: RewardWeights = field(default_factory=RewardWeights)
    fall_height: float = 0.42  # m
    fall_cosine: float = 0.55  # of the pelvis' tilt


class Outcome(NamedTuple):
    """What a step led to."""

    reward: np.ndarray  # (B,)
    fell: np.ndarray  # (B,) bool
    timed_out: np.ndarray  # (B,) bool


@dataclass
class Tally:
    """What has happened since the tally was begun; whoever reads it puts a new one in its place."""

    steps: int = 0  # of each robot
    falls: int = 0
    punches: int = 0
    punched_falls: int = 0  # within 3 s of a punch
    terms: dict[str, float] = field(default_factory=dict)  # each reward term's mean over the robots, summed over steps


class WalkWorld:
    """See the module. The robots' own states, the commands and what happens to them are rows of arrays.

    Args:
        config: what stays.
        gains: (18,) or (B, 18) of the base gait.
        seed: of everything.

    Attributes:
        difficulty: how hard life is from now on.
        tally: falls, punches and rewards for whoever watches; nothing here depends on it.
    """

    def __init__(self, config: WalkConfig, gains: np.ndarray, seed: int) -> None:
        self.config, count = config, config.count
        self.rng = np.random.default_rng(seed)
        self.physics = BatchPhysics(
            count, config.models, config.randomization, config.loaded, config.slopes, config.max_slope, self.rng,
            config.physics_dt, config.threads,
        )  # fmt: skip
        self.stepper = Stepper(count, gains)
        self.arms, self.orders, self.blows = Arms(count), Orders(count), Blows(count)
        self.difficulty, self.tally = Difficulty(), Tally()
        self.steps = np.zeros(count, dtype=np.int64)
        self._rank = np.arange(count)[::-1] / count  # who is punched first as the share grows
        self._slow = np.zeros((count, 3))
        self._action = np.zeros((count, ACTION_SIZE))
        self._reset(np.arange(count))
        self.steps[:] = self.rng.integers(0, self._episode_steps, count)  # they do not all end together
        self._look()

    @property
    def _episode_steps(self) -> int:
        return round(self.config.episode_s / CONTROL_DT)

    def observe(self) -> tuple[np.ndarray, np.ndarray]:
        """What the policy (B, OBSERVATION_SIZE) and the critic (B, CRITIC_SIZE) see now."""
        return self._observation, np.concatenate([self._observation, self._extra()], axis=1)

    def step(self, action: np.ndarray) -> Outcome:
        """Act (B, ACTION_SIZE), let 20 ms pass; robots that fell or whose time is up begin anew."""
        truth = self._move(self.stepper.targets(action))
        step = self._judge(truth)
        fell = self._fallen(step)
        terms = reward_terms(step)
        forgiving = (self.blows.since_punch < FORGIVING_S).astype(float)
        how = self.difficulty
        reward = total_reward(terms, self.config.weights, forgiving, fell, how.gentle, how.strict)
        reward = np.nan_to_num(reward, nan=-_REWARD_LIMIT).clip(-_REWARD_LIMIT, _REWARD_LIMIT)
        self._count(terms, fell)
        self.steps += 1
        timed_out = ~fell & (self.steps >= self._episode_steps)
        self.orders.advance(truth, self.difficulty.speed, self.config.standing, self.rng)
        self._reset(np.flatnonzero(fell | timed_out))
        self._look()
        return Outcome(reward, fell, timed_out)

    def velocity(self) -> np.ndarray:
        """True velocity (B, 3) m/s forward, m/s left, rad/s of the pelvis, in the frame of its heading."""
        return self._heading_velocity(self._truth)

    def follow_none(self) -> None:
        """Give everybody velocities and nobody waypoints."""
        self.orders.follows[:] = False

    def get_state(self) -> dict[str, Any]:
        """Everything that the future depends on, besides config and gains."""
        return {
            "rows": {name: getattr(self, name).copy() for name in _ROWS},
            "parts": {part: _copies(vars(getattr(self, part))) for part in _PARTS},
            "physics": self.physics.get_state(),
            "stepper": _copies(self._stepper_before),
            "senses": _copies(self._senses),
            "difficulty": self.difficulty,
            "rng": self.rng.bit_generator.state,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to what `get_state` returned, in a world made with the same config, gains and seed."""
        for name, value in state["rows"].items():
            setattr(self, name, value.copy())
        for part, arrays in state["parts"].items():
            vars(getattr(self, part)).update(_copies(arrays))
        self.physics.set_state(state["physics"])
        self.difficulty, self.rng.bit_generator.state = state["difficulty"], state["rng"]
        self.stepper.set_state(state["stepper"])
        self._truth = self.physics.truth()
        self._sense(_copies(state["senses"]))

    def close(self) -> None:
        """Stop the physics threads."""
        self.physics.close()

    def _reset(self, rows: np.ndarray) -> None:
        """New episodes: standing at some height, facing anywhere, in a new body's delay."""
        if len(rows) == 0:
            return
        rng, count = self.rng, len(rows)
        height = rng.uniform(*HEIGHT_RANGE, count)
        joint_pos = np.tile(joints.HOME, (count, 1))
        joint_pos[:, OWN] = crouch(height)
        joint_pos[:, OWN] += rng.normal(0.0, 0.02, (count, 15))
        joint_pos[:, ARMS] += rng.normal(0.0, 0.15, (count, 14))
        joint_pos = np.clip(joint_pos, joints.LOWER, joints.UPPER)
        yaw = rng.uniform(-np.pi, np.pi, count)
        lean = rng.normal(0.0, 0.02, (2, count))
        quat = np.stack([np.cos(yaw / 2), lean[0], lean[1], np.sin(yaw / 2)], axis=1)
        quat /= np.linalg.norm(quat, axis=1, keepdims=True)
        nowhere = np.zeros(count)
        self.physics.place(rows, np.stack([nowhere, nowhere, height + 0.005], axis=1), quat, joint_pos)
        self._draw_delays(rows)
        self.stepper.reset(rows)
        self.stepper.memory.height[rows] = height
        self.arms.reset(rows, joint_pos, self.config.free_waist, rng)
        self.orders.reset(rows, np.stack([nowhere, nowhere, yaw], axis=1), height, rng)
        self.blows.reset(rows, rng)
        self._slow[rows], self._action[rows], self.steps[rows] = 0.0, 0.0, 0

    def _draw_delays(self, rows: np.ndarray) -> None:
        rng, count = self.rng, len(rows)
        low, high, long, most = (round(s / self.config.physics_dt) for s in (*self.config.delay_s, 0.02, 0.04))
        delay = rng.integers(low, high, count, endpoint=True)
        late = rng.integers(long, most, count, endpoint=True)
        self.physics.set_delay(rows, np.where(rng.random(count) < self.config.long_delays, late, delay))

    def _move(self, own: np.ndarray) -> Truth:
        """Where 20 ms of physics lead, the walkers wanting `own` (B, 15)."""
        rng, difficulty, blows = self.rng, self.difficulty, self.blows
        self.arms.advance(difficulty.arm_speed, rng)
        self.tally.punches += blows.punch(self._ceiling(), self._punched(), rng)
        hit = np.flatnonzero(blows.steps_left > 0)
        self.physics.step(self.arms.beside(own), hit, blows.body[hit], blows.force_w[hit])
        self.physics.push(*blows.push(difficulty.push, rng))
        return self.physics.truth()

    def _look(self) -> None:
        """Sense with noise."""
        truth = self._truth = self.physics.truth()
        noise, rng = self.config.noise, self.rng
        gravity = self._gravity(truth) + rng.normal(0.0, noise.gravity, (self.config.count, 3))
        gravity /= np.linalg.norm(gravity, axis=1, keepdims=True)
        self._sense(
            {
                "joint_pos": truth.joint_pos + rng.normal(0.0, noise.joint_pos, truth.joint_pos.shape),
                "joint_vel": truth.joint_vel + rng.normal(0.0, noise.joint_vel, truth.joint_vel.shape),
                "gyro": truth.gyro + rng.normal(0.0, noise.gyro, truth.gyro.shape),
                "gravity_b": gravity,
            }
        )

    def _sense(self, senses: dict[str, np.ndarray]) -> None:
        """Let the stepper make an observation; what it was made of is kept, for a state to be restored from."""
        self._stepper_before, self._senses = self.stepper.get_state(), senses
        self._poses = limb_poses(senses["joint_pos"])
        self._observation = self.stepper.observe(
            **senses, command=self.orders.command, owns_waist=self.arms.owns_waist, poses=self._poses
        )

    def _extra(self) -> np.ndarray:
        """What the critic sees besides, mirrored where the policy sees a mirror image."""
        truth, slow_error = self._truth, self._slow - self.orders.command[:, :3]
        velocity = self._heading_velocity(truth)
        extra = privileged(truth, velocity, slow_error, self._blow(), self.blows, self.physics)
        return np.where(self.stepper.mirrored[:, None], mirror_privileged(extra), extra)

    def _blow(self) -> Blow:
        """What acts on the robots or is coming."""
        blows = self.blows
        coming = blows.share_w * (self._ceiling() * self._punched())[:, None]
        force_w = np.where((blows.steps_left > 0)[:, None], blows.force_w, coming)
        place = np.vecdot(self.stepper.odometry.level, joint_places(self._poses, blows.body)[:, None, :])
        return Blow(force_w, place, blows.push_w * self.difficulty.push)

    def _ceiling(self) -> np.ndarray:
        """(B,) N, the hardest punch of each robot."""
        return self.difficulty.punch * np.where(self.physics.burdened, self.config.burdened_punch, 1.0)

    def _gravity(self, truth: Truth) -> np.ndarray:
        """Which way is down (B, 3), in the pelvis frame."""
        matrix = quat_to_matrix(truth.quat_wxyz)
        return (self.physics.down_w[:, None, :] @ matrix)[:, 0]

    def _heading_velocity(self, truth: Truth) -> np.ndarray:
        """(B, 3) m/s forward, left and rad/s of the pelvis, in the frame of its heading."""
        cos, sin = truth.heading
        vx, vy = truth.velocity_w[:, 0], truth.velocity_w[:, 1]
        turn = -(truth.gyro * self._gravity(truth)).sum(axis=1)
        return np.stack([cos * vx + sin * vy, cos * vy - sin * vx, turn], axis=1)

    def _punched(self) -> np.ndarray:
        """(B,) bool, who is ever punched."""
        return self._rank < self.difficulty.punched

    def _judge(self, truth: Truth) -> Step:
        velocity = self._heading_velocity(truth)
        self._slow += _EMA * (velocity - self._slow)
        memory = self.stepper.memory
        change = memory.action - self._action
        self._action = memory.action.copy()
        return Step(
            truth=truth,
            velocity=velocity,
            slow=self._slow,
            command=self.orders.command,
            gravity_b=self._gravity(truth),
            torso_lean=1.0 + (truth.torso_up_w * self.physics.down_w).sum(axis=1),
            phase=memory.phase,
            amplitude=memory.amplitude,
            action_change=change,
            posture=crouch(memory.height),
            owns_waist=self.arms.owns_waist,
        )

    def _fallen(self, step: Step) -> np.ndarray:
        """(B,) bool: too low over the lower foot, too far from upright, faster than anything real, or no number."""
        upright = -step.gravity_b[:, 2]
        height = step.truth.pos_w[:, 2] - step.truth.foot_pos_w[..., 2].min(axis=1).clip(max=0.3)
        fallen = (height < self.config.fall_height) | (upright < self.config.fall_cosine) | ~np.isfinite(upright)
        for name, limit in _BROKEN.items():
            fallen |= ~(np.abs(getattr(step.truth, name)).max(axis=1) <= limit)
        return fallen

    def _count(self, terms: Mapping[str, np.ndarray], fell: np.ndarray) -> None:
        tally = self.tally
        tally.steps += 1
        tally.falls += int(fell.sum())
        tally.punched_falls += int((fell & (self.blows.since_punch < _BLAMED_S)).sum())
        for name, term in terms.items():
            tally.terms[name] = tally.terms.get(name, 0.0) + float(np.nan_to_num(term, posinf=0.0, neginf=0.0).mean())


def _copies(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in arrays.items()}


_ROWS: Final = ("steps", "_slow", "_action")
_PARTS: Final = ("arms", "orders", "blows")
