"""look_at: turn to whoever speaks. Several people stand around; which one it is, and where, is to be heard."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.names import require_counts, require_numbers, require_spans
from neon_sim.robot import RobotState, World
from neon_sim.sensors.voice import Said, Spoken
from neon_sim.tasks.arms import approach
from neon_sim.tasks.objects import HIDDEN_W, Look
from neon_sim.tasks.tolerance import tolerance
from neon_sim.tasks.wording import HOLD_S, Wording, check_splits

WORDING: Final = Wording(
    train=(
        "look at whoever is speaking",
        "turn to the person who speaks",
        "face the voice",
        "turn around until you face the speaker",
    ),
    test=("find out who is talking and look there", "point your eyes at the one you hear", "face whoever calls you"),
)
# What the speaker says. It names no direction.
SPOKEN: Final = Wording(
    train=("look at me", "hello robot, I am over here", "please turn to me", "can you hear me", "over here please"),
    test=("hey, this way", "robot, listen, here I am", "would you face me please"),
)
MAX_PEOPLE: Final = 4
_PEOPLE: Final = tuple(f"person_{i}" for i in range(MAX_PEOPLE))
# Clothes, and m from the floor to the mouth: round numbers for sitting to tall standing adults.
_CLOTHES: Final = {
    "train": ((0.20, 0.30, 0.55), (0.55, 0.20, 0.20), (0.25, 0.45, 0.25), (0.75, 0.70, 0.60)),
    "test": ((0.85, 0.55, 0.15), (0.15, 0.15, 0.17), (0.45, 0.25, 0.50), (0.60, 0.80, 0.85)),
}
_MOUTHS: Final = {"train": (1.50, 1.62, 1.42, 1.56), "test": (1.20, 1.70, 1.35, 1.65)}
_SKIN: Final = {"train": (0.80, 0.62, 0.50), "test": (0.45, 0.32, 0.25)}
_HEAD: Final = 0.11  # m
_TURN_GAIN, _TURN_SPEED = 1.5, 0.8  # 1/s and rad/s: the expert's
_WAIST: Final = 0.6  # rad that the expert's waist may be turned ahead of the feet
_HEARD: Final = 0.3  # s of speech that tell the expert where it comes from; ours, a window of the microphone
_DT: Final = 0.02  # s


@dataclass(frozen=True)
class LookAtConfig:
    """Who stands where, and how well the robot must face the speaker; m, rad and s.

    Raises ValueError for a number out of its range, for people who do not fit, and for a split that does not exist.
    """

    people: int = 3
    distance: tuple[float, float] = (1.2, 3.0)
    least_bearing: float = math.radians(25.0)  # of the speaker: who stands in front already is no task
    separation: float = math.radians(40.0)  # between any two
    max_error: float = math.radians(10.0)
    hold_s: float = 0.5
    wording: str = "train"  # or "test": held-out paraphrases, and other words that the speaker says
    objects: str = "train"  # or "test": other people

    def __post_init__(self) -> None:
        check_splits(self)
        require_counts(self, people=(1, MAX_PEOPLE))
        require_numbers(self, max_error=(0.001, math.pi), hold_s=HOLD_S)
        # Beyond 3 rad the places to draw from are so few that a reset would not end.
        require_numbers(self, least_bearing=(0.0, 3.0), separation=(0.0, math.pi))
        require_spans(self, distance=(0.3, 100.0))
        if self.people * self.separation > math.pi:
            raise ValueError(f"{self.people} people do not fit {self.separation:.2f} rad apart. Let them stand closer.")


def sample_bearings(config: LookAtConfig, rng: np.random.Generator) -> np.ndarray:
    """Where people stand (people,) rad, 0 ahead, left positive; the first is the speaker. Rejection sampling."""
    while True:
        bearings = rng.uniform(-math.pi, math.pi, config.people)
        gaps = bearings[:, None] - bearings
        gaps = np.abs(np.arctan2(np.sin(gaps), np.cos(gaps)))[np.triu_indices(config.people, 1)]
        if abs(bearings[0]) >= config.least_bearing and (gaps >= config.separation).all():
            return bearings


def heading(quat_wxyz: np.ndarray) -> float:
    """Where the x axis points in the horizontal plane, rad."""
    w, x, y, z = quat_wxyz.tolist()
    return math.atan2(2.0 * (x * y + w * z), 1.0 - 2.0 * (y * y + z * z))


def bearing_of(world: World, name: str, link: str) -> float:
    """Angle in the horizontal plane from a link's x axis to a thing, rad, left positive."""
    pos_w, quat_wxyz = world.object_pose(link)
    x, y, _ = world.position(name)
    return math.remainder(math.atan2(y - pos_w[1], x - pos_w[0]) - heading(quat_wxyz), math.tau)


class LookAtTask:
    """Success: the torso, and so the head on it, faces the speaker within 10 degrees for 0.5 s."""

    name = "look_at"
    max_steps = 500

    def __init__(self, config: LookAtConfig | None = None, control_dt: float = _DT) -> None:
        self.config = config or LookAtConfig()
        self._hold_steps = round(self.config.hold_s / control_dt)
        self._dt = control_dt
        self._held = 0
        self._speaker = 0
        self._words = SPOKEN.train[0]
        self._said = Said()

    def edit_scene(self, spec: mujoco.MjSpec) -> None:
        """People as a body and a head; they are seen and not felt. A person's frame is at the mouth."""
        split = self.config.objects
        for name, cloth, mouth in zip(_PEOPLE, _CLOTHES[split], _MOUTHS[split], strict=True):
            body = spec.worldbody.add_body(name=name, mocap=True, pos=HIDDEN_W)
            Look("sphere", (_HEAD,), _SKIN[split]).add_to(body, touch=(0, 0), name=f"{name}_head")
            half = (mouth - 2.0 * _HEAD) / 2.0
            trunk = Look("capsule", (0.16, half - 0.16), cloth)
            trunk.add_to(body, touch=(0, 0), name=f"{name}_trunk", pos=[0.0, 0.0, half - mouth])

    def reset(self, state: RobotState, world: World, rng: np.random.Generator) -> str:
        """Choose who speaks, where all stand, what is said and a wording."""
        self._held, self._said = 0, Said()
        order = rng.permutation(MAX_PEOPLE)
        self._speaker = int(order[0])
        pos_w, quat_wxyz = world.object_pose("pelvis")
        angles = heading(quat_wxyz) + sample_bearings(self.config, rng)
        for person in order[self.config.people :]:
            world.place_object(_PEOPLE[person], HIDDEN_W)
        for person, angle in zip(order, angles, strict=False):
            distance = float(rng.uniform(*self.config.distance))
            x, y = pos_w[0] + distance * math.cos(angle), pos_w[1] + distance * math.sin(angle)
            world.place_object(_PEOPLE[person], np.array([x, y, _MOUTHS[self.config.objects][person]]))
        self._words = SPOKEN.draw(self.config.wording, rng)
        return WORDING.draw(self.config.wording, rng)

    def spoken(self) -> Spoken:
        """The speaker's words, from the speaker's mouth."""
        return Spoken(self._words, _PEOPLE[self._speaker])

    def listen(self, said: Said) -> None:
        """When the words are said."""
        self._said = said

    def reward(self, state: RobotState, world: World) -> tuple[float, dict[str, float]]:
        """Product of: facing the speaker within 10 degrees (falls to 0.1 at 90 degrees beyond), torso upright."""
        error = abs(bearing_of(world, _PEOPLE[self._speaker], "torso_link"))
        self._held = self._held + 1 if error <= self.config.max_error else 0
        terms = {
            "facing": tolerance(error, (0.0, self.config.max_error), margin=math.pi / 2.0),
            "upright": tolerance(-float(state.gravity_b[2]), (0.97, math.inf), 0.97, 0.0, "linear"),
        }
        return terms["facing"] * terms["upright"], terms

    @property
    def success(self) -> bool:
        """The robot has faced the speaker for `hold_s` without a break, up to now."""
        return self._held >= self._hold_steps

    @property
    def failed(self) -> bool:
        """It can always still turn."""
        return False

    def privileged(self, state: RobotState, world: World) -> dict[str, Any]:
        """The speaker's bearing from the torso in rad (left positive) and distance in m, and the words spoken."""
        name = _PEOPLE[self._speaker]
        away = math.dist(world.position(name)[:2], world.position("torso_link")[:2])
        return {"bearing": bearing_of(world, name, "torso_link"), "distance": away, "spoken": self._words}

    def expert(self, state: RobotState, world: World, steps: int) -> np.ndarray:
        """Arms home, and the waist (where the action has one) turned ahead of the feet: (steps, 29) rad."""
        goal = joints.HOME.copy()
        ahead = self._heard_bearing(state, world)
        goal[joints.JOINT_INDEX["waist_yaw_joint"]] = min(max(ahead, -_WAIST), _WAIST)
        return approach(state.joint_target, goal, steps)

    def expert_velocity(self, state: RobotState, world: World, steps: int) -> np.ndarray:
        """Turn on the spot, ever more slowly: (steps, 3) m/s, m/s, rad/s.

        Where a microphone hears the voice, it waits for it: nobody knows the speaker before.
        """
        velocity = np.zeros((steps, 3))
        left = self._heard_bearing(state, world)
        for row in velocity:
            row[2] = min(max(_TURN_GAIN * left, -_TURN_SPEED), _TURN_SPEED)
            left -= row[2] * self._dt
        return velocity

    def get_state(self) -> dict[str, Any]:
        """Counters and choices of the running episode; the people's places belong to the world."""
        return {"held": self._held, "speaker": self._speaker, "words": self._words, "said": self._said}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`."""
        self._held, self._speaker, self._words = int(state["held"]), int(state["speaker"]), str(state["words"])
        self._said = Said(*state["said"])

    def _heard_bearing(self, state: RobotState, world: World) -> float:
        """Angle from the pelvis to the speaker, rad; 0 until there was enough to hear."""
        if state.time_s < self._said.start_s + _HEARD:
            return 0.0
        return bearing_of(world, _PEOPLE[self._speaker], "pelvis")
