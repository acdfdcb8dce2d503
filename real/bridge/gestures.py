"""The robot's own gestures: where the arms go, and how fast. The poses are ours; the robot's are not published."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from neon_sim.g1 import joints
from neon_sim.real.arm_gestures import Gesture
from neon_sim.real.rpc_errors import ArmsHoldingError, UnknownGestureError

SPEED: Final = 2.0  # rad/s, SafetyConfig.arm_speed
_ARMS = joints.GROUPS["arms"]
_HOME = joints.HOME[_ARMS]


@dataclass(frozen=True)
class Motion:
    """A pose of both arms, perhaps with a wave of some joints around it, held for a time or until it is released."""

    angles: dict[str, float]  # joint without "_joint" -> rad; the others stay at home
    wave: dict[str, float]  # joint -> amplitude, rad
    hold_s: float | None  # None: until released
    wave_hz: float = 1.0

    def target(self, since_s: float) -> np.ndarray:
        """Arm targets (14,) rad so long after it began."""
        target = _pose(self.angles, _HOME)
        swing = np.sin(2.0 * np.pi * self.wave_hz * since_s)
        return target + swing * _pose(self.wave, np.zeros(len(_ARMS)))


def _pose(angles: dict[str, float], rest: np.ndarray) -> np.ndarray:
    pose = rest.copy()
    for name, value in angles.items():
        pose[joints.JOINT_INDEX[f"{name}_joint"] - int(_ARMS[0])] = value
    return pose


_RIGHT_UP = {"right_shoulder_pitch": -2.6, "right_shoulder_roll": -0.3, "right_elbow": 1.2}
_LEFT_UP = {"left_shoulder_pitch": -2.6, "left_shoulder_roll": 0.3, "left_elbow": 1.2}
_RIGHT_OUT = {"right_shoulder_pitch": -0.8, "right_shoulder_roll": -0.1, "right_elbow": 0.9}
_WIDE = {"shoulder_pitch": -1.0, "elbow": 0.8}

MOTIONS: Final[dict[Gesture, Motion]] = {
    Gesture.HANDS_UP: Motion(_RIGHT_UP | _LEFT_UP, {}, None),
    Gesture.RIGHT_HAND_UP: Motion(_RIGHT_UP, {}, None),
    Gesture.HIGH_FIVE: Motion({**_RIGHT_UP, "right_shoulder_pitch": -1.8}, {}, None),
    Gesture.SHAKE_HAND: Motion(_RIGHT_OUT, {}, None),
    Gesture.HIGH_WAVE: Motion(_RIGHT_UP, {"right_shoulder_roll": 0.25, "right_shoulder_yaw": 0.3}, 4.0),
    Gesture.FACE_WAVE: Motion({**_RIGHT_OUT, "right_shoulder_pitch": -1.4}, {"right_shoulder_yaw": 0.3}, 4.0),
    Gesture.HUG: Motion(
        {f"{side}_{name}": value for side in ("left", "right") for name, value in _WIDE.items()}
        | {"left_shoulder_roll": 0.6, "right_shoulder_roll": -0.6},
        {},
        None,
    ),
}


class Arms:
    """Where the arms are told to go by the robot itself: home, unless a gesture is on. `ArmGestures` without a lock."""

    def __init__(self) -> None:
        self.target = _HOME.copy()  # (14,) rad
        self.gesture: Gesture | None = None
        self._began_s: float | None = None

    def execute(self, gesture: int) -> None:
        """Begin a gesture, or end it with RELEASE or by asking for the same again.

        Raises:
            UnknownGestureError: none that is known here. ArmsHoldingError: another one is held.
        """
        if gesture == Gesture.RELEASE or (self.gesture is not None and gesture == self.gesture):
            self.gesture = None
            return
        if gesture not in MOTIONS:
            raise UnknownGestureError(f"{gesture}; there are {[int(known) for known in MOTIONS]}")
        if self.gesture is not None:
            raise ArmsHoldingError(self.gesture.name)
        self.gesture, self._began_s = Gesture(gesture), None

    def gestures(self) -> Sequence[Any]:
        """What can be asked for."""
        return [{"id": int(gesture), "name": gesture.name.lower()} for gesture in (*MOTIONS, Gesture.RELEASE)]

    def think(self, time_s: float, dt: float) -> np.ndarray:
        """Move the targets on by `dt` seconds, no faster than `SPEED`, and return them (14,) rad."""
        goal = _HOME
        if self.gesture is not None:
            motion = MOTIONS[self.gesture]
            self._began_s = time_s if self._began_s is None else self._began_s
            goal = motion.target(time_s - self._began_s)
            if motion.hold_s is not None and time_s - self._began_s >= motion.hold_s:
                self.gesture = None
        step = SPEED * dt
        self.target = np.clip(goal, self.target - step, self.target + step)
        return self.target
