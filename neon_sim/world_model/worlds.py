"""The env as a world model sees it: steps of 0.1 s, one picture and one proprioception each, and the truth beside them.

Worlds are seen as a `gymnasium.Env` only. The truth is for labels, for goals given as states, and for judging.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import gymnasium
import numpy as np

from neon_sim.cells import CELLS, cell_options
from neon_sim.g1.geometry import points_in_frame
from neon_sim.names import nearest
from neon_sim.world_model.command_space import STEP_S, CommandSpace, carry_out

TURNED_CAMERA: Final = "camera_pose"  # a cell of ours: the head camera shifted and turned in every episode
WORLDS: Final = ("nominal", "unseen_scenes", "unseen_objects", TURNED_CAMERA)
_UNDERGROUND: Final = -1.0  # m: what an episode has not is hidden below
_SHIFT_M, _TURN_RAD = 0.02, 0.05  # a badly mounted camera: our choice
_TOPPLED: Final = 1.0  # rad: a box that leans more ends an episode of push_box
_COLORS: Final = ("red", "green", "blue", "yellow", "purple")
NAMED: Final = {  # what instructions name, by task: there is one of each colour, hidden where an episode has it not
    "reach": tuple(f"ball_{color}" for color in _COLORS),
    "navigate": tuple(f"marker_{color}" for color in _COLORS),
    "push_box": tuple(f"zone_{color}" for color in _COLORS[:4]),
}
_NEVER: Final = 100_000  # control steps: who plans decides when it ends


@dataclass(frozen=True)
class Moment:
    """What is seen and felt at one instant, and the truth of it."""

    frame: np.ndarray  # (S, S, 3) uint8
    proprio: np.ndarray  # (125,) float32
    base: np.ndarray  # (3,) pelvis over the floor: x, y m and yaw rad, world frame
    palms: np.ndarray  # (6,) left and right palm, m, pelvis frame
    thing: np.ndarray  # (3,) the box that is pushed, or else the named target, m; frame: see `place_of`
    target: np.ndarray  # (3,) the named target, m; the same frame


def open_world(task: str, size: int, world: str = "nominal", room: int = 0) -> Any:
    """The unwrapped NeonG1-v0 of a task with a head camera of `size` pixels at 10 Hz, on 5 ms physics.

    world: "nominal", an unseen room, unseen objects, or a camera that is mounted otherwise. room: seed of the room.
    Raises ValueError for an unknown world.
    """
    if world not in WORLDS:
        raise nearest("world", world, WORLDS)
    options = cell_options(world if world in CELLS else "nominal", ("proprio", "camera"), room)
    camera = replace(options["camera"], width=size, height=size, rate_hz=1.0 / STEP_S)
    if world == TURNED_CAMERA:
        moved = replace(camera.randomization, pos_m=_SHIFT_M, angle_rad=_TURN_RAD)
        camera = replace(camera, randomization=moved)
    made = gymnasium.make(
        "NeonG1-v0", task=task, **options | {"camera": camera}, max_steps=_NEVER, disable_env_checker=True
    )
    return made.unwrapped


def moment(env: Any, obs: Mapping[str, np.ndarray]) -> Moment:
    """What this observation shows, with the truth of the running episode."""
    truth, base = env.privileged(), base_pose(env)
    target = place_of(env, truth, "target", base)
    return Moment(
        frame=obs["camera"],
        proprio=obs["proprio"],
        base=base,
        palms=np.concatenate([obs["eef"][:3], obs["eef"][7:10]]),
        thing=place_of(env, truth, "box", base) if "box_pos_b" in truth else target,
        target=target,
    )


def place_of(env: Any, truth: Mapping[str, Any], name: str, base: np.ndarray) -> np.ndarray:
    """Where a thing is, (3,) float32 m. reach: in the pelvis frame, as palms are. Tasks that walk: ahead and left of
    the pelvis over the floor, and above it; the frame turns with the robot and does not tilt.

    A pelvis that sways by 0.1 rad would move a marker 2 m ahead, 0.8 m below it, by 8 cm over the floor.
    """
    if f"{name}_pos_w" not in truth:
        return np.asarray(truth[f"{name}_pos_b"], np.float32)
    pos_w = np.asarray(truth[f"{name}_pos_w"])
    above = pos_w[2] - env.world.position("pelvis")[2]
    return np.array([*from_base(base, pos_w[None, :2])[0], above], np.float32)


def object_names(task: str) -> tuple[str, ...]:
    """What `object_places` tells of, in order: the box that is pushed, then what instructions name."""
    return ("box", *NAMED[task]) if task == "push_box" else NAMED[task]


def object_places(env: Any, task: str) -> np.ndarray:
    """Where everything of `object_names` is, (K, 3) float32 m, framed as by `place_of`; NaN for what it has not now."""
    places_w = [env.world.position(env.task.box.name if name == "box" else name) for name in object_names(task)]
    if task == "reach":
        places = np.array(points_in_frame(places_w, *env.world.object_pose("pelvis")))
    else:
        above = np.array(places_w)[:, 2:] - env.world.position("pelvis")[2]
        places = np.hstack([from_base(base_pose(env), np.array(places_w)[:, :2]), above])
    places[np.array(places_w)[:, 2] < _UNDERGROUND] = np.nan
    return places.astype(np.float32)


def base_pose(env: Any) -> np.ndarray:
    """(3,) where the pelvis is over the floor: x, y m and yaw rad, world frame."""
    pos_w, (w, x, y, z) = env.world.object_pose("pelvis")
    return np.array([pos_w[0], pos_w[1], math.atan2(2.0 * (x * y + w * z), 1.0 - 2.0 * (y * y + z * z))])


def step_world(
    env: Any, space: CommandSpace, command: np.ndarray, obs: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], bool]:
    """Carry one command out for 0.1 s. Returns the observation after it, and whether the episode ended (a fall)."""
    ended = False
    for action in carry_out(space, command, obs["proprio"]):
        obs, _, terminated, truncated, _ = env.step(action)
        ended = terminated or truncated
        if ended:
            break
    return dict(obs), ended


def without_pictures(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state of `env.get_state()` from which the same future follows, but no new picture is ever due: the last one is
    repeated. For who tries plans in the simulator and looks at none; a third of a rollout's time was the camera's.
    """
    robot = state["robot"]
    frames = robot["frames"]
    never = frames["next_capture_s"] | {"camera": math.inf}
    return {**state, "robot": robot | {"frames": frames | {"next_capture_s": never}}}


def outcome(space: CommandSpace, seen: Moment) -> np.ndarray:
    """What a goal of this task is about: reach both palms (2, 3) m in the pelvis frame; navigate the pelvis and
    push_box the box, (1, 2) m over the floor of the world.
    """
    if space.task == "reach":
        return seen.palms.reshape(2, 3).astype(np.float64)
    if space.task == "navigate":
        return seen.base[None, :2]
    return in_world(seen.base, seen.thing[None, :2])


def outcomes(space: CommandSpace, env: Any, forks: Any) -> tuple[np.ndarray, np.ndarray]:
    """`outcome` of each of N forks of an env, (N, K, d), and whether its box lies on its side, (N,) bool."""
    upright = np.zeros(forks.fallen.shape, dtype=bool)
    if space.task == "reach":
        return forks.eef().reshape(-1, 2, 7)[..., :3].astype(np.float64), upright
    if space.task == "navigate":
        return forks.pose("pelvis")[0][:, None, :2], upright
    pos_w, quat_wxyz = forks.pose(env.task.box.name)
    up = 1.0 - 2.0 * (quat_wxyz[:, 1] ** 2 + quat_wxyz[:, 2] ** 2)  # of the box's axis along the world's
    return pos_w[:, None, :2], up < math.cos(_TOPPLED)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """m between two outcomes: of the part that is farthest off."""
    return float(np.linalg.norm(one - other, axis=-1).max())


def in_world(base: np.ndarray, places_b: np.ndarray) -> np.ndarray:
    """Places (N, 2) m ahead and left of a base (3,) x, y, yaw -> (N, 2) m in the world."""
    cosine, sine = math.cos(base[2]), math.sin(base[2])
    return base[:2] + places_b @ np.array([[cosine, sine], [-sine, cosine]])


def from_base(base: np.ndarray, places_w: np.ndarray) -> np.ndarray:
    """The inverse of `in_world`."""
    cosine, sine = math.cos(base[2]), math.sin(base[2])
    return (places_w - base[:2]) @ np.array([[cosine, -sine], [sine, cosine]])
