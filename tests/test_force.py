"""Force and torque: weights that a person can add up, and the frame they are told in."""

import mujoco
import numpy as np
import pytest

from neon_sim.g1 import joints
from neon_sim.sensors.force import LINKS, ForceConfig
from neon_sim.sensors.sensor import Sensor, SensorConfig
from neon_sim.sim.model import build_model, build_spec
from neon_sim.sim.sim_robot import SimRobot

GRAVITY = 9.81


@pytest.fixture(scope="module")
def robot() -> SimRobot:
    robot = SimRobot(build_spec(), {"force": ForceConfig()}, physics_dt=0.005, settle_s=1.5)
    robot.reset(np.random.default_rng(0))
    return robot


def test_the_feet_bear_the_robot_and_a_hand_hangs_on_its_wrist(robot: SimRobot) -> None:
    wrench = robot.sense(("force",))["force"].reshape(4, 2, 3)
    model, data = robot.model, robot.data
    to_world = data.xmat[[model.body(name).id for name in LINKS]].reshape(4, 3, 3)
    force_w = np.einsum("nij,nj->ni", to_world, wrench[:, 0])
    masses = np.array([model.body(name).mass[0] for name in LINKS])
    borne = model.body_mass.sum() - masses[2:].sum()  # all but the feet themselves
    assert force_w[2:, 2].sum() == pytest.approx(borne * GRAVITY, rel=0.05)
    assert (force_w[2:, 2] > 50.0).all()
    assert force_w[:2, 2] == pytest.approx(-masses[:2] * GRAVITY, rel=0.15)


def test_a_hand_held_out_reads_its_weight_and_its_lever_to_the_digit() -> None:
    model = build_model(build_spec())
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
    data = mujoco.MjData(model)
    data.qpos[2] = 2.0
    data.qpos[7:36] = joints.HOME
    mujoco.mj_forward(model, data)
    # Inverse dynamics at rest: every link is held where it is, as if the robot hung from its pelvis.
    data.qacc[:] = 0.0
    sensor = ForceConfig().build(model)
    force, torque = sensor.capture(data, 0.0).reshape(4, 2, 3)[0].astype(float)
    body = model.body("left_wrist_yaw_link").id
    rotation = data.xmat[body].reshape(3, 3)
    weight = rotation.T @ [0.0, 0.0, -GRAVITY * model.body_mass[body]]
    assert force == pytest.approx(weight, abs=1e-4)
    assert torque == pytest.approx(np.cross(model.body_ipos[body], weight), abs=1e-5)


def test_it_disturbs_nothing(robot: SimRobot) -> None:
    saved = robot.get_state()
    robot.advance()
    quiet = robot.get_state()["physics"]
    robot.set_state(saved)
    robot.sensor("force").capture(robot.data, robot.data.time)
    robot.advance()
    assert np.array_equal(robot.get_state()["physics"], quiet)


def test_noise_has_its_spread_on_force_and_torque(robot: SimRobot) -> None:
    config = ForceConfig(force_noise=3.0, torque_noise=0.2)
    sensor = config.build(robot.model)
    assert isinstance(config, SensorConfig) and isinstance(sensor, Sensor)
    sensor.reset(np.random.default_rng(0))
    frames = np.array([sensor.capture(robot.data, 0.0) for _ in range(300)]).reshape(300, 4, 2, 3)
    spread = frames.std(axis=0)
    assert spread[:, 0] == pytest.approx(3.0, rel=0.2) and spread[:, 1] == pytest.approx(0.2, rel=0.2)
    assert config.space().contains(frames[0].ravel())


def test_a_model_without_the_links_is_refused() -> None:
    empty = mujoco.MjModel.from_xml_string("<mujoco><worldbody><body name='left_wrist'/></worldbody></mujoco>")
    with pytest.raises(ValueError, match="Unknown body 'left_wrist_yaw_link'. Did you mean 'left_wrist'"):
        ForceConfig().build(empty)
