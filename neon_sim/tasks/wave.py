"""wave: make the named gesture, such as a wave with the left hand. The robot's own encoders are enough to judge it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.names import require_counts, require_numbers
from neon_sim.robot import RobotState, World
from neon_sim.sim.faults import Fault, as_faults
from neon_sim.tasks.arms import HANDS, lead, lift_against_gravity, of_hand, palms_b, pursue
from neon_sim.tasks.tolerance import tolerance
from neon_sim.tasks.wording import HOLD_S, Wording, check_splits


@dataclass(frozen=True)
class Gesture:
    """One gesture: a posture (7,) rad of the left arm, mirrored for the right, and how it is asked for.

    A gesture with a `swing` goes to and fro: that many rad of the shoulder's yaw to either side. One with `both` is
    made with both arms; for the others the instruction names the hand.
    """

    arm: tuple[float, ...]
    wording: Wording
    both: bool = False
    swing: float = 0.0

    def postures(self, offset: float = 0.0) -> np.ndarray:
        """Both arms (2, 7) rad in the gesture, `offset` rad into the swing."""
        arm = np.array(self.arm)
        arm[2] += offset
        return np.array([of_hand(arm, 0), of_hand(arm, 1)])


GESTURES: Final[dict[str, Gesture]] = {
    "wave": Gesture(
        (-0.7, 0.9, 0.3, -0.6, 0.0, 0.0, 0.0),
        Wording(
            train=("wave with your {hand} hand", "wave your {hand} hand", "say hello with a wave of the {hand} hand"),
            test=("greet us by waving the {hand} hand", "use the {hand} hand to wave goodbye"),
        ),
        swing=0.45,
    ),
    "raise": Gesture(
        (-2.4, 0.55, 0.0, 0.9, 0.0, 0.0, 0.0),
        Wording(
            train=("raise your {hand} hand", "put your {hand} hand up", "lift the {hand} hand over your head"),
            test=("stretch the {hand} arm up high", "hold the {hand} hand above your head"),
        ),
    ),
    "raise_both": Gesture(
        (-2.4, 0.55, 0.0, 0.9, 0.0, 0.0, 0.0),
        Wording(
            train=("raise both hands", "put both hands up", "lift both hands over your head"),
            test=("stretch your two arms up high", "hands up, the left and the right one"),
        ),
        both=True,
    ),
    "spread": Gesture(
        (0.0, 1.45, 0.0, 1.4, 0.0, 0.0, 0.0),
        Wording(
            train=("spread your arms", "hold both arms out to the sides", "stretch your arms out sideways"),
            test=("make yourself as wide as you can", "make a letter T with your arms"),
        ),
        both=True,
    ),
    "offer": Gesture(
        (-0.8, 0.15, 0.0, 0.6, 0.0, 0.0, 0.0),
        Wording(
            train=("hold out your {hand} hand", "offer your {hand} hand", "stretch your {hand} hand out to the front"),
            test=("reach your {hand} hand forward to shake hands", "give me your {hand} hand"),
        ),
    ),
    "salute": Gesture(
        (-1.2, 1.0, -0.2, -1.0, 0.0, 0.0, 0.0),
        Wording(
            train=("salute with your {hand} hand", "give a salute with the {hand} hand"),
            test=("bring the {hand} hand to your forehead", "greet like a soldier with the {hand} hand"),
        ),
    ),
}
_AHEAD_S: Final = 0.08  # of the expert's swing, how far it looks ahead
_GROWTH: Final = 2.0  # of a swing that is not as wide as it should be
_BEGINNING: Final = 0.15  # of the swing: a hand that moves less is taken to be that far into it
_PALMS_B: Final = {  # (2, 3) m, where each gesture has its palms
    name: palms_b(np.concatenate([joints.HOME[:15], *gesture.postures()])) for name, gesture in GESTURES.items()
}


@dataclass(frozen=True)
class WaveConfig:
    """How well a gesture must be made; m in the pelvis frame, rad and seconds.

    Raises ValueError for a split or a gesture that does not exist, and for a number out of its range.
    """

    gestures: tuple[str, ...] = tuple(GESTURES)
    radius: float = 0.08  # palm from its place in the gesture
    hold_s: float = 0.8  # how long a gesture that does not move is held
    corridor: float = 0.14  # palm of a waving hand from the gesture's place: it may swing so far
    swing: float = 0.08  # from side to side, the least that counts
    swings: int = 4  # in a row, each within `swing_s` of the last
    swing_s: float = 1.0
    resting_height: float = 0.08  # the hand that is not asked for stays below it; at home it hangs at -0.15
    wording: str = "train"  # or "test": paraphrases that are held out
    objects: str = "train"  # there are none; every task takes the option

    def __post_init__(self) -> None:
        check_splits(self)
        object.__setattr__(self, "gestures", tuple(self.gestures))
        if not self.gestures or not set(self.gestures) <= set(GESTURES):
            raise ValueError(f"gestures must be some of {', '.join(GESTURES)}, got {self.gestures}.")
        require_numbers(self, radius=(0.001, 2.0), corridor=(0.001, 2.0), swing=(0.001, 2.0), hold_s=HOLD_S)
        require_numbers(self, swing_s=HOLD_S, resting_height=(-2.0, 2.0))
        require_counts(self, swings=(1, 1000))


def swing_of(gesture: Gesture, hand: int, state: RobotState) -> tuple[float, float]:
    """(rad, phase) of the swing to go on with, once a second; phase 0 is the middle on the way out.

    It is up to `_GROWTH` times as wide as the hand's own, so that what is to be done changes smoothly with where the
    hand is and how fast, and a hand that hardly moves begins. The phase is a little ahead of the hand's: one that is
    asked at every step would never leave where it turns back.
    """
    arm = joints.GROUPS[f"{HANDS[hand]}_arm"]
    off = of_hand(state.joint_pos[arm], hand)[2] - gesture.arm[2]
    speed = of_hand(state.joint_vel[arm], hand)[2] / math.tau
    if math.hypot(off, speed) < _BEGINNING * gesture.swing:
        off, speed = 0.0, _BEGINNING * gesture.swing
    width = min(gesture.swing, _GROWTH * math.hypot(off, speed))
    return width, math.atan2(off, speed) + math.tau * _AHEAD_S


def made_up_for(postures: np.ndarray, gravity_b: np.ndarray, known: Fault | Iterable[Fault]) -> np.ndarray:
    """What known faults ask for beside what a healthy robot's targets have: (T, 29) rad at postures (T, 29) rad."""
    faults = as_faults(known)
    return np.array([lift_against_gravity(p, gravity_b, faults) - lift_against_gravity(p, gravity_b) for p in postures])


@dataclass
class Swings:
    """Counts how often a coordinate has gone from side to side: `count` swings without a pause, up to now."""

    count: int = 0
    turned_at: float = math.nan  # m, the farthest that it has come since it last turned back
    direction: float = 0.0  # +1, -1, or 0 before it has gone anywhere
    age: int = 0  # steps since the last swing

    def update(self, value: float, least: float, patience: int) -> None:
        """Take in the coordinate (m) one step later; a swing is `least` m back, within `patience` steps of the last."""
        if math.isnan(self.turned_at):
            self.turned_at = value
        self.age += 1
        if self.age > patience:
            self.count = 0
        moved = value - self.turned_at
        if moved * self.direction > 0.0 or (self.direction == 0.0 and moved):
            self.turned_at, self.direction = value, math.copysign(1.0, moved)
        elif abs(moved) >= least:
            self.count += 1
            self.turned_at, self.direction, self.age = value, math.copysign(1.0, moved), 0


class WaveTask:
    """Success: the named gesture held for 0.8 s within 8 cm, or four swings of a waving hand of 8 cm or more."""

    name = "wave"
    max_steps = 300

    def __init__(self, config: WaveConfig | None = None, control_dt: float = 0.02) -> None:
        self.config = config or WaveConfig()
        self._dt = control_dt
        self._hold_steps = round(self.config.hold_s / control_dt)
        self._patience = round(self.config.swing_s / control_dt)
        self.known_fault: Fault | Iterable[Fault] | None = None  # what the expert makes up for, if somebody tells it
        self._gesture = next(iter(GESTURES))
        self._hand = 0
        self._held = 0
        self._swings = Swings()

    def edit_scene(self, spec: mujoco.MjSpec) -> None:
        """An empty floor is enough."""

    def reset(self, state: RobotState, world: World, rng: np.random.Generator) -> str:
        """Choose a gesture, a hand and a wording."""
        self._held, self._swings = 0, Swings()
        self._gesture = self.config.gestures[int(rng.integers(len(self.config.gestures)))]
        self._hand = int(rng.integers(2))
        return GESTURES[self._gesture].wording.draw(self.config.wording, rng, hand=HANDS[self._hand])

    def reward(self, state: RobotState, world: World) -> tuple[float, dict[str, float]]:
        """Product of: palms in their place (falls to 0.1 at 50 cm), the other hand down, swinging, torso upright."""
        palms = palms_b(state.joint_pos)
        distance, other = self._distance(palms), self._other_height(palms)
        in_place = distance <= self._radius and other <= self.config.resting_height
        self._held = self._held + 1 if in_place else 0
        if not in_place:
            self._swings = Swings()
        elif GESTURES[self._gesture].swing:
            self._swings.update(float(palms[self._hand, 1]), self.config.swing, self._patience)
        terms = {
            "place": tolerance(distance, (0.0, self._radius), margin=0.5),
            "other_hand": tolerance(other, (-math.inf, self.config.resting_height), margin=0.3),
            "swing": self._swinging(),
            "upright": tolerance(-float(state.gravity_b[2]), (0.97, math.inf), 0.97, 0.0, "linear"),
        }
        return math.prod(terms.values()), terms

    @property
    def success(self) -> bool:
        """The gesture has been made, and has not ended since."""
        if GESTURES[self._gesture].swing:
            return self._swings.count >= self.config.swings
        return self._held >= self._hold_steps

    @property
    def failed(self) -> bool:
        """A gesture can always still be made."""
        return False

    def privileged(self, state: RobotState, world: World) -> dict[str, Any]:
        """The gesture by name and number, the hand (0 left, 1 right), m off, and where the palms belong (2, 3) m."""
        return {
            "gesture": self._gesture,
            "number": list(GESTURES).index(self._gesture),
            "hand": self._hand,
            "distance": self._distance(palms_b(state.joint_pos)),
            "swings": self._swings.count,
            "palm_pos_b": _PALMS_B[self._gesture].copy(),
        }

    def expert(self, state: RobotState, world: World, steps: int) -> np.ndarray:
        """Targets (steps, 29) rad: the arms to the gesture, a waving hand to and fro once a second, the other down.

        Where in its swing a hand is, is read from where it is and how fast, so that whoever imitates can know it, too.
        """
        gesture = GESTURES[self._gesture]
        width, phase = swing_of(gesture, self._hand, state)
        postures = np.tile(joints.HOME, (steps + 1, 1))
        postures[:, joints.GROUPS["waist"]] = state.joint_pos[joints.GROUPS["waist"]]
        for i in range(steps + 1):
            arms = gesture.postures(width * math.sin(phase + math.tau * i * self._dt))
            for hand in (0, 1) if gesture.both else (self._hand,):
                postures[i, joints.GROUPS[f"{HANDS[hand]}_arm"]] = arms[hand]
        targets = lead(postures, state.gravity_b, self._dt)
        if self.known_fault is not None:
            targets += made_up_for(postures[1:], state.gravity_b, self.known_fault)
        return pursue(state.joint_target, targets, gain=0.5)

    def expert_velocity(self, state: RobotState, world: World, steps: int) -> None:
        """It stands."""

    def get_state(self) -> dict[str, Any]:
        """The gesture asked for and how much of it has been seen."""
        seen = self._swings
        return {
            "gesture": self._gesture,
            "hand": self._hand,
            "held": self._held,
            "swings": (seen.count, seen.turned_at, seen.direction, seen.age),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`."""
        self._gesture, self._hand, self._held = str(state["gesture"]), int(state["hand"]), int(state["held"])
        self._swings = Swings(*state["swings"])

    @property
    def _radius(self) -> float:
        return self.config.corridor if GESTURES[self._gesture].swing else self.config.radius

    def _distance(self, palms: np.ndarray) -> float:
        """m between a palm of the gesture and its place; of both, the farther one's."""
        off = np.linalg.norm(palms - _PALMS_B[self._gesture], axis=1)
        return float(off.max() if GESTURES[self._gesture].both else off[self._hand])

    def _other_height(self, palms: np.ndarray) -> float:
        """m above the pelvis of the hand that should rest; minus infinity if both are asked for."""
        return -math.inf if GESTURES[self._gesture].both else float(palms[1 - self._hand, 2])

    def _swinging(self) -> float:
        """1 in a gesture that holds still; else from 0.2 without a swing to 1 with all that are asked for."""
        if not GESTURES[self._gesture].swing:
            return 1.0
        return 0.2 + 0.8 * min(self._swings.count / self.config.swings, 1.0)
