"""lift_box: hands that lie flat, boxes that weigh what they should, success and dropping, the expert."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neon_sim.env import NeonG1Env
from neon_sim.g1 import joints
from neon_sim.g1.kinematics import UnreachableError
from neon_sim.tasks.boxes import LIFT_BOXES, color_of
from neon_sim.tasks.lift_box import WORDING, LiftBoxConfig
from neon_sim.tasks.palms import press_posture, push_with, touch_jacobian, touch_points

POSTURE = np.array([-0.2, 0.1, 0.0, 0.3, 0.0, -0.4, 0.0])
INWARD = np.array([[0.0, -1.0, 0.0], [0.0, 1.0, 0.0]])


def make(**options: Any) -> NeonG1Env:
    return NeonG1Env(**{"task": "lift_box", "sensors": ("proprio",), "physics_dt": 0.005, **options})


def hold_box(env: NeonG1Env, above: float, steps: int = 1) -> dict[str, float]:
    """Judge the named box held by nobody `above` m over its place for some steps, without physics."""
    pos_w, _ = env.world.object_pose(env.task.box.name)
    env.world.place_object(env.task.box.name, np.array([*pos_w[:2], env.task._start_height + above]))
    for _ in range(steps):
        terms = env.task.reward(env.robot.read(), env.world)[1]
    return terms


# Hands


def test_the_touching_point_is_on_the_hand_of_the_model() -> None:
    env = make()
    env.reset(seed=0)
    model, data = env.robot.model, env.robot.data
    pelvis, matrix = data.body("pelvis").xpos, data.body("pelvis").xmat.reshape(3, 3)
    touch_w = pelvis + touch_points(data.qpos[7:36]) @ matrix.T
    for hand, point, sign in (("left_hand", touch_w[0], -1.0), ("right_hand", touch_w[1], 1.0)):
        geom = data.geom(hand)
        local = geom.xmat.reshape(3, 3).T @ (point - geom.xpos)
        np.testing.assert_allclose(local, [0.0, sign * model.geom(hand).size[1], 0.0], atol=1e-9)


@settings(max_examples=15)
@given(x=st.floats(0.25, 0.30), side=st.floats(0.10, 0.14), z=st.floats(0.06, 0.22), hand=st.sampled_from([0, 1]))
def test_a_pressing_hand_is_where_it_should_be_and_flat(x: float, side: float, z: float, hand: int) -> None:
    joint_pos = joints.HOME.copy()
    point = np.array([x, side if hand == 0 else -side, z])
    arm = joints.GROUPS[("left_arm", "right_arm")[hand]]
    joint_pos[arm] = press_posture(joint_pos, hand, point, INWARD[hand], POSTURE)
    assert np.linalg.norm(touch_points(joint_pos)[hand] - point) < 0.021
    assert (joint_pos[arm] > joints.LOWER[arm]).all() and (joint_pos[arm] < joints.UPPER[arm]).all()


def test_both_hands_are_mirror_images_and_know_what_they_cannot_reach() -> None:
    left = press_posture(joints.HOME, 0, np.array([0.28, 0.12, 0.1]), INWARD[0], POSTURE)
    right = press_posture(joints.HOME, 1, np.array([0.28, -0.12, 0.1]), INWARD[1], POSTURE)
    both = joints.HOME.copy()
    both[joints.GROUPS["left_arm"]], both[joints.GROUPS["right_arm"]] = left, right
    np.testing.assert_allclose(joints.mirror(both), both, atol=0.02)
    with pytest.raises(UnreachableError, match=r"The left hand should face .* came no nearer than"):
        press_posture(joints.HOME, 0, np.array([0.8, 0.1, 0.1]), INWARD[0], POSTURE)


def test_jacobian_and_force_by_differences() -> None:
    joint_pos = joints.HOME + 0.1
    arm, step = joints.GROUPS["left_arm"], 1e-6
    for column, joint in enumerate(arm):
        moved = joint_pos.copy()
        moved[joint] += step
        slope = (touch_points(moved)[0] - touch_points(joint_pos)[0]) / step
        np.testing.assert_allclose(touch_jacobian(joint_pos, 0)[:3, column], slope, atol=1e-5)
    forces = np.array([[0.0, -10.0, 0.0], [0.0, 0.0, 0.0]])
    offset = push_with(joint_pos, forces)
    expected = touch_jacobian(joint_pos, 0)[:3].T @ forces[0] / joints.KP[arm]  # virtual work, over the servo's gain
    np.testing.assert_allclose(offset[arm], expected)
    assert not offset[:15].any() and not offset[22:].any()


# The scene


def test_boxes_weigh_and_grip_what_the_table_says() -> None:
    for split, boxes in LIFT_BOXES.items():
        model = make(task_options={"objects": split}).robot.model
        for box in boxes:
            assert model.body(box.name).mass[0] == pytest.approx(box.mass)
            assert model.geom(box.name).friction[0] == box.friction and model.geom(box.name).priority[0] == 1
            np.testing.assert_allclose(model.geom(box.name).size, box.look.size)
    sizes = {split: {box.look.size for box in boxes} for split, boxes in LIFT_BOXES.items()}
    assert not sizes["train"] & sizes["test"]


def test_a_box_stays_on_its_stand_and_the_parked_ones_are_out_of_the_way() -> None:
    env = make()
    for seed in range(4):
        _, info = env.reset(seed=seed)
        start = info["privileged"]["box_pos_w"]
        assert 0.84 <= start[2] <= 0.90 and [c for c in map(color_of, env.task._boxes) if c in info["instruction"]] == [
            info["privileged"]["color"]
        ]
        for _ in range(50):
            info = env.step(np.zeros(17))[4]
        np.testing.assert_allclose(info["privileged"]["box_pos_w"], start, atol=3e-3)
        heights = sorted(env.world.position(box.name)[2] for box in env.task._boxes)
        assert heights[1] < 1.0 and heights[2] > 9e4  # two are shown


@pytest.mark.parametrize("split", ["train", "test"])
def test_all_wordings_of_a_split_come_up(split: str) -> None:
    env = make(settle_s=0.0, task_options={"wording": split})
    infos = [env.reset(seed=seed)[1] for seed in range(40)]
    said = {info["instruction"].replace(info["privileged"]["color"], "{color}") for info in infos}
    assert said == set(WORDING.of(split))


def test_a_range_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(ValueError, match=r"height is \(lowest, highest\)"):
        LiftBoxConfig(height=(0.9, 0.8))


# Success


def test_reward_and_success_by_hand() -> None:
    env = make()
    env.reset(seed=0)
    assert hold_box(env, 0.0)["lifted"] == pytest.approx(0.1)
    assert hold_box(env, 0.05)["lifted"] == pytest.approx(0.1 ** (0.5**2))
    assert hold_box(env, 0.101, 49)["lifted"] == 1.0 and not env.task.success
    hold_box(env, 0.101)
    assert env.task.success
    hold_box(env, 0.099)
    assert not env.task.success
    hold_box(env, 0.2, 49)  # counts anew
    assert not env.task.success and not env.task.failed
    hold_box(env, -0.11)
    assert env.task.failed


def test_hands_must_be_at_both_walls() -> None:
    env = make()
    env.reset(seed=0)
    palms = np.array([env.world.position(f"{hand}_palm") for hand in ("left", "right")])
    width = 2 * env.task.box.look.size[1]
    for gap in (0.0, 0.1):  # the box midway between the palms: each is half of what is left off its wall
        apart = np.linalg.norm(palms[0] - palms[1])
        env.world.place_object(env.task.box.name, palms.mean(axis=0) + [gap, 0.0, 0.0], np.array([1.0, 0, 0, 0]))
        expected = math.hypot((apart - width) / 2, gap)
        assert env.task.distance(env.world) == pytest.approx(expected, abs=2e-3)


def test_a_dropped_box_ends_the_episode() -> None:
    env = make()
    env.reset(seed=0)
    pos_w, _ = env.world.object_pose(env.task.box.name)
    env.world.place_object(env.task.box.name, pos_w + [0.3, 0.0, 0.0])  # beside its stand
    terminated = False
    for _ in range(30):
        _, _, terminated, _, _ = env.step(np.zeros(17))
        if terminated:
            break
    assert terminated and env.task.failed


# Expert and saved states


def run_expert(env: NeonG1Env, seed: int) -> bool:
    env.reset(seed=seed)
    for step in range(env.task.max_steps):
        if step % 8 == 0:
            chunk = env.expert_chunk(8)
        _, _, terminated, _, info = env.step(chunk[step % 8])
        if terminated or info["success"]:
            break
    return bool(info["success"])


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_expert_lifts(split: str) -> None:
    env = make(task_options={"objects": split})
    assert sum(run_expert(env, seed) for seed in range(3)) >= 2


def test_doing_nothing_lifts_nothing() -> None:
    env = make()
    env.reset(seed=0)
    for _ in range(100):
        info = env.step(np.zeros(17))[4]
    assert not info["success"] and abs(info["privileged"]["lifted"]) < 0.003


def test_a_saved_episode_goes_on_alike() -> None:
    env = make()
    env.reset(seed=0)
    for step in range(60):
        if step % 8 == 0:
            chunk = env.expert_chunk(8)
        env.step(chunk[step % 8])
    saved = env.get_state()
    first = [env.step(env.expert_action()) for _ in range(15)]
    env.reset(seed=5)
    env.set_state(saved)
    for one in first:
        other = env.step(env.expert_action())
        np.testing.assert_array_equal(one[0]["proprio"], other[0]["proprio"])
        np.testing.assert_array_equal(one[4]["privileged"]["box_pos_w"], other[4]["privileged"]["box_pos_w"])
        assert one[1] == other[1]
