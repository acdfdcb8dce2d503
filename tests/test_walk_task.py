"""walk: words that name one velocity, errors measured on a robot that is moved by hand, success by its definition."""

import re
from typing import Any

import mujoco
import numpy as np
import pytest

from neon_sim.env import INSTRUCTION_BYTES, NeonG1Env
from neon_sim.g1 import joints
from neon_sim.g1.geometry import euler_to_quat
from neon_sim.tasks.walk import PACES, STAND_STILL, WalkConfig, WalkTask, describe, sample_velocity

CONFIG = WalkConfig()


def make(**options: Any) -> NeonG1Env:
    return NeonG1Env(**{"task": "walk", "sensors": ("proprio",), "physics_dt": 0.005, **options})


def glide(env: NeonG1Env, velocity: np.ndarray, steps: int, yaw: float = 0.0) -> tuple[float, dict[str, float]]:
    """Carry the robot at a velocity of its heading frame, without physics, and return the last reward and terms."""
    for _ in range(steps):
        yaw += 0.02 * velocity[2]
        ahead, left = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
        env.robot.data.qpos[:2] += 0.02 * (velocity[0] * ahead + velocity[1] * left)
        env.robot.data.qpos[3:7] = euler_to_quat([0.0, 0.0, yaw])
        mujoco.mj_kinematics(env.robot.model, env.robot.data)
        reward, terms = env.task.reward(env.robot.read(), env.world)
    return reward, terms


def begun(velocity: list[float], yaw: float = 0.0) -> NeonG1Env:
    """An env at the beginning of an episode that asks for a velocity, the robot upright at a heading."""
    env = make()
    env.reset(seed=0)
    env.robot.data.qpos[3:7], env.robot.data.qvel[:] = euler_to_quat([0.0, 0.0, yaw]), 0.0
    mujoco.mj_kinematics(env.robot.model, env.robot.data)
    env.task.reset(env.robot.read(), env.world, np.random.default_rng(0))
    env.task.wanted = np.array(velocity)
    return env


# Words


def spoken(text: str) -> np.ndarray:
    """The velocity that a person understands."""
    velocity = np.zeros(3)
    if text in STAND_STILL:
        return velocity
    for clause in re.split(r", | and | while you ", text):
        entry = 2 if clause.startswith(("turn", "rotate")) else 1 if re.search("left|right", clause) else 0
        sign = -1.0 if re.search("right|back", clause) else 1.0
        number = re.search(r"at (\d\.\d) (\S+)", clause)
        if number is not None:
            assert number[2].startswith("rad") == (entry == 2)
        assert velocity[entry] == 0.0
        velocity[entry] = sign * (float(number[1]) if number else PACES[clause.split()[-1]][entry])
    return velocity


def test_the_words_say_the_velocity_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    heard = set()
    for _ in range(1500):
        velocity = sample_velocity(CONFIG, rng)
        text = describe(velocity, rng)
        np.testing.assert_array_equal(spoken(text), velocity, err_msg=text)
        assert len(text.encode()) < INSTRUCTION_BYTES
        heard.add(text)
    assert len(heard) > 600 and set(STAND_STILL) <= heard


def test_what_is_drawn_is_worth_following_and_within_reach() -> None:
    rng = np.random.default_rng(1)
    drawn = np.array([sample_velocity(CONFIG, rng) for _ in range(2000)])
    for entry, (low, high) in enumerate((CONFIG.forward, CONFIG.left, CONFIG.turn)):
        assert drawn[:, entry].min() == low and drawn[:, entry].max() == high
    assert np.abs(drawn[drawn != 0.0]).min() == 0.2  # a robot that only stands is off by more than the 0.15 allowed
    standing = (drawn == 0.0).all(axis=1).mean()
    assert 0.12 < standing < 0.18
    kinds = {tuple(row) for row in (drawn != 0.0).tolist()}
    assert len(kinds) == 7
    assert (np.abs(drawn) <= make().action_map.max_velocity).all()


def test_ranges_are_settings() -> None:
    rng = np.random.default_rng(2)
    only_turning = WalkConfig(forward=(0.0, 0.1), left=(0.0, 0.0), turn=(-0.3, -0.2), standing=0.0)
    drawn = np.array([sample_velocity(only_turning, rng) for _ in range(200)])
    assert set(map(tuple, drawn.tolist())) == {(0.0, 0.0, 0.0), (0.0, 0.0, -0.2), (0.0, 0.0, -0.3)}
    assert not any(sample_velocity(WalkConfig(standing=1.0), rng).any() for _ in range(50))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"turn": (0.5, -0.5)}, "lowest, highest"),
        ({"standing": 1.1}, "standing must be 0 to 1, got 1.1"),
        ({"slowest": 0.1}, "above max_error = 0.15"),
    ],
)
def test_configs_that_make_no_sense_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WalkConfig(**wrong)


def test_the_seed_chooses_command_and_words() -> None:
    env = make(settle_s=0.0)
    seen = [env.reset(seed=seed)[1] for seed in (0, 1, 2, 3, 4, 5, 0)]
    assert len({info["instruction"] for info in seen}) >= 5 and seen[0]["instruction"] == seen[-1]["instruction"]
    for info in seen:
        np.testing.assert_array_equal(spoken(info["instruction"]), info["privileged"]["wanted_velocity"])
        np.testing.assert_array_equal(info["privileged"]["velocity"], np.zeros(3))


# Measuring


@pytest.mark.parametrize("yaw", [0.0, 2.5, -3.1])
def test_velocity_is_that_of_the_heading_frame(yaw: float) -> None:
    env = begun([0.4, -0.2, 0.5], yaw)
    reward, terms = glide(env, env.task.wanted, 200, yaw)  # 2 rad: the heading passes pi
    np.testing.assert_allclose(env.privileged()["velocity"], [0.4, -0.2, 0.5], atol=2e-3)
    assert terms == {"velocity": 1.0, "turning": 1.0, "upright": 1.0, "smooth": 1.0} and reward == 1.0


def test_the_smoothing_by_hand() -> None:
    env = begun([0.5, 0.0, 0.0])
    glide(env, np.array([1.0, 0.0, 0.0]), 1)
    assert env.privileged()["velocity"][0] == pytest.approx(0.05)  # 0.02 s of 0.4 s
    glide(env, np.array([1.0, 0.0, 0.0]), 1)
    assert env.privileged()["velocity"][0] == pytest.approx(0.05 + 0.05 * 0.95)


def test_terms_by_hand() -> None:
    env = begun([0.4, 0.0, 0.0])
    _, terms = glide(env, np.array([0.0, 0.0, 0.9]), 400)
    assert terms["velocity"] == pytest.approx(0.1 ** (0.6**2), rel=1e-3)  # 0.3 beyond 0.1, margin 0.5
    assert terms["turning"] == pytest.approx(0.1, rel=1e-3)  # 0.8 beyond 0.1, margin 0.8
    env.robot.data.qvel[6] = -18.0
    assert glide(env, np.zeros(3), 1)[1]["smooth"] == pytest.approx(0.1)
    env.robot.data.qvel[6] = 8.9
    assert glide(env, np.zeros(3), 1)[1]["smooth"] == 1.0


# Success


def test_success_comes_after_six_seconds_of_following() -> None:
    env = begun([0.3, 0.0, -0.4])
    glide(env, env.task.wanted, 299)
    assert not env.task.success
    glide(env, env.task.wanted, 1, yaw=-0.4 * 5.98)
    assert env.task.success and not env.task.failed


@pytest.mark.parametrize(
    ("done", "success"),
    [
        ([0.3 + 0.14, 0.0, 0.0], True),
        ([0.3 + 0.16, 0.0, 0.0], False),
        ([0.3, 0.16, 0.0], False),
        ([0.3, 0.0, 0.14], True),
        ([0.3, 0.0, -0.16], False),
        ([0.0, 0.0, 0.0], False),
    ],
)
def test_how_far_off_is_too_far(done: list[float], success: bool) -> None:
    env = begun([0.3, 0.0, 0.0])
    glide(env, np.array(done), 400)
    assert env.task.success is success


def test_the_last_four_seconds_count_and_walking_to_and_fro_is_not_standing() -> None:
    env = begun([0.0, 0.0, 0.0])
    glide(env, np.array([0.5, 0.0, 0.0]), 100)  # two seconds are for starting
    glide(env, np.zeros(3), 200)
    assert env.task.success
    glide(env, np.array([0.5, 0.0, 0.0]), 100)
    assert not env.task.success
    glide(env, np.zeros(3), 240)  # forgotten again
    assert env.task.success
    for _ in range(4):
        for sign in (1.0, -1.0):
            glide(env, np.array([0.4 * sign, 0.0, 0.0]), 50)
    assert not env.task.success


def test_a_fall_is_no_success_even_when_the_robot_is_back_on_its_feet() -> None:
    env = begun([0.0, 0.0, 0.0])
    height = float(env.robot.data.qpos[2])
    env.robot.data.qpos[2] = 0.3
    glide(env, np.zeros(3), 1)
    env.robot.data.qpos[2] = height
    glide(env, np.zeros(3), 400)
    assert not env.task.success
    env.task.reset(env.robot.read(), env.world, np.random.default_rng(0))
    env.task.wanted = np.zeros(3)
    glide(env, np.zeros(3), 400)
    assert env.task.success


def test_a_standing_robot_succeeds_when_told_to_stand_and_only_then() -> None:
    env = make()
    env.reset(seed=0)
    for wanted in ([0.0, 0.0, 0.0], [0.2, 0.0, 0.0], [0.0, 0.0, -0.2]):
        env.reset(seed=0)
        env.task.wanted = np.array(wanted)
        rewards = [env.step(np.zeros(17))[1] for _ in range(320)]
        assert env.task.success is (not any(wanted))
        assert np.mean(rewards) > 0.95 or any(wanted)


# Expert and saved states


def test_the_expert_keeps_the_arms_at_home_and_tells_the_walker_what_was_asked() -> None:
    env = begun([0.4, -0.2, 0.5])
    asked = (env.robot.read(), env.world, 16)
    targets, velocity = env.task.expert(*asked), env.task.expert_velocity(*asked)
    np.testing.assert_array_equal(targets, np.tile(joints.HOME, (16, 1)))
    actions = env.action_map.encode(targets, velocity)
    assert actions.shape == (16, 17) and not actions[:, :14].any()
    np.testing.assert_allclose(actions[:, 14:], np.tile([0.8, -0.4, 0.5], (16, 1)))  # of 0.5, 0.5 and 1.0


def test_a_saved_task_goes_on_alike() -> None:
    env = begun([0.3, 0.1, 0.0])
    glide(env, np.array([0.3, 1.1, 0.0]), 150)
    saved = env.task.get_state()
    here = glide(env, np.array([0.3, 0.1, 0.0]), 170)
    then = env.task.get_state()
    env.task, env.robot.data.qpos[:2] = WalkTask(), saved["pose"][:2]
    env.task.set_state(saved)
    assert glide(env, np.array([0.3, 0.1, 0.0]), 170) == here
    for name, value in env.task.get_state().items():
        np.testing.assert_array_equal(value, then[name], err_msg=name)
    assert not env.task.success and saved["steps"] == 150  # what was wrong before it was saved is remembered
