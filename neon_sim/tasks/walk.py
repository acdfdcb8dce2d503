"""walk: follow a velocity that is given in words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import mujoco
import numpy as np

from neon_sim.g1.joints import HOME
from neon_sim.names import require_numbers, require_spans
from neon_sim.robot import RobotState, World
from neon_sim.tasks.tolerance import tolerance
from neon_sim.tasks.wording import HOLD_S, Wording, check_splits

STILL: Final = Wording(
    train=("stand still", "stop walking and stand still", "stay where you are", "do not walk"),
    test=("halt", "do not move your feet", "wait there on your feet"),
)
STAND_STILL: Final = STILL.train
# What a positive and what a negative entry of the velocity is called, and its unit in words and in letters.
_FORWARD = (
    Wording(train=("walk forward", "go forward", "move ahead"), test=("advance", "march straight on")),
    Wording(train=("walk backward", "step back", "move backward"), test=("retreat", "go in reverse")),
)
_LEFT = (
    Wording(train=("step to the left", "walk sideways to the left"), test=("sidestep left", "shift leftwards")),
    Wording(train=("step to the right", "walk sideways to the right"), test=("sidestep right", "shift rightwards")),
)
_TURN = (
    Wording(train=("turn left", "turn to the left", "rotate left"), test=("spin left", "turn counterclockwise")),
    Wording(train=("turn right", "turn to the right", "rotate right"), test=("spin right", "turn clockwise")),
)
_METRES, _RADIANS = ("metres per second", "m/s"), ("radians per second", "rad/s")
_CLAUSES: Final = ((_FORWARD, _METRES), (_LEFT, _METRES), (_TURN, _RADIANS))
PACES: Final = {"slowly": (0.2, 0.2, 0.3), "quickly": (0.5, 0.3, 0.8)}  # what an adverb stands for in each entry
_PAIRS: Final = Wording(train=("{one} and {two}", "{one} while you {two}"), test=("{one}, and also {two}",))
_KINDS: Final = ((0,), (1,), (2,), (0, 1), (0, 2), (0, 1, 2))  # the entries that a command has
_GRID: Final = 0.1  # m/s and rad/s: what is said has one decimal
_FALL_HEIGHT, _FALL_COSINE = 0.35, math.cos(1.0)  # m of the pelvis and lean: what NeonG1Config calls a fall


@dataclass(frozen=True)
class WalkConfig:
    """Which velocities are asked for, and how well they must be followed; m/s, rad/s and seconds.

    Raises ValueError for a number out of its range, a range the wrong way round, and a slowest command within
    `max_error`, which a robot that only stands would follow.
    """

    forward: tuple[float, float] = (-0.4, 0.5)
    left: tuple[float, float] = (-0.3, 0.3)
    turn: tuple[float, float] = (-0.8, 0.8)
    slowest: float = 0.2  # of each entry that is not zero
    standing: float = 0.15  # share of the episodes that ask for no motion
    max_error: float = 0.15  # m/s over the floor and rad/s of turning, mean of `judged_s`
    settle_s: float = 2.0  # for starting to walk; not judged
    judged_s: float = 4.0
    smoothing_s: float = 0.4  # time constant of the velocity that is judged: a stride sways, and may
    wording: str = "train"  # or "test": paraphrases that are held out
    objects: str = "train"  # an empty floor has none; every task takes the option

    def __post_init__(self) -> None:
        check_splits(self)
        require_spans(self, forward=(-3.0, 3.0), left=(-3.0, 3.0), turn=(-3.0, 3.0))
        require_numbers(self, slowest=(0.0, 3.0), standing=(0.0, 1.0), max_error=(0.001, 3.0), settle_s=(0.0, 60.0))
        require_numbers(self, judged_s=HOLD_S, smoothing_s=(0.001, 60.0))
        if self.slowest <= self.max_error:
            raise ValueError(f"slowest must be above max_error = {self.max_error}, got {self.slowest}. Raise it.")


def sample_velocity(config: WalkConfig, rng: np.random.Generator) -> np.ndarray:
    """Draw (3,) m/s, m/s, rad/s: zeros, or one to three entries on a grid of 0.1 that are each worth following."""
    velocity = np.zeros(3)
    if rng.random() < config.standing:
        return velocity
    for entry in _KINDS[int(rng.integers(len(_KINDS)))]:
        low, high = (config.forward, config.left, config.turn)[entry]
        steps = np.arange(math.ceil(low / _GRID - 1e-9), math.floor(high / _GRID + 1e-9) + 1)
        steps = steps[np.abs(steps) * _GRID >= config.slowest - 1e-9]
        if len(steps):
            velocity[entry] = round(float(rng.choice(steps)) * _GRID, 1)
    return velocity


def describe(velocity: np.ndarray, rng: np.random.Generator, split: str = "train") -> str:
    """One of many ways to say a velocity (3,) on the grid of 0.1; each of them says nothing else.

    `split` is "train", or "test" for paraphrases that training never hears.
    """
    clauses = [_clause(entry, value, rng, split) for entry, value in enumerate(velocity.tolist()) if value]
    if not clauses:
        return STILL.draw(split, rng)
    if len(clauses) == 2:
        return _PAIRS.draw(split, rng, one=clauses[0], two=clauses[1])
    return "{}, {} and {}".format(*clauses) if len(clauses) == 3 else clauses[0]


def _clause(entry: int, value: float, rng: np.random.Generator, split: str) -> str:
    names, units = _CLAUSES[entry]
    verb = names[0 if value > 0.0 else 1].draw(split, rng)
    paces = [f"at {abs(value):.1f} {unit}" for unit in units]
    paces += [adverb for adverb, speeds in PACES.items() if math.isclose(abs(value), speeds[entry])]
    return f"{verb} {paces[int(rng.integers(len(paces)))]}"


def phrases(config: WalkConfig | None = None) -> tuple[str, ...]:
    """Every phrase that `describe` puts its sentences together from, of both splits, for the velocities of a config."""
    config = config or WalkConfig()
    found = [joint.format(one="", two="").strip(" ,") for joint in _PAIRS.train + _PAIRS.test]
    for (names, units), ends in zip(_CLAUSES, (config.forward, config.left, config.turn), strict=True):
        found += [verb for wording in names for verb in wording.train + wording.test]
        fastest = round(max(map(abs, ends)) / _GRID)
        for steps in range(math.ceil(config.slowest / _GRID - 1e-9), fastest + 1):
            found += [f"at {steps * _GRID:.1f} {unit}" for unit in units]
    return tuple(dict.fromkeys([*found, *PACES]))


class WalkTask:
    """Success: no fall, and over the last 4 s a mean error of at most 0.15 m/s and 0.15 rad/s, from second 6 on."""

    name = "walk"
    max_steps = 500

    def __init__(self, config: WalkConfig | None = None, control_dt: float = 0.02) -> None:
        self.config = config or WalkConfig()
        self._dt = control_dt
        self._settle_steps = round(self.config.settle_s / control_dt)
        self._judged_steps = round(self.config.judged_s / control_dt)
        self.wanted = np.zeros(3)
        self._begin((0.0, 0.0, 0.0))

    def edit_scene(self, spec: mujoco.MjSpec) -> None:
        """An empty floor is enough."""

    def reset(self, state: RobotState, world: World, rng: np.random.Generator) -> str:
        """Choose a velocity and a wording."""
        self.wanted = sample_velocity(self.config, rng)
        self._begin(_pose(world))
        return describe(self.wanted, rng, self.config.wording)

    def reward(self, state: RobotState, world: World) -> tuple[float, dict[str, float]]:
        """Product of: velocity over the floor and turning within 0.1 of what was asked, torso upright, quiet joints.

        The velocity is the truth of one control period in the heading frame, smoothed. Joints are quiet below 9 rad/s:
        the vendor's own check stops the robot at 10 (unitree_sdk2, g1/common/terminations.hpp).
        """
        self._move_to(_pose(world))
        over_floor, turning = self._errors()
        self._judge(over_floor, turning)
        upright = -float(state.gravity_b[2])
        if upright < _FALL_COSINE or world.position("pelvis")[2] < _FALL_HEIGHT:
            self._fallen = True
        terms = {
            "velocity": tolerance(over_floor, (0.0, 0.1), margin=0.5),
            "turning": tolerance(turning, (0.0, 0.1), margin=0.8),
            "upright": tolerance(upright, (0.97, math.inf), 0.97, 0.0, "linear"),
            "smooth": tolerance(float(np.abs(state.joint_vel).max()), (0.0, 9.0), margin=9.0),
        }
        return math.prod(terms.values()), terms

    @property
    def success(self) -> bool:
        """On its feet and close enough to the velocity, on average of the last `judged_s`."""
        if self._fallen or self._steps < self._settle_steps + self._judged_steps:
            return False
        return bool(self._judged.mean(axis=0).max() <= self.config.max_error)

    @property
    def failed(self) -> bool:
        """Falling is the env's business; nothing else can go wrong."""
        return False

    def privileged(self, state: RobotState, world: World) -> dict[str, Any]:
        """The velocity asked for and the smoothed one that the robot has: (3,) m/s, m/s, rad/s, heading frame."""
        return {"wanted_velocity": self.wanted.copy(), "velocity": np.array(self._velocity)}

    def expert(self, state: RobotState, world: World, steps: int) -> np.ndarray:
        """Arms to the home pose (steps, 29) rad; the walker does the rest."""
        return np.tile(HOME, (steps, 1))

    def expert_velocity(self, state: RobotState, world: World, steps: int) -> np.ndarray:
        """What the expert tells the walker in the next `steps`: (steps, 3) m/s, m/s, rad/s."""
        return np.tile(self.wanted, (steps, 1))

    def get_state(self) -> dict[str, Any]:
        """The command, the motion so far and what it is judged by."""
        return {
            "wanted": self.wanted.copy(),
            "pose": self._last_pose,
            "velocity": self._velocity,
            "judged": self._judged.copy(),
            "steps": self._steps,
            "fallen": self._fallen,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`."""
        self.wanted, self._judged = state["wanted"].copy(), state["judged"].copy()
        self._last_pose, self._velocity = tuple(state["pose"]), tuple(state["velocity"])
        self._steps, self._fallen = int(state["steps"]), bool(state["fallen"])

    def _begin(self, pose: tuple[float, float, float]) -> None:
        self._last_pose = pose
        self._velocity = (0.0, 0.0, 0.0)
        self._judged = np.zeros((self._judged_steps, 2))  # the newest errors over the floor and of turning, a ring
        self._steps = 0
        self._fallen = False

    def _move_to(self, pose: tuple[float, float, float]) -> None:
        """Take in where the robot is one control period later."""
        (x0, y0, yaw0), (x, y, yaw) = self._last_pose, pose
        cosine, sine = math.cos(yaw), math.sin(yaw)
        turned = math.remainder(yaw - yaw0, math.tau)
        moved = cosine * (x - x0) + sine * (y - y0), cosine * (y - y0) - sine * (x - x0), turned
        share = min(self._dt / self.config.smoothing_s, 1.0)
        old = self._velocity
        self._velocity = tuple(v + share * (m / self._dt - v) for v, m in zip(old, moved, strict=True))
        self._last_pose = pose
        self._steps += 1

    def _errors(self) -> tuple[float, float]:
        """m/s over the floor and rad/s of turning between the smoothed velocity and the command."""
        (x, y, turn), (wanted_x, wanted_y, wanted_turn) = self._velocity, self.wanted.tolist()
        return math.hypot(x - wanted_x, y - wanted_y), abs(turn - wanted_turn)

    def _judge(self, over_floor: float, turning: float) -> None:
        if self._steps > self._settle_steps:
            self._judged[(self._steps - self._settle_steps - 1) % self._judged_steps] = over_floor, turning


def _pose(world: World) -> tuple[float, float, float]:
    """Where the pelvis truly is: x, y m and heading rad in the world."""
    pos_w, quat_wxyz = world.object_pose("pelvis")
    w, x, y, z = quat_wxyz.tolist()
    return float(pos_w[0]), float(pos_w[1]), math.atan2(2.0 * (x * y + w * z), 1.0 - 2.0 * (y * y + z * z))
