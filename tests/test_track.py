"""track: paths by hand, balls that are where their path says, a mean that is judged, an expert that looks ahead."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neon_sim.env import NeonG1Env
from neon_sim.g1.geometry import quat_to_matrix
from neon_sim.tasks.arms import SHOULDERS_B, follow_path, palms_b
from neon_sim.tasks.objects import COLORS
from neon_sim.tasks.track import Path, TrackConfig, TrackTask, mean_speed, sample_paths

TIMES = np.linspace(0.0, 8.0, 401)


def make(**options: Any) -> NeonG1Env:
    return NeonG1Env(task="track", sensors=("proprio",), physics_dt=0.005, task_options=options)


# Paths


def test_a_path_by_hand() -> None:
    path = Path(np.array([0.3, 0.0, 0.2]), np.array([0.0, 0.1, 0.05]), np.array([1.0, 4.0, 2.0]), np.zeros(3))
    expected = [[0.3, 0.0, 0.2], [0.3, 0.1, 0.2], [0.3, 0.0, 0.2]]
    np.testing.assert_allclose(path.at(np.array([0.0, 1.0, 2.0])), expected, atol=1e-12)
    np.testing.assert_allclose(path.at(np.array(0.5)), [0.3, 0.1 * math.sqrt(0.5), 0.25])
    there_and_back = np.array([[0.0, 0, 0], [0.3, 0, 0.4], [0.0, 0, 0]])
    assert mean_speed(there_and_back, np.array([0.0, 1.0, 2.0])) == pytest.approx(0.5)


def test_paths_stay_in_reach_and_apart_and_the_named_one_is_fast() -> None:
    config, rng = TrackConfig(num_balls=2), np.random.default_rng(0)
    for _ in range(8):
        named, other = (path.at(TIMES) for path in sample_paths(config, 8.0, rng))
        assert 0.11 < mean_speed(named, TIMES) < 0.36
        assert np.linalg.norm(named - other, axis=1).min() > 0.09
        for points in (named, other):
            assert np.linalg.norm(points[:, None] - SHOULDERS_B, axis=2).max() < 0.39
            assert (points >= config.low).all() and (points <= config.high).all()


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="num_balls must be 1 to 5"):
        TrackConfig(num_balls=6)
    with pytest.raises(ValueError, match="No room for 2 paths"):
        sample_paths(TrackConfig(min_separation=0.9), 8.0, np.random.default_rng(0))


# The scene


def test_the_named_ball_is_where_its_path_says_in_every_observation() -> None:
    env = make()
    _, info = env.reset(seed=3)
    truth = info["privileged"]
    assert truth["color"] in info["instruction"].split()
    origin_w, quat = env.world.object_pose("pelvis")
    turn = quat_to_matrix(quat)
    [path] = env.task.get_state()["paths"][:1]
    for step in range(30):
        expected_w = origin_w + turn @ path.at(np.array(0.02 * step))
        np.testing.assert_allclose(env.world.object_pose(f"ball_{truth['color']}")[0], expected_w, atol=1e-9)
        before = env.privileged()
        env.step(np.zeros(17))
    moved = env.privileged()["target_pos_b"] - before["target_pos_b"]
    np.testing.assert_allclose(before["target_vel_b"] * 0.02, moved, atol=1.5e-3)  # but for the pelvis, which sways
    shown = {color for color in COLORS if env.world.position(f"ball_{color}")[2] > 0.0}
    assert shown == set(truth["ball_pos_b"]) and len(shown) == 2


# Success


def judged(env: NeonG1Env, off: list[float]) -> list[bool]:
    """Success after each step of a film in which the named ball is `off` m from the palm; no physics."""
    env.reset(seed=0)
    task, world, seen = env.task, env.world, []
    hand = task.privileged(env.robot.read(), world)["hand"]
    [path] = task.get_state()["paths"][:1]
    origin_w, quat = world.object_pose("pelvis")
    palm_b = palms_b(env.robot.read().joint_pos)[hand]
    for step, distance in enumerate(off, start=1):
        state = replace(env.robot.read(), time_s=0.02 * step, gravity_b=np.array([0.0, 0.0, -1.0]))
        here_b = palm_b + [distance, 0.0, 0.0]
        moving = replace_path(path, here_b)
        task.set_state({**task.get_state(), "paths": (moving, *task.get_state()["paths"][1:])})
        reward, terms = task.reward(state, world)
        assert task.distance(world) == pytest.approx(distance, abs=1e-6)
        assert reward == pytest.approx(terms["distance"]) and (reward == 1.0) == (distance <= 0.025)
        seen.append(task.success)
    return seen


def replace_path(path: Path, here_b: np.ndarray) -> Path:
    """The path of a ball that rests at a place."""
    return path._replace(center=here_b, amplitude=np.zeros(3))


def test_three_seconds_are_judged_by_their_mean() -> None:
    env = make()
    assert judged(env, [0.024] * 151) == [False] * 149 + [True] * 2
    assert not any(judged(env, [0.026] * 200))
    # 15 of 150 frames at 11 cm and 135 at 1 cm: 2 cm on average.
    assert judged(env, [0.11] * 15 + [0.01] * 135)[-1]
    assert not judged(env, [0.11] * 30 + [0.01] * 120)[-1]  # 3 cm


# Expert


def played(env: NeonG1Env, seed: int, steps: int = 240) -> tuple[bool, float]:
    """Whether the expert succeeds, and the mean distance (m) of the last 3 s of `steps`."""
    env.reset(seed=seed)
    succeeded = False
    for _ in range(steps // 16):
        for action in env.expert_chunk(16):
            info = env.step(action)[4]
            succeeded = succeeded or info["success"]
    return succeeded, info["privileged"]["mean_distance"]


def test_the_expert_is_on_the_ball_and_one_that_does_not_look_ahead_lags() -> None:
    env = make()
    succeeded, error = played(env, seed=100)
    assert succeeded and error < 0.012

    def goes_where_it_is_now(state: Any, world: Any, steps: int) -> np.ndarray:
        truth = env.task.privileged(state, world)
        return follow_path(state, truth["hand"], np.tile(truth["target_pos_b"], (steps + 1, 1)), 0.02)

    env.task.expert = goes_where_it_is_now  # type: ignore[method-assign]
    _, lagging = played(env, seed=100)
    assert lagging > 2.0 * error and lagging > 0.02


def test_a_path_out_of_reach_stops_the_arm_and_no_more() -> None:
    env = make()
    env.reset(seed=0)
    state = env.robot.read()
    far = np.tile([2.0, 0.0, 0.0], (3, 1))
    targets = follow_path(state, 0, far, 0.02)
    assert targets.shape == (2, 29) and np.abs(np.diff(targets, axis=0)).max() <= 0.036 + 1e-9
    assert np.abs(targets[-1] - state.joint_pos)[15:22].max() < 0.1


def test_the_task_says_its_name() -> None:
    assert TrackTask().name == "track" and TrackTask(TrackConfig(judged_s=1.0)).get_state()["judged"].shape == (50,)
