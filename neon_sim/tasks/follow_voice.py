"""follow_voice: touch the ball that a voice names. The text says only that there is something to listen to."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.g1.geometry import points_in_frame, quat_to_matrix
from neon_sim.g1.kinematics import UnreachableError
from neon_sim.names import require_numbers
from neon_sim.robot import RobotState, World
from neon_sim.sensors.voice import Said, Spoken
from neon_sim.tasks.arms import HANDS, PALMS, approach, lift_against_gravity, reach_posture
from neon_sim.tasks.objects import COLORS, HIDDEN_W, add_balls, ball_name
from neon_sim.tasks.reach import ReachConfig, sample_ball_positions
from neon_sim.tasks.tolerance import tolerance
from neon_sim.tasks.wording import HOLD_S, Wording, check_splits

WORDING: Final = Wording(
    train=(
        "do what the voice says",
        "listen, and touch the ball that is named",
        "touch the ball you are told to touch",
        "follow the spoken instruction",
    ),
    test=("obey the person who speaks", "you will hear which ball to touch", "act on what you hear"),
)
SPOKEN: Final = Wording(
    train=(
        "touch the {color} ball",
        "put your hand on the {color} ball",
        "reach for the {color} one",
        "the {color} ball please",
        "{color}",
    ),
    test=("I would like the {color} ball", "bring a hand to the ball that is {color}", "now tap the {color} one"),
)


@dataclass(frozen=True)
class FollowVoiceConfig:
    """Geometry of the task in metres and seconds.

    Raises ValueError for a number out of its range, a split that does not exist, and as `ReachConfig` does.
    """

    num_balls: int = 3
    radius: float = 0.04
    success_distance: float = 0.04  # palm site to ball centre
    hold_s: float = 0.5  # at the named ball to succeed, at another one to fail
    wording: str = "train"  # or "test": held-out paraphrases, of the text and of what is spoken
    objects: str = "train"  # or "test": balls of other shapes, sizes and shades

    def __post_init__(self) -> None:
        check_splits(self)
        require_numbers(self, success_distance=(0.001, 1.0), hold_s=HOLD_S)
        self.reach()

    def reach(self) -> ReachConfig:
        """The scene: balls where the reach task has them."""
        return ReachConfig(num_balls=self.num_balls, radius=self.radius, objects=self.objects)


class FollowVoiceTask:
    """Success: a palm stays within 4 cm of the named ball's centre for 0.5 s. Failure: of another ball's."""

    name = "follow_voice"
    max_steps = 250

    def __init__(self, config: FollowVoiceConfig | None = None, control_dt: float = 0.02) -> None:
        self.config = config or FollowVoiceConfig()
        self._hold_steps = round(self.config.hold_s / control_dt)
        self._held, self._held_wrong = 0, 0
        self._present: tuple[str, ...] = ()
        self._target_color = next(iter(COLORS))
        self._words = ""
        self._said = Said()

    def edit_scene(self, spec: mujoco.MjSpec) -> None:
        """One mocap ball per colour; they are seen and not felt."""
        add_balls(spec, self.config.objects, self.config.radius)

    def reset(self, state: RobotState, world: World, rng: np.random.Generator) -> str:
        """Choose balls, places, the named ball, the spoken words and a text that does not name it."""
        self._held, self._held_wrong, self._said = 0, 0, Said()
        pelvis_pos, pelvis_quat = world.object_pose("pelvis")
        order = rng.permutation(list(COLORS))
        self._present = tuple(str(color) for color in order[: self.config.num_balls])
        places_b = sample_ball_positions(self.config.reach(), rng)
        positions = pelvis_pos + places_b @ quat_to_matrix(pelvis_quat).T
        for color in order[self.config.num_balls :]:
            world.place_object(ball_name(color), HIDDEN_W)
        for color, pos_w in zip(self._present, positions, strict=True):
            world.place_object(ball_name(color), pos_w)
        self._target_color = self._present[int(rng.integers(len(self._present)))]
        self._words = SPOKEN.draw(self.config.wording, rng, color=self._target_color)
        return WORDING.draw(self.config.wording, rng)

    def spoken(self) -> Spoken:
        """The words that name the ball, from somewhere in front of the robot."""
        return Spoken(self._words)

    def listen(self, said: Said) -> None:
        """When the words are said."""
        self._said = said

    def reward(self, state: RobotState, world: World) -> tuple[float, dict[str, float]]:
        """Product of: the nearer palm within 4 cm of the named ball (falls to 0.1 at 40 cm), torso upright."""
        distances = {color: self._distance(world, color) for color in self._present}
        distance, near = distances.pop(self._target_color), self.config.success_distance
        self._held = self._held + 1 if distance <= near else 0
        self._held_wrong = self._held_wrong + 1 if min(distances.values()) <= near else 0
        terms = {
            "distance": tolerance(distance, (0.0, near), margin=0.4),
            "upright": tolerance(-float(state.gravity_b[2]), (0.97, math.inf), 0.97, 0.0, "linear"),
        }
        return terms["distance"] * terms["upright"], terms

    @property
    def success(self) -> bool:
        """A palm has been at the named ball for `hold_s` without a break, up to now."""
        return self._held >= self._hold_steps

    @property
    def failed(self) -> bool:
        """A palm has been at another ball that long: trying them all is no way to listen."""
        return self._held_wrong >= self._hold_steps

    def privileged(self, state: RobotState, world: World) -> dict[str, Any]:
        """The named ball, the words that name it, m from it to the nearer palm, every ball in the pelvis frame in m."""
        places_w = [world.position(ball_name(color)) for color in self._present]
        balls = dict(zip(self._present, points_in_frame(places_w, *world.object_pose("pelvis")), strict=True))
        return {
            "color": self._target_color,
            "spoken": self._words,
            "distance": self._distance(world, self._target_color),
            "target_pos_b": balls[self._target_color],
            "ball_pos_b": balls,
        }

    def expert(self, state: RobotState, world: World, steps: int) -> np.ndarray:
        """Joint targets (steps, 29) rad that bring the hand of the ball's side to it, the other one home.

        Where a microphone hears the voice, both stay home until all has been said once: nobody knows the ball before.
        """
        goal = joints.HOME.copy()
        goal[joints.GROUPS["waist"]] = state.joint_pos[joints.GROUPS["waist"]]
        hand = self.expert_hand(state, world)
        if hand is not None:
            arm = joints.GROUPS[f"{HANDS[hand]}_arm"]
            try:
                goal[arm] = reach_posture(goal, hand, self._target_b(world))
            except UnreachableError:
                goal[arm] = state.joint_target[arm]  # a robot that has fallen or turned away: hold still
        return approach(state.joint_target, lift_against_gravity(goal, state.gravity_b), steps)

    def expert_hand(self, state: RobotState, world: World) -> int | None:
        """That of the named ball's side, 0 left, 1 right; None until a microphone has heard all of it."""
        if state.time_s < self._said.end_s:
            return None
        return 0 if self._target_b(world)[1] > 0.0 else 1

    def expert_velocity(self, state: RobotState, world: World, steps: int) -> None:
        """It stands."""

    def get_state(self) -> dict[str, Any]:
        """Counters and choices of the running episode; the balls' poses belong to the world."""
        return {
            "held": (self._held, self._held_wrong),
            "colors": self._present,
            "target_color": self._target_color,
            "words": self._words,
            "said": self._said,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore `get_state`."""
        self._held, self._held_wrong = state["held"]
        self._present, self._target_color = tuple(state["colors"]), str(state["target_color"])
        self._words, self._said = str(state["words"]), Said(*state["said"])

    def _target_b(self, world: World) -> np.ndarray:
        """The named ball (3,) m in the pelvis frame."""
        [target_b] = points_in_frame([world.position(ball_name(self._target_color))], *world.object_pose("pelvis"))
        return target_b

    def _distance(self, world: World, color: str) -> float:
        """m from a ball's centre to the nearer palm."""
        ball = world.position(ball_name(color))
        return min(math.dist(world.position(palm), ball) for palm in PALMS)
