"""Faults in mid-episode, each by a number that a person can work out; `test_sim_robot.py` has the motor's own."""

from typing import Any

import mujoco
import numpy as np
import pytest

from neon_sim.env import NeonG1Env
from neon_sim.g1 import joints
from neon_sim.robot import RobotCommand
from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.lidar import LidarConfig
from neon_sim.sim.faults import (
    ActuatorFault,
    AddedLatency,
    Fault,
    LostSensor,
    LowFriction,
    Payload,
    StuckJoint,
    as_faults,
)
from neon_sim.sim.model import build_model, build_spec
from neon_sim.sim.sim_robot import SimRobot

PLAIN = build_model(build_spec(), 0.005)
ELBOW = joints.JOINT_INDEX["right_elbow_joint"]  # kp 50 N m/rad, at most 25 N m
ARMS = np.isin(np.arange(joints.NUM_JOINTS), joints.GROUPS["arms"])


def standing(sensors: dict[str, Any] | None = None, seed: int = 0) -> SimRobot:
    robot = SimRobot(build_spec(), sensors or {}, physics_dt=0.005)
    robot.reset(np.random.default_rng(seed))
    return robot


def go(robot: SimRobot, steps: int, elbow: float = 0.0) -> None:
    """Stand with the right elbow `elbow` rad from home."""
    target = joints.HOME.copy()
    target[ELBOW] += elbow
    for _ in range(steps):
        robot.write(RobotCommand(target, ARMS, joints.KP, joints.KD, np.zeros(3), joints.HOME_HEIGHT))
        robot.advance()
        robot.read()


def arrays_that_differ(a: mujoco.MjModel, b: mujoco.MjModel) -> set[str]:
    names = [name for name in dir(a) if isinstance(getattr(a, name, None), np.ndarray)]
    return {name for name in names if not np.array_equal(getattr(a, name), getattr(b, name))}


def floor_force(robot: SimRobot) -> float:
    """N with which the floor carries the robot."""
    mujoco.mj_forward(robot.model, robot.data)
    force, total = np.zeros(6), 0.0
    for contact in range(robot.data.ncon):
        mujoco.mj_contactForce(robot.model, robot.data, contact, force)
        total += force[0]
    return total


def test_a_stuck_joint_stays_where_it_is_and_its_motor_pulls_in_vain() -> None:
    robot = standing()
    before = robot.data.qpos[7 + ELBOW]
    robot.apply_fault(StuckJoint("right_elbow_joint"))
    go(robot, 100, elbow=-0.4)
    assert robot.data.qpos[7 + ELBOW] == pytest.approx(before, abs=0.008)
    asked = 50.0 * (joints.HOME[ELBOW] - 0.4 - robot.data.qpos[7 + ELBOW])  # and it stands still
    assert robot.read().joint_torque[ELBOW] == pytest.approx(asked, abs=0.3)
    robot.apply_fault(None)
    go(robot, 100, elbow=-0.4)
    assert robot.data.qpos[7 + ELBOW] == pytest.approx(before - 0.4, abs=0.03)


def test_a_stuck_joint_outlives_a_reset() -> None:
    robot = standing()
    robot.apply_fault(StuckJoint("right_elbow_joint", angle=0.5))
    robot.reset(np.random.default_rng(1))
    assert robot.data.qpos[7 + ELBOW] == pytest.approx(0.5, abs=0.008)
    assert robot.faults == (StuckJoint("right_elbow_joint", angle=0.5),)


def test_a_payload_weighs_what_it_says() -> None:
    robot = standing()
    go(robot, 100)
    assert floor_force(robot) == pytest.approx(33.341142 * 9.81, rel=0.01)
    robot.apply_fault((Payload("torso", 4.0), Payload("left_hand", 0.5)))
    assert robot.model.body_mass.sum() == pytest.approx(33.341142 + 4.5)
    assert robot.model.body("left_wrist_yaw_link").mass[0] == pytest.approx(0.254576 + 0.5)
    go(robot, 150)
    assert floor_force(robot) == pytest.approx(37.841142 * 9.81, rel=0.01)


def test_low_friction_is_what_the_contacts_use() -> None:
    robot = standing()
    robot.apply_fault(LowFriction(0.25))
    go(robot, 2)
    assert robot.data.ncon >= 4
    assert {round(mu, 9) for mu in robot.data.contact.friction[:, 0]} == {0.25}


def test_late_targets_reach_the_motors_two_periods_later() -> None:
    robot = standing()
    robot.apply_fault(AddedLatency(action_s=0.04))
    reached = []
    for _ in range(4):
        go(robot, 1, elbow=0.1)
        reached.append(robot.data.ctrl[ELBOW] - joints.HOME[ELBOW])
        assert robot.read().joint_target[ELBOW] == joints.HOME[ELBOW] + 0.1  # what was sent is known at once
    np.testing.assert_allclose(reached, [0.0, 0.0, 0.1, 0.1], atol=1e-12)


def test_late_readings_are_the_truth_of_before() -> None:
    robot = standing()
    robot.apply_fault(AddedLatency(action_s=0.0, sensing_s=0.04))
    truth, seen = [], []
    for step in range(10):
        go(robot, 1, elbow=0.05 * step)
        truth.append(robot.data.qpos[7:36].copy())
        state = robot.read()
        seen.append(state.joint_pos)
        assert state.time_s == robot.data.time
    np.testing.assert_array_equal(seen[2:], truth[:-2])
    robot.apply_fault(None)
    go(robot, 1)
    np.testing.assert_array_equal(robot.read().joint_pos, robot.data.qpos[7:36])


def test_a_lost_camera_is_black_and_the_lidar_goes_on() -> None:
    robot = standing({"camera": CameraConfig(width=32, height=32), "lidar": LidarConfig(num_points=64)})
    names = ("camera", "lidar")
    before = robot.sense(names)
    robot.apply_fault(LostSensor("camera"))
    lost = robot.sense(names)
    assert before["camera"].any() and not lost["camera"].any() and lost["camera"].dtype == np.uint8
    np.testing.assert_array_equal(lost["lidar"], before["lidar"])
    robot.apply_fault(None)
    np.testing.assert_array_equal(robot.sense(names)["camera"], before["camera"])
    with pytest.raises(ValueError, match="Unknown sensor 'camra'. Did you mean 'camera'"):
        robot.apply_fault(LostSensor("camra"))
    robot.close()


ALL: tuple[Fault, ...] = (
    ActuatorFault("left_elbow_joint", strength=0.7, bias=0.1),
    StuckJoint("right_elbow_joint"),
    Payload("torso", 2.0),
    LowFriction(0.4),
    AddedLatency(action_s=0.015, sensing_s=0.01),
)


def test_several_at_once_and_healing_is_exact() -> None:
    robot = standing()
    robot.apply_fault(ALL)
    assert {type(fault) for fault in robot.faults} == {type(fault) for fault in ALL}
    differing = arrays_that_differ(robot.model, PLAIN)
    assert {"body_mass", "geom_friction", "jnt_range", "actuator_gainprm"} <= differing
    go(robot, 5)
    robot.apply_fault((Payload("right_hand", 1.0),))  # in place of all the others
    robot.apply_fault(None)
    nominal = standing()
    assert arrays_that_differ(robot.model, nominal.model) == set()
    for one in (robot, nominal):
        one.reset(np.random.default_rng(7))
        go(one, 10)
    np.testing.assert_array_equal(robot.data.qpos, nominal.data.qpos)


def test_two_faults_of_one_motor_add_up() -> None:
    robot = standing()
    fault = ActuatorFault("right_elbow_joint", strength=0.5, bias=0.1)
    robot.apply_fault((fault, fault))
    index = robot.model.actuator("right_elbow").id
    assert robot.model.actuator_gainprm[index, 0] == pytest.approx(12.5)  # 50 / 4
    assert robot.model.actuator_biasprm[index, 0] == pytest.approx(2.5)  # 12.5 * 0.2


def test_a_saved_state_holds_every_fault() -> None:
    robot, other = standing(), standing(seed=3)
    robot.apply_fault(ALL)
    go(robot, 7, elbow=0.2)
    saved, then = robot.get_state(), robot.read()
    go(robot, 10)
    other.set_state(saved)
    for name, value in vars(then).items():
        np.testing.assert_array_equal(getattr(other.read(), name), value, err_msg=name)
    assert arrays_that_differ(other.model, robot.model) == set()
    go(other, 10)
    np.testing.assert_array_equal(other.data.qpos, robot.data.qpos)
    np.testing.assert_array_equal(other.read().joint_pos, robot.read().joint_pos)


def test_the_env_breaks_in_mid_episode_and_heals() -> None:
    env = NeonG1Env(task="stand", sensors=("proprio",), physics_dt=0.005)
    env.reset(seed=0)
    home = np.zeros(env.action_space.shape)
    assert env.world is not None
    for faults, lost in ((None, 0.0), ((ActuatorFault("right_elbow_joint", 1.0, -0.3), Payload()), -0.3), (None, 0.0)):
        env.world.apply_fault(faults)
        for _ in range(75):
            obs, *_ = env.step(home)
        assert obs["proprio"][ELBOW] - joints.HOME[ELBOW] == pytest.approx(lost, abs=0.06)  # gravity's sag besides


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (StuckJoint, {"joint": "left_kne_joint"}, "Did you mean 'left_knee_joint'"),
        (StuckJoint, {"joint": "left_knee_joint", "angle": 3.0}, r"angle must be -0.087267 to 2.8798, got 3.0"),
        (Payload, {"body": "torzo"}, "Did you mean 'torso'"),
        (Payload, {"mass": -1.0}, r"mass must be 0 to 30, got -1.0"),
        (LowFriction, {"friction": -0.1}, r"friction must be 0.01 to 2, got -0.1"),
        (AddedLatency, {"action_s": 0.5}, r"action_s must be 0 to 0.2, got 0.5"),
        (AddedLatency, {"sensing_s": np.nan}, "sensing_s must be .*, got nan"),
    ],
)
def test_faults_that_are_none_are_refused(kind: type, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**fields)


@pytest.mark.parametrize("wrong", ["weak", 3, (Payload(), "weak")])
def test_what_is_no_fault_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="A fault is one of ActuatorFault, StuckJoint"):
        as_faults(wrong)


@pytest.mark.parametrize("physics_dt", [0.002, 0.005])
def test_the_most_slippery_floor_does_not_break_the_physics(physics_dt: float) -> None:
    env = NeonG1Env(task="wave", sensors=("proprio",), physics_dt=physics_dt)
    for seed in range(3):
        env.reset(seed=seed)
        assert env.world is not None
        env.world.apply_fault(LowFriction(0.01))
        over, steps = False, 0
        while not over and steps < 100:
            _, _, over, _, info = env.step(np.zeros(env.action_space.shape))
            steps += 1
            assert not info["diverged"]
    env.close()
