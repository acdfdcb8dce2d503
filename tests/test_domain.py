"""Domain randomisation: what is drawn is in `info`, is true of the compiled model, and leaves no trace behind."""

from dataclasses import replace
from typing import Any

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neon_sim.env import NeonG1Env
from neon_sim.g1 import joints
from neon_sim.robot import RobotCommand
from neon_sim.sim.domain import DomainRandomization, draw_domain
from neon_sim.sim.faults import AddedLatency, Payload
from neon_sim.sim.model import SOLE_GROUP, build_model, build_spec
from neon_sim.sim.noise import SensorNoise
from neon_sim.sim.randomize import NOMINAL, UNSEEN
from neon_sim.sim.sim_robot import SimRobot

PLAIN = build_model(build_spec(), 0.005)
ZERO = (0.0, 0.0)
NOTHING = DomainRandomization(
    NOMINAL, ZERO, ZERO, ZERO, ZERO, ZERO, floor_time_constant_s=(0.02, 0.02), noise=None, noise_scale=(1.0, 1.0)
)
ALL_OWNED = np.ones(joints.NUM_JOINTS, dtype=bool)


def robot_of(config: DomainRandomization | None, seed: int = 0, settle_s: float = 0.0) -> SimRobot:
    robot = SimRobot(PLAIN, {}, physics_dt=0.005, settle_s=settle_s, randomization=config).twin()
    robot.reset(np.random.default_rng(seed))
    return robot


def hold(robot: SimRobot, steps: int) -> None:
    for _ in range(steps):
        robot.write(RobotCommand(joints.HOME, ALL_OWNED, joints.KP, joints.KD, np.zeros(3), joints.HOME_HEIGHT))
        robot.advance()
        robot.read()


def arrays_that_differ(a: mujoco.MjModel, b: mujoco.MjModel) -> set[str]:
    names = [name for name in dir(a) if isinstance(getattr(a, name, None), np.ndarray)]
    return {name for name in names if not np.array_equal(getattr(a, name), getattr(b, name))}


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_every_number_lies_in_its_range(seed: int) -> None:
    config = DomainRandomization(model=UNSEEN)
    for name, value in draw_domain(np.random.default_rng(seed), config).items():
        low, high = getattr(config.model, name, None) or getattr(config, name)
        assert ((low <= value) & (value <= high)).all(), name


def test_the_drawn_numbers_are_true_of_the_model() -> None:
    robot = robot_of(DomainRandomization(model=UNSEEN), seed=4)
    drawn, model = robot.randomized, robot.model
    soles = model.geom_group == SOLE_GROUP
    assert set(model.geom_friction[soles, 0]) == {drawn["friction"]}
    assert set(model.geom_solref[soles, 0]) == {drawn["floor_time_constant_s"]}
    torso, scale = model.body("torso_link").id, drawn["link_mass_scale"][15]  # the torso is the 16th link
    assert model.body_mass[torso] == pytest.approx(7.818 * scale + drawn["torso_payload"])
    strength = drawn["motor_strength"]
    np.testing.assert_allclose(model.actuator_gainprm[:, 0], joints.KP * drawn["kp_scale"] * strength)
    np.testing.assert_allclose(model.actuator_biasprm[:, 2], -joints.KD * drawn["kd_scale"] * strength)
    np.testing.assert_allclose(model.actuator_forcerange[:, 1], joints.EFFORT * strength)
    np.testing.assert_allclose(model.dof_armature[6:35], joints.ARMATURE * drawn["armature_scale"])


def test_a_biased_motor_pulls_towards_another_angle() -> None:
    robot = robot_of(replace(NOTHING, actuator_bias=(0.02, 0.02)))
    robot.data.qpos[7:36], robot.data.qvel[:] = joints.HOME, 0.0
    robot.write(RobotCommand(joints.HOME, ALL_OWNED, joints.KP, joints.KD, np.zeros(3), joints.HOME_HEIGHT))
    mujoco.mj_forward(robot.model, robot.data)
    np.testing.assert_allclose(robot.read().joint_torque, 0.02 * joints.KP, atol=1e-12)


def test_encoders_are_off_by_a_constant_and_the_truth_is_not() -> None:
    robot = robot_of(replace(NOTHING, encoder_offset=(-0.015, 0.015)))
    offset = robot.randomized["encoder_offset"]
    assert len(np.unique(offset)) == 29 and np.abs(offset).max() <= 0.015
    for _ in range(3):
        hold(robot, 1)
        np.testing.assert_allclose(robot.read().joint_pos - robot.data.qpos[7:36], offset, atol=1e-15)


def test_latency_is_drawn_and_a_fault_adds_to_it() -> None:
    robot = robot_of(replace(NOTHING, sensing_latency_s=(0.02, 0.02)))
    truth, seen = [], []
    for step in range(6):
        if step == 3:
            robot.apply_fault(AddedLatency(action_s=0.0, sensing_s=0.02))
        hold(robot, 1)
        truth.append(robot.data.qpos[7:36].copy())
        seen.append(robot.read().joint_pos)
    np.testing.assert_array_equal(seen[1:3], truth[0:2])
    np.testing.assert_array_equal(seen[3:6], truth[1:4])


def test_a_push_adds_its_speed_to_the_pelvis() -> None:
    speeds = {}
    for push in (0.0, 0.4):
        robot = robot_of(replace(NOTHING, push_speed=(push, push), push_interval_s=(0.1, 0.1)))
        hold(robot, 5)  # 0.1 s: the next period begins with the push
        robot.simulate()
        speeds[push] = robot.data.qvel[:2].copy()
    assert np.hypot(*(speeds[0.4] - speeds[0.0])) == pytest.approx(0.4, rel=0.25)  # 20 ms later


def test_noise_has_the_drawn_size() -> None:
    robot = robot_of(replace(NOTHING, noise=SensorNoise(joint_pos=0.01), noise_scale=(2.0, 2.0)))
    errors = []
    for _ in range(40):
        hold(robot, 1)
        errors.append(robot.read().joint_pos - robot.data.qpos[7:36])
    assert np.std(errors) == pytest.approx(0.02, rel=0.1)


def test_each_episode_begins_from_the_nominal_model() -> None:
    robot = robot_of(DomainRandomization(model=UNSEEN), seed=1)
    first, drawn = robot.twin(), robot.randomized  # a twin is nominal until its own reset
    assert arrays_that_differ(first.model, SimRobot(build_spec(), {}, 0.005).model) == set()
    for seed in (2, 3, 1):
        robot.apply_fault(Payload("left_hand", 1.0))
        robot.apply_fault(None)
        robot.reset(np.random.default_rng(seed))
    again = robot.randomized
    assert all(np.array_equal(again[name], value) for name, value in drawn.items())
    first.reset(np.random.default_rng(1))
    assert arrays_that_differ(first.model, robot.model) == set()
    hold(first, 10)
    hold(robot, 10)
    np.testing.assert_array_equal(first.data.qpos, robot.data.qpos)


def test_ranges_without_width_are_the_nominal_robot() -> None:
    nominal, drawn = robot_of(None), robot_of(NOTHING)
    assert nominal.randomized == {} and drawn.randomized["friction"] == 0.6
    assert arrays_that_differ(nominal.model, drawn.model) == set()


def test_the_env_reports_what_was_drawn_and_a_saved_state_brings_it_along() -> None:
    options: dict[str, Any] = {"task": "stand", "sensors": ("proprio",), "physics_dt": 0.005}
    env, other = (NeonG1Env(**options, randomization=DomainRandomization()) for _ in range(2))
    _, info = env.reset(seed=5)
    _, again = other.reset(seed=5)
    drawn = info["randomization"]
    assert set(drawn) == set(draw_domain(np.random.default_rng(0), DomainRandomization()))
    assert all(np.array_equal(again["randomization"][name], value) for name, value in drawn.items())
    other.reset(seed=6)
    assert other.step(np.zeros(17))[-1]["randomization"]["friction"] != drawn["friction"]
    for _ in range(5):
        env.step(np.zeros(17))
    saved = env.get_state()
    expected = [env.step(np.full(17, 0.2))[0]["proprio"] for _ in range(10)]
    fresh = NeonG1Env(**options, randomization=DomainRandomization())  # never reset
    for one in (other, fresh):
        one.set_state(saved)
        np.testing.assert_array_equal([one.step(np.full(17, 0.2))[0]["proprio"] for _ in range(10)], expected)
        assert one.step(np.zeros(17))[-1]["randomization"]["friction"] == drawn["friction"]


def test_off_is_the_default_and_says_so() -> None:
    env = NeonG1Env(task="stand", sensors=("proprio",), physics_dt=0.005)
    assert env.config.randomization is None and env.reset(seed=0)[1]["randomization"] == {}


@pytest.mark.parametrize(
    ("field", "value", "part"),
    [
        ("action_latency_s", (0.0, 0.5), "from 0 to 0.2, got (0.0, 0.5)"),
        ("push_speed", (-0.1, 0.2), "from 0 to 5, got (-0.1, 0.2)"),
        ("push_interval_s", (0.0, 1.0), "from 0.1 to 1000"),
        ("encoder_offset", (0.02, -0.02), "(lowest, highest)"),
        ("noise_scale", (0.0, np.nan), "got (0.0, nan)"),
    ],
)
def test_ranges_are_checked(field: str, value: tuple[float, float], part: str) -> None:
    with pytest.raises(ValueError) as caught:
        DomainRandomization(**{field: value})  # type: ignore[arg-type]
    assert field in str(caught.value) and part in str(caught.value)
