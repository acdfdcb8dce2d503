"""A user's own MJCF scene around the robot, and the scene that an env is built in."""

from pathlib import Path
from typing import Final

import mujoco
import numpy as np

from neon_sim.g1 import joints
from neon_sim.sim.joint_map import JointMap
from neon_sim.sim.model import FLOOR, ROBOT_GROUP, build_spec
from neon_sim.sim.rooms import RoomConfig, add_room
from neon_sim.sim.terrain import TerrainConfig, add_terrain

FLAT: Final = "flat"
PREFIX: Final = "scene/"  # before every name of the user's scene, so that none clashes with the robot's
_LEVEL: Final = 0.01  # m that the ground under the robot may be off 0
_SUNK: Final = 0.02  # m of our floor below a scene's own

Scene = str | Path | RoomConfig | TerrainConfig


def build_scene(scene: Scene = FLAT, variant: str = "29dof") -> mujoco.MjSpec:
    """The robot in its surroundings, open to a task's edits: "flat", a room, a terrain, or the path of an MJCF file.

    variant: which robot, one of `model.VARIANTS`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such variant, MuJoCo cannot read the file, or the robot cannot start in it; the message says why.
    """
    spec = build_spec(variant)
    if isinstance(scene, RoomConfig):
        add_room(spec, scene)
    elif isinstance(scene, TerrainConfig):
        add_terrain(spec, scene)
    elif str(scene) != FLAT:
        attach_scene(spec, Path(scene))
    return spec


def attach_scene(spec: mujoco.MjSpec, path: Path) -> None:
    """Put everything of an MJCF file around the robot, which stays at the origin facing x; names get `PREFIX`.

    A scene with a ground plane of its own makes ours give way. Its `<option>` is not taken over: the physics is ours.

    Raises:
        FileNotFoundError: no such file.
        ValueError: MuJoCo cannot read the file, the ground under the robot is not at height 0, or something stands
            where the robot starts.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"No MJCF scene at {path}. Give the path of an .xml file, {FLAT!r}, a RoomConfig or a TerrainConfig."
        )
    try:
        scene = mujoco.MjSpec.from_file(str(path))
        scene.compile()
    except ValueError as error:
        raise ValueError(f"MuJoCo cannot read the scene {path}: {error}. It must compile without the robot.") from error
    for key in list(scene.keys):
        scene.delete(key)  # a keyframe holds one pose for all joints, and the robot has 29 more
    ground = any(geom.type == mujoco.mjtGeom.mjGEOM_PLANE for geom in scene.worldbody.geoms)
    spec.attach(scene, prefix=PREFIX, frame=spec.worldbody.add_frame())
    if ground:
        spec.geom(FLOOR).pos = [0.0, 0.0, -_SUNK]
    _check_start(spec, path)


def _check_start(spec: mujoco.MjSpec, path: Path) -> None:
    """Raise ValueError unless the robot can stand up at the origin."""
    model = spec.compile()
    data = mujoco.MjData(model)
    data.qpos[2] = joints.HOME_HEIGHT
    JointMap(model).place(data, joints.HOME)
    mujoco.mj_forward(model, data)
    group = np.ones(6, dtype=np.uint8)
    group[[ROBOT_GROUP, 3, 4]] = 0
    hit = np.zeros(1, dtype=np.int32)
    distance = mujoco.mj_ray(
        model, data, np.array([0.0, 0.0, joints.HOME_HEIGHT]), np.array([0.0, 0.0, -1.0]), group, 1, -1, hit
    )
    height = joints.HOME_HEIGHT - distance if distance >= 0.0 else -np.inf
    if abs(height) > _LEVEL:
        raise ValueError(
            f"The robot stands at the origin on ground of height 0; {path} has it at {height:.3f} m there. Move the"
            " scene."
        )
    in_the_way = _touching(model, data)
    if in_the_way:
        raise ValueError(
            f"The robot starts at the origin, where {path} has {', '.join(in_the_way)}. Leave 0.5 m around it free."
        )


def _touching(model: mujoco.MjModel, data: mujoco.MjData) -> list[str]:
    """Names of what the robot touches at the start, but for the ground under its soles."""
    found = set()
    for contact in data.contact[: data.ncon]:
        pair = [int(contact.geom1), int(contact.geom2)]
        names = [model.geom(geom).name or f"geom {geom}" for geom in pair]
        scene = [i for i in (0, 1) if model.body(model.geom_bodyid[pair[i]]).name.startswith(PREFIX)]
        scene += [i for i in (0, 1) if model.geom_bodyid[pair[i]] == 0 and names[i].startswith((PREFIX, "geom "))]
        sole = any(name.startswith(("left_foot_", "right_foot_")) for name in names)
        if len(set(scene)) == 1 and not (sole and contact.dist > -_LEVEL):
            found.add(names[scene[0]])
    return sorted(found)
