"""Rooms and users' scenes: where things stand, measured with rays; two families; what is refused and why."""

from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from neon_sim.env import NeonG1Env
from neon_sim.g1 import joints
from neon_sim.sim.domain import DomainRandomization
from neon_sim.sim.faults import ActuatorFault
from neon_sim.sim.model import SCENE_GROUP, build_spec
from neon_sim.sim.rooms import FAMILIES, GROUNDS, Place, RoomConfig, add_room
from neon_sim.sim.scene import PREFIX, build_scene
from neon_sim.sim.terrain import add_ramp, add_stairs
from neon_sim.tasks.look_at import LookAtConfig
from neon_sim.tasks.walk import WalkConfig


def compiled(spec: mujoco.MjSpec) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    return model, data


def ray(scene: tuple[mujoco.MjModel, mujoco.MjData], start: list[float], direction: list[float]) -> float:
    """m from a place to the first thing of the scene, the robot left out."""
    group = np.zeros(6, dtype=np.uint8)
    group[SCENE_GROUP] = 1
    return mujoco.mj_ray(*scene, np.array(start), np.array(direction), group, 1, -1, np.zeros(1, np.int32))


def height(scene: tuple[mujoco.MjModel, mujoco.MjData], x: float, y: float) -> float:
    return 4.0 - ray(scene, [x, y, 4.0], [0.0, 0.0, -1.0])


def room(**options: Any) -> tuple[mujoco.MjModel, mujoco.MjData]:
    return compiled(build_scene(RoomConfig(**options)))


def write(folder: Path, body: str) -> Path:
    path = folder / "scene.xml"
    path.write_text(f"<mujoco>{body}</mujoco>")
    return path


# Rooms


@pytest.mark.parametrize("family", FAMILIES)
def test_the_clear_area_is_level_and_walls_are_around_it(family: str) -> None:
    low, high = {"train": (1.6, 2.4), "test": (2.6, 3.4)}[family]
    for seed in range(3):
        scene = room(family=family, seed=seed, grounds=GROUNDS, furniture=8)
        for x, y in np.random.default_rng(0).uniform([-4.5, -4.0], [5.5, 4.0], (200, 2)):
            assert height(scene, x, y) == pytest.approx(0.0, abs=1e-9)
        overhead = 2.1  # m, over all furniture and under the top of all walls
        assert low + 5.5 <= ray(scene, [0.0, 0.0, overhead], [1.0, 0.0, 0.0]) <= high + 5.5
        assert low + 4.5 <= ray(scene, [0.0, 0.0, overhead], [-1.0, 0.0, 0.0]) <= high + 4.5
        for side in (-1.0, 1.0):
            assert low + 4.0 <= ray(scene, [0.0, 0.0, overhead], [0.0, side, 0.0]) <= high + 4.0


def test_the_clear_area_holds_the_longest_ways_and_the_farthest_people() -> None:
    x0, x1, y0, y1 = RoomConfig().clear
    walk, people, body = WalkConfig(), LookAtConfig(), 0.3  # m, half a shoulder's width and a little
    assert x1 >= 10.0 * walk.forward[1] + body and x0 <= 10.0 * walk.forward[0] - body  # walk lasts 10 s
    assert y1 >= 10.0 * walk.left[1] + body and y0 <= 10.0 * walk.left[0] - body
    assert min(x1, y1, -x0, -y0) >= people.distance[1] + body


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_stands_in_anything_else(family: str) -> None:
    for seed in range(10):
        places = add_room(build_spec(), RoomConfig(family, seed, grounds=GROUNDS, furniture=8))
        assert len(places) >= 5  # three patches and at least two pieces
        clear = Place(0.5, 0.0, 5.0, 4.0)
        for i, place in enumerate(places):
            assert not any(place.meets(other) for other in (clear, *places[:i]))


def test_rectangles_meet_by_hand() -> None:
    one = Place(0.0, 0.0, 1.0, 1.0)
    assert one.meets(Place(1.9, 0.0, 1.0, 1.0)) and not one.meets(Place(2.1, 0.0, 1.0, 1.0))
    assert one.meets(Place(2.1, 0.0, 1.0, 1.0), gap=0.2) and not one.meets(Place(0.0, -2.1, 1.0, 1.0))


def description(family: str, seed: int) -> tuple[Any, ...]:
    model, _ = room(family=family, seed=seed)
    scene = model.geom_group == SCENE_GROUP
    return model.geom_pos[scene].tobytes(), model.geom_size[scene].tobytes(), model.geom_rgba[scene].tobytes()


def test_the_seed_makes_the_room() -> None:
    assert description("train", 3) == description("train", 3)
    assert len({description(family, seed) for family in FAMILIES for seed in range(4)}) == 8


def test_the_families_share_neither_furniture_nor_colours() -> None:
    names, colors = {}, {}
    for family in FAMILIES:
        models = [room(family=family, seed=seed, furniture=8)[0] for seed in range(12)]
        names[family] = {m.body(i).name.rsplit("_", 1)[0] for m in models for i in range(31, m.nbody)}
        seen = [m.geom_rgba[(m.geom_group == SCENE_GROUP) & (m.geom_matid < 0)] for m in models]
        colors[family] = {tuple(row) for rows in seen for row in rows.round(3).tolist()}
    assert names == {"train": {"table", "cupboard", "sofa"}, "test": {"desk", "shelf", "armchair"}}
    assert not colors["train"] & colors["test"]


def test_stairs_and_ramps_by_hand() -> None:
    spec = build_spec()
    add_stairs(spec, (3.0, 0.0, 0.6, 0.5), rise=0.05, steps=3)
    add_ramp(spec, (6.0, 0.0, 0.6, 0.5), degrees=6.0)
    scene = compiled(spec)
    assert [round(height(scene, x, 0.2), 6) for x in (2.39, 2.6, 3.0, 3.4, 3.61)] == [0.0, 0.05, 0.10, 0.15, 0.0]
    for x in (5.5, 6.0, 6.5):
        assert height(scene, x, 0.0) == pytest.approx(np.tan(np.deg2rad(6.0)) * (x - 5.4), abs=1e-6)
    assert height(scene, 5.3, 0.0) == 0.0


def test_a_rough_patch_lies_where_it_was_put() -> None:
    config = RoomConfig(seed=1, furniture=0, grounds=("rough",))
    spec = build_spec()
    [place] = add_room(spec, config)
    scene = compiled(spec)
    offsets = np.random.default_rng(0).uniform(-0.95, 0.95, (300, 2))
    field = [height(scene, place.x + u * place.half_x, place.y + v * place.half_y) for u, v in offsets]
    assert 0.01 < max(field) <= 0.05 and min(field) >= -1e-9 and np.std(field) > 0.003


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"family": "tests"}, "Unknown family of rooms 'tests'. Did you mean 'test'"),
        ({"grounds": ("step",)}, "Unknown ground 'step'. Did you mean 'steps'"),
        ({"furniture": -1}, r"furniture must be 0 to \d+, got -1"),
        ({"clear": (0.0, 4.0, -1.0, 1.0)}, "clear must reach 0.5 m"),
    ],
)
def test_rooms_that_make_no_sense_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RoomConfig(**wrong)


def test_the_robot_stands_in_a_room() -> None:
    env = NeonG1Env(task="stand", sensors=("proprio",), physics_dt=0.005, scene=RoomConfig("test", grounds=GROUNDS))
    env.reset(seed=0)
    for _ in range(50):
        _, _, terminated, _, info = env.step(np.zeros(17))
    assert info["success"] and not terminated


# A user's own scene


def test_a_users_scene_is_put_around_the_robot(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """<worldbody><geom name="floor" type="plane" size="5 5 0.1"/>
        <geom name="post" type="box" pos="1.5 0 0.5" size="0.1 0.1 0.5"/>
        <body name="pelvis" pos="2 1 0.2"><freejoint/><geom type="box" size="0.2 0.2 0.2" mass="1"/></body></worldbody>
        <keyframe><key qpos="2 1 0.2 1 0 0 0"/></keyframe>""",
    )
    env = NeonG1Env(task="stand", sensors=("proprio",), physics_dt=0.005, scene=path)
    env.reset(seed=0)
    for _ in range(50):
        info = env.step(np.zeros(17))[4]
    assert info["success"]
    model, data = env.robot.model, env.robot.data
    assert [model.joint(i + 1).name for i in range(29)] == list(joints.JOINT_NAMES)
    np.testing.assert_allclose(env.world.object_pose(PREFIX + "pelvis")[0], [2.0, 1.0, 0.2], atol=2e-3)
    assert ray((model, data), [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]) == pytest.approx(0.9)
    soles = [c for c in data.contact if model.geom(c.geom1).name.startswith("scene/") and c.geom[1] < 100]
    assert len(soles) >= 4  # on the user's floor, and on that alone
    assert not any(model.geom(geom).name == "floor" for c in data.contact for geom in c.geom)


def test_a_scene_with_a_motor_of_its_own_keeps_it(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """<worldbody><body name="door" pos="2 0 1"><joint name="hinge" axis="0 0 1"/>
        <geom type="box" size="0.02 0.4 0.9" pos="0 0.4 0" mass="5"/></body></worldbody>
        <actuator><motor name="opener" joint="hinge" gear="3"/></actuator>""",
    )
    options: dict[str, Any] = {"task": "stand", "sensors": ("proprio",), "physics_dt": 0.005, "scene": path}
    for randomization in (None, DomainRandomization()):
        env = NeonG1Env(**options, randomization=randomization)
        env.reset(seed=0)
        env.world.apply_fault(ActuatorFault("left_elbow_joint", strength=0.5))
        model, data = env.robot.model, env.robot.data
        assert model.nu == 30 and model.actuator(29).name == f"{PREFIX}opener"
        assert model.actuator_gainprm[29, 0] == 1.0 and not model.actuator_biasprm[29].any()
        data.ctrl[29] = 1.0
        env.step(np.zeros(17))
        assert data.qfrc_actuator[model.joint(f"{PREFIX}hinge").dofadr[0]] == pytest.approx(3.0)  # N m: gear times 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('<worldbody><geom type="cube"/></worldbody>', "cannot read the scene"),
        ('<worldbody><geom type="plane" size="5 5 1" pos="0 0 0.3"/></worldbody>', "has it at 0.300 m there"),
        ('<worldbody><geom name="pole" type="box" size=".1 .1 1" pos="0.12 0 1.0"/></worldbody>', "scene/pole"),
    ],
)
def test_scenes_that_the_robot_cannot_start_in_are_refused(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_scene(write(tmp_path, body))


def test_a_scene_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match="No MJCF scene at nowhere.xml. Give the path"):
        build_scene("nowhere.xml")
