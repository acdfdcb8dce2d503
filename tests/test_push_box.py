"""push_box: what a box weighs and how it slides, layouts, success and toppling, the expert."""

import math
from typing import Any

import mujoco
import numpy as np
import pytest

from neon_sim.env import NeonG1Env
from neon_sim.g1.geometry import euler_to_quat
from neon_sim.tasks.boxes import PUSH_BOXES, add_tall_boxes, color_of
from neon_sim.tasks.push_box import WORDING, ZONES, PushBoxConfig


def make(**options: Any) -> NeonG1Env:
    return NeonG1Env(**{"task": "push_box", "sensors": ("proprio",), "physics_dt": 0.005, **options})


def put_box(env: NeonG1Env, away: float, tilt: float = 0.0, steps: int = 1) -> dict[str, float]:
    """Judge the box `away` m from the named zone's middle, tilted, for some steps without physics."""
    zone = np.array(env.world.position(f"zone_{env.task._color}"))
    quat_wxyz = euler_to_quat([0.0, tilt, 0.0])
    env.world.place_object(env.task.box.name, np.array([zone[0] + away, zone[1], env.task.box.half_height]), quat_wxyz)
    for _ in range(steps):
        terms = env.task.reward(env.robot.read(), env.world)[1]
    return terms


# The scene


@pytest.mark.parametrize("split", ["train", "test"])
def test_boxes_weigh_what_the_table_says_and_would_slide_before_they_tip(split: str) -> None:
    model = make(task_options={"objects": split}).robot.model
    for box in PUSH_BOXES[split]:
        assert model.body(box.name).mass[0] == pytest.approx(box.mass)
        palms_height = 0.85  # m over the floor
        assert box.friction * palms_height < box.look.size[0]  # the torque that tips it against the one that rights it
        assert palms_height < 2 * box.half_height


@pytest.mark.parametrize("task", ["push_box", "lift_box"])
def test_parked_boxes_come_down_late_and_far_away(task: str) -> None:
    env = make(task=task)
    env.reset(seed=0)
    parked = [box.name for box in env.task._boxes if env.world.position(box.name)[2] > 10.0]
    assert len(parked) >= 2
    for name in parked:
        x, y, z = env.world.position(name)
        assert math.sqrt(2.0 * z / 9.81) > 1400.0  # s of falling, 70 000 control steps
        assert math.hypot(x, y) > 900.0


def test_a_box_on_its_head_is_tilted_by_half_a_turn() -> None:
    env = make()
    env.reset(seed=0)
    for angle in np.linspace(0.0, np.pi, 300):  # for some of them rounding takes the cosine below -1
        quat_wxyz = np.array([0.0, np.cos(angle), np.sin(angle), 0.0])
        env.world.place_object(env.task.box.name, np.array([1.0, 0.0, 1.0]), quat_wxyz)
        assert env.task.tilt(env.world) == pytest.approx(np.pi, abs=1e-6)


def test_test_boxes_are_other_boxes() -> None:
    sizes = {split: {box.look.size for box in boxes} for split, boxes in PUSH_BOXES.items()}
    assert not sizes["train"] & sizes["test"]


@pytest.mark.parametrize(("share", "slides"), [(0.9, False), (1.1, True)])
def test_friction_under_a_box_is_coulombs(share: float, slides: bool) -> None:
    box = PUSH_BOXES["train"][0]
    spec = mujoco.MjSpec()
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1])
    add_tall_boxes(spec, [box])
    model = spec.compile()
    data = mujoco.MjData(model)
    data.qpos[:3] = 0.0, 0.0, box.half_height
    mujoco.mj_step(model, data, nstep=100)
    data.xfrc_applied[1, 0] = share * box.friction * box.mass * 9.81
    start = float(data.qpos[0])
    mujoco.mj_step(model, data, nstep=500)
    moved = float(data.qpos[0]) - start  # 1 s at a tenth of 0.15 g: 7 cm
    assert (moved > 0.05) is slides and (slides or moved < 0.02)


def test_words_and_layouts() -> None:
    env = make(settle_s=0.0)
    said, colors = set(), set()
    for seed in range(40):
        _, info = env.reset(seed=seed)
        truth, text = info["privileged"], info["instruction"]
        assert [color for color in ZONES if color in text.split()] == [truth["color"]]
        said.add(text.replace(truth["color"], "{color}"))
        colors.add((truth["color"], truth["box_color"]))
        assert 0.74 < truth["box_pos_w"][0] < 0.96 and abs(truth["box_pos_w"][1]) < 0.13
        assert 0.89 < truth["distance"] < 1.61 and not info["success"]
        shown = [color for color in ZONES if env.world.position(f"zone_{color}")[2] > 0.0]
        assert len(shown) == 2 and truth["color"] in shown
    assert said == set(WORDING.train) and len(colors) > 10


def test_held_out_words_and_boxes() -> None:
    env = make(settle_s=0.0, task_options={"wording": "test", "objects": "test"})
    infos = [env.reset(seed=seed)[1] for seed in range(20)]
    assert {i["instruction"].replace(i["privileged"]["color"], "{color}") for i in infos} == set(WORDING.test)
    assert {i["privileged"]["box_color"] for i in infos} == {color_of(box) for box in PUSH_BOXES["test"]}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"box_turn": (0.1, -0.1)}, "box_turn is"), ({"zone_distance": (0.1, 1.0)}, "zone_distance must be above 0.2")],
)
def test_configs_that_make_no_sense_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PushBoxConfig(**wrong)


# Success


def test_reward_and_success_by_hand() -> None:
    env = make()
    env.reset(seed=0)
    assert put_box(env, 1.7)["distance"] == pytest.approx(0.1)  # 1.5 m beyond 0.2, margin 1.5
    terms = put_box(env, 0.19, steps=24)
    assert terms["distance"] == terms["palms"] == terms["box_upright"] == 1.0 and not env.task.success
    put_box(env, 0.19)
    assert env.task.success
    put_box(env, 0.21)
    assert not env.task.success
    assert put_box(env, 0.0, tilt=0.6, steps=60)["box_upright"] == pytest.approx(0.1)  # 0.5 rad beyond 0.1
    assert not env.task.success and not env.task.failed
    put_box(env, 0.0, tilt=1.5)
    assert env.task.failed


def test_the_other_zone_does_not_count() -> None:
    env = make()
    env.reset(seed=0)
    other = env.world.position(f"zone_{env.task._other}")
    env.world.place_object(env.task.box.name, np.array([*other[:2], env.task.box.half_height]))
    for _ in range(30):
        env.task.reward(env.robot.read(), env.world)
    assert not env.task.success and env.task.distance(env.world) > 0.3


# Expert and saved states


@pytest.mark.parametrize("split", ["train", pytest.param("test", marks=pytest.mark.slow)])
def test_the_expert_pushes_with_its_palms(split: str) -> None:
    env = make(task_options={"objects": split})
    _, info = env.reset(seed=100)
    touched = set()
    for step in range(env.task.max_steps):
        if step % 16 == 0:
            chunk = env.expert_chunk()
        _, _, terminated, _, info = env.step(chunk[step % 16])
        touched |= touching(env)
        if terminated or info["success"]:
            break
    assert info["success"] and not terminated
    assert {"left_hand", "right_hand"} <= touched


def touching(env: NeonG1Env) -> set[str]:
    """Names of the robot's geoms that touch the box."""
    model, data = env.robot.model, env.robot.data
    found = set()
    for contact in data.contact[: data.ncon]:
        names = [model.geom(geom).name for geom in contact.geom]
        if env.task.box.name in names:
            found |= set(names) - {env.task.box.name}
    return found


def test_a_saved_episode_goes_on_alike() -> None:
    env = make()
    env.reset(seed=1)
    for step in range(100):
        if step % 16 == 0:
            chunk = env.expert_chunk()
        env.step(chunk[step % 16])
    saved = env.get_state()
    first = [env.step(env.expert_action()) for _ in range(20)]
    env.reset(seed=5)
    env.set_state(saved)
    for one in first:
        other = env.step(env.expert_action())
        np.testing.assert_array_equal(one[0]["proprio"], other[0]["proprio"])
        np.testing.assert_array_equal(one[4]["privileged"]["box_pos_w"], other[4]["privileged"]["box_pos_w"])
        assert one[1] == other[1]
