"""navigate: the planner on maps that a person can see through, pursuit by hand, layouts, success, the expert."""

import math
from typing import Any

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neon_sim.env import NeonG1Env
from neon_sim.tasks.navigate import OBSTACLES, WORDING, NavigateConfig
from neon_sim.tasks.objects import COLORS
from neon_sim.tasks.path import Block, Pose, clearance, floor_pose, on_floor, plan, pursue, seen_from


def make(**options: Any) -> NeonG1Env:
    return NeonG1Env(**{"task": "navigate", "sensors": ("proprio",), "physics_dt": 0.005, **options})


def carry(env: NeonG1Env, place: np.ndarray) -> None:
    """Put the robot somewhere, without physics."""
    env.robot.data.qpos[:2] = place
    mujoco.mj_kinematics(env.robot.model, env.robot.data)


def length(way: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(way, axis=0), axis=1).sum())


# The way


def test_an_empty_floor_is_crossed_straight() -> None:
    way = plan(np.zeros(2), np.array([2.0, 0.0]), [], 0.3, 0.5)
    np.testing.assert_array_equal(way[[0, -1]], [[0.0, 0.0], [2.0, 0.0]])
    assert length(way) == pytest.approx(2.0, abs=1e-9)


def test_a_wall_is_gone_around() -> None:
    wall = Block(1.0, 0.0, 0.0, 0.1, 0.8)
    way = plan(np.zeros(2), np.array([2.0, 0.0]), [wall], 0.3, 0.5)
    assert clearance(way, wall).min() >= 0.3
    # Around the corner at (1, 1.1): twice the diagonal at least; eight directions and the wish for room cost more.
    assert 2 * math.hypot(1.0, 1.1) - 0.1 < length(way) < 4.2


def test_a_turned_wall_is_where_it_looks() -> None:
    wall = Block(1.0, 0.0, math.pi / 2, 0.1, 0.8)  # now it lies along the way: half a metre beside it is free
    assert clearance(np.array([1.0, 0.5]), wall) == pytest.approx(0.4)
    assert clearance(np.array([1.5, 0.0]), wall) == 0.0
    assert clearance(np.array([2.1, 0.4]), wall) == pytest.approx(math.hypot(0.3, 0.3))


def test_who_is_inside_an_obstacle_finds_out() -> None:
    way = plan(np.zeros(2), np.array([1.5, 0.0]), [Block(0.0, 0.0, 0.3, 0.3, 0.3)], 0.3, 0.5)
    np.testing.assert_array_equal(way[-1], [1.5, 0.0])


@given(x=st.floats(-3, 3), y=st.floats(-3, 3), yaw=st.floats(-3, 3), ahead=st.floats(-2, 2), left=st.floats(-2, 2))
def test_there_and_back(x: float, y: float, yaw: float, ahead: float, left: float) -> None:
    pose = Pose(x, y, yaw)
    np.testing.assert_allclose(seen_from(pose, on_floor(pose, ahead, left)), [ahead, left], atol=1e-12)


def test_pursuit_by_hand() -> None:
    way = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    np.testing.assert_allclose(pursue(Pose(0.0, 0.0, 0.0), way, 0.4, 0.7), [0.4, 0.0, 0.0])
    np.testing.assert_allclose(pursue(Pose(0.0, 0.0, -0.2), way, 0.4, 0.7), [0.4 * math.cos(0.2) ** 2, 0.0, 0.4])
    np.testing.assert_allclose(pursue(Pose(0.0, 0.0, 2.0), way, 0.4, 0.7), [0.0, 0.0, -0.7])  # turn on the spot first
    np.testing.assert_allclose(pursue(Pose(1.8, 0.0, 0.0), way, 0.4, 0.7), [0.1 + 0.6 * 0.2, 0.0, 0.0])  # slow down


# The scene


@pytest.fixture(scope="module")
def scenes() -> list[tuple[dict[str, Any], str, list[Block]]]:
    """What 60 resets chose: the truth, the words, the obstacles."""
    env = make(settle_s=0.0)
    resets = ((env.reset(seed=seed)[1], env.task.blocks(env.world)) for seed in range(60))
    return [(info["privileged"], info["instruction"], blocks) for info, blocks in resets]


def test_words_and_layouts(scenes: list[tuple[dict[str, Any], str, list[Block]]]) -> None:
    said = set()
    for truth, text, blocks in scenes:
        assert [color for color in COLORS if color in text.split()] == [truth["color"]]
        said.add(text.replace(truth["color"], "{color}"))
        markers = np.array(list(truth["marker_pos_b"].values()))
        assert markers.shape == (3, 3) and len(blocks) == 3
        assert (np.hypot(*markers[:, :2].T) > 1.19).all() and (np.hypot(*markers[:, :2].T) < 3.01).all()
        np.testing.assert_array_equal(truth["target_pos_b"], truth["marker_pos_b"][truth["color"]])
        assert all(-1.0 < b.x < 4.0 and abs(b.y) < 3.5 for b in blocks)  # what a room keeps clear
        # The first obstacle stands on the straight line to the marker, and there is a way around all of them.
        line = np.linspace([0.0, 0.0], truth["target_pos_w"][:2], 50)
        assert min(clearance(line, block).min() for block in blocks) == 0.0
        way = plan(np.zeros(2), truth["target_pos_w"][:2], blocks, 0.36, 0.55)
        assert min(clearance(way, block).min() for block in blocks) > 0.3
    assert said == set(WORDING.train)
    assert {truth["color"] for truth, _, _ in scenes} == set(COLORS)


def test_what_is_held_out_is_not_in_training() -> None:
    env = make(settle_s=0.0, task_options={"wording": "test", "objects": "test"})
    infos = [env.reset(seed=seed)[1] for seed in range(15)]
    said = {info["instruction"].replace(info["privileged"]["color"], "{color}") for info in infos}
    assert said == set(WORDING.test)
    sizes = {split: {look.size for look in looks} for split, looks in OBSTACLES.items()}
    assert not sizes["train"] & sizes["test"]


def test_obstacles_are_felt_and_markers_are_not() -> None:
    env = make(settle_s=0.0)
    env.reset(seed=0)
    for i in env.task._standing:
        env.world.place_object(f"obstacle_{i}", np.array([10.0 + i, 0.0, 0.5]))
    obstacle = f"obstacle_{env.task._standing[0]}"
    env.world.place_object(f"marker_{env.task.privileged(None, env.world)['color']}", np.array([0.0, 0.0, 0.5]))
    mujoco.mj_forward(env.robot.model, env.robot.data)
    above = [c for c in env.robot.data.contact if c.pos[2] > 0.05]
    assert not above  # a marker in the belly, and nothing meets it
    env.world.place_object(obstacle, np.array([0.1, 0.0, 0.5]))
    mujoco.mj_forward(env.robot.model, env.robot.data)
    assert any(c.pos[2] > 0.05 for c in env.robot.data.contact)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_markers": 1}, "num_markers must be 2 to 5"),
        ({"num_obstacles": 5}, "num_obstacles must be 0 to 4"),
        ({"distance": (0.5, 2.0)}, "distance is"),
        ({"objects": "tset"}, "Did you mean 'test'"),
    ],
)
def test_configs_that_make_no_sense_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NavigateConfig(**wrong)


# Success


def test_reward_and_success_by_hand() -> None:
    env = make(settle_s=0.0)
    _, info = env.reset(seed=0)
    assert not info["success"]
    marker = info["privileged"]["target_pos_w"][:2]

    def stay(steps: int, away: float) -> list[bool]:
        carry(env, marker + [away, 0.0])
        done = []
        for _ in range(steps):
            stay.terms = env.task.reward(env.robot.read(), env.world)[1]
            done.append(env.task.success)
        return done

    stay(60, 3.3)
    assert stay.terms["distance"] == pytest.approx(0.1) and stay.terms["slow"] == 1.0  # 3 m beyond 0.3, margin 3
    stay(60, 0.31)
    assert not env.task.success and 0.99 < stay.terms["distance"] < 1.0
    # From 0.31 to 0.29 m in one period: 1 m/s, of which the smoothing keeps 0.1; 25 quiet periods are success.
    assert stay(26, 0.29)[23:] == [False, True, True]
    assert stay.terms == {"distance": 1.0, "slow": 1.0, "upright": 1.0}
    assert stay(1, 0.31) == [False]


def test_running_past_is_not_being_there() -> None:
    env = make(settle_s=0.0)
    _, info = env.reset(seed=0)
    marker = info["privileged"]["target_pos_w"][:2]
    for i in range(120):  # a second at rest, then 0.5 m/s up to the middle
        carry(env, marker + [-0.7 + 0.01 * max(i - 50, 0), 0.0])
        _, terms = env.task.reward(env.robot.read(), env.world)
        assert not env.task.success
    assert terms["slow"] == pytest.approx(0.1 ** ((0.35 / 0.5) ** 2), rel=0.05)


def test_the_other_markers_do_not_count() -> None:
    env = make(settle_s=0.0)
    _, info = env.reset(seed=0)
    truth = info["privileged"]
    other = next(color for color in truth["marker_pos_b"] if color != truth["color"])
    carry(env, np.array(env.world.position(f"marker_{other}")[:2]))
    for _ in range(60):
        env.task.reward(env.robot.read(), env.world)
    assert not env.task.success and env.task.distance(env.world) > 0.6


# Expert and saved states


def test_the_expert_walks_there() -> None:
    env = make()
    env.reset(seed=100)
    closest = np.inf
    for step in range(env.task.max_steps):
        if step % 16 == 0:
            chunk = env.expert_chunk()
        _, _, terminated, _, info = env.step(chunk[step % 16])
        pose = floor_pose(env.world)
        closest = min(closest, *(float(clearance(np.array(pose[:2]), b)) for b in env.task.blocks(env.world)))
        if terminated or info["success"]:
            break
    assert info["success"] and not terminated
    assert closest > 0.2  # m from the pelvis to the nearest edge


def test_a_saved_episode_goes_on_alike() -> None:
    env = make()
    env.reset(seed=1)
    actions = np.random.default_rng(0).uniform(-1, 1, (60, 17))
    for action in actions[:30]:
        env.step(action)
    saved = env.get_state()
    first = [env.step(action) for action in actions[30:]]
    env.reset(seed=2)
    env.set_state(saved)
    for one, action in zip(first, actions[30:], strict=True):
        other = env.step(action)
        np.testing.assert_array_equal(one[0]["proprio"], other[0]["proprio"])
        assert one[1] == other[1] and one[4]["reward_terms"] == other[4]["reward_terms"]
        np.testing.assert_array_equal(one[4]["privileged"]["target_pos_b"], other[4]["privileged"]["target_pos_b"])
