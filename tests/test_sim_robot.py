"""SimRobot: native PD with torques that a person can compute, faults, what a late command does, the sensors' clocks,
noise, objects, saved states."""

from dataclasses import replace
from typing import Any

import mujoco
import numpy as np
import pytest

from neon_sim.g1 import joints
from neon_sim.g1.geometry import gravity_in_body, quat_to_matrix
from neon_sim.robot import Robot, RobotCommand, RobotState, World
from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.lidar import LidarConfig
from neon_sim.sim.faults import ActuatorFault
from neon_sim.sim.model import build_spec
from neon_sim.sim.noise import SensorNoise
from neon_sim.sim.sim_robot import SimRobot
from neon_sim.walker import Walker

SHOULDER = joints.JOINT_INDEX["right_shoulder_pitch_joint"]  # kp 100 N m/rad, kd 2, at most 25 N m
ELBOW = joints.JOINT_INDEX["right_elbow_joint"]  # kp 50 N m/rad
ARMS_OWNED = np.isin(np.arange(joints.NUM_JOINTS), joints.GROUPS["arms"])
ALL_OWNED = np.ones(joints.NUM_JOINTS, dtype=bool)


def robot_with(sensors: dict[str, Any] | None = None, **options: Any) -> SimRobot:
    spec = build_spec()
    spec.worldbody.add_body(name="ball", mocap=True, pos=[1.0, 2.0, 3.0]).add_geom(
        type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.04, 0, 0], contype=0, conaffinity=0
    )
    return SimRobot(spec, sensors or {}, **{"physics_dt": 0.005, **options})


def command(**changes: Any) -> RobotCommand:
    home = RobotCommand(joints.HOME, ARMS_OWNED, joints.KP, joints.KD, np.zeros(3), joints.HOME_HEIGHT)
    return replace(home, **changes)


def torque_at_rest(robot: SimRobot, offset: float, speed: float = 0.0, joint: int = SHOULDER) -> float:
    """N m of one motor whose target is `offset` rad ahead of its joint, which turns at `speed` rad/s."""
    target = joints.HOME.copy()
    target[joint] += offset
    robot.data.qpos[7:36], robot.data.qvel[:] = joints.HOME, 0.0
    robot.data.qvel[6 + joint] = speed
    robot.write(command(joint_target=target, owned_mask=ALL_OWNED))
    mujoco.mj_forward(robot.model, robot.data)
    state = robot.read()
    assert state.joint_pos[joint] == joints.HOME[joint]  # the encoder tells the truth, fault or no fault
    return float(state.joint_torque[joint])


def walk_on(robot: SimRobot, steps: int, **changes: Any) -> None:
    for _ in range(steps):
        robot.write(command(**changes))
        robot.advance()
        robot.read()


# Motors


def test_torque_is_the_pd_law_of_hand_computation() -> None:
    robot = robot_with()
    robot.reset(np.random.default_rng(0))
    assert torque_at_rest(robot, 0.05) == pytest.approx(5.0)  # 100 * 0.05
    assert torque_at_rest(robot, 0.05, speed=1.5) == pytest.approx(2.0)  # 100 * 0.05 - 2 * 1.5
    assert torque_at_rest(robot, 0.4) == pytest.approx(25.0)  # 40 asked, 25 there is
    assert torque_at_rest(robot, -0.4) == pytest.approx(-25.0)


def test_a_fault_weakens_and_biases_as_its_docstring_says() -> None:
    robot = robot_with()
    robot.reset(np.random.default_rng(0))
    robot.apply_fault(ActuatorFault("right_shoulder_pitch_joint", strength=0.6, bias=0.1))
    assert torque_at_rest(robot, 0.05) == pytest.approx(9.0)  # 0.6 * 100 * (0.05 + 0.1)
    assert torque_at_rest(robot, 0.05, speed=1.5) == pytest.approx(7.2)  # 0.6 * (15 - 3)
    assert torque_at_rest(robot, -0.1) == pytest.approx(0.0, abs=1e-12)
    assert torque_at_rest(robot, 0.4) == pytest.approx(15.0)  # 0.6 * 25
    assert torque_at_rest(robot, -0.6) == pytest.approx(-15.0)
    assert torque_at_rest(robot, 0.05, joint=ELBOW) == pytest.approx(2.5)  # the others are well
    assert torque_at_rest(robot, 0.05, joint=SHOULDER - 7) == pytest.approx(5.0)


def test_a_fault_outlives_resets_and_none_heals() -> None:
    robot = robot_with()
    robot.apply_fault(ActuatorFault(strength=0.5, bias=0.0))
    for _ in range(2):
        robot.reset(np.random.default_rng(0))
        assert torque_at_rest(robot, 0.05) == pytest.approx(2.5)
    robot.apply_fault(ActuatorFault("right_elbow_joint", strength=0.2, bias=0.0))  # one at a time: the shoulder is well
    assert torque_at_rest(robot, 0.05) == pytest.approx(5.0)
    assert torque_at_rest(robot, 0.05, joint=ELBOW) == pytest.approx(0.5)
    robot.apply_fault(None)
    assert torque_at_rest(robot, 0.05, joint=ELBOW) == pytest.approx(2.5)
    robot.reset(np.random.default_rng(0))
    assert torque_at_rest(robot, 0.05, joint=ELBOW) == pytest.approx(2.5)


def test_a_fault_holds_under_other_gains() -> None:
    robot = robot_with()
    robot.reset(np.random.default_rng(0))
    robot.apply_fault(ActuatorFault(strength=0.5, bias=0.02))
    robot.data.qpos[7:36], robot.data.qvel[:] = joints.HOME, 0.0
    robot.write(command(owned_mask=ALL_OWNED, kp=joints.KP * 2.0, kd=joints.KD.copy()))
    mujoco.mj_forward(robot.model, robot.data)
    assert robot.read().joint_torque[SHOULDER] == pytest.approx(2.0)  # 0.5 * 200 * 0.02


def test_a_faulty_arm_comes_to_rest_elsewhere() -> None:
    robot = robot_with()
    healthy = {}
    for fault in (None, ActuatorFault(strength=1.0, bias=0.3)):
        robot.apply_fault(fault)
        robot.reset(np.random.default_rng(0))
        walk_on(robot, 100)
        healthy[fault] = robot.read().joint_pos[SHOULDER]
    moved = healthy[ActuatorFault(strength=1.0, bias=0.3)] - healthy[None]
    assert moved == pytest.approx(0.3, abs=0.03)  # gravity's share changes a little with the angle
    assert robot.read().joint_target[SHOULDER] == joints.HOME[SHOULDER]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"joint": "right_sholder_pitch_joint"}, "Did you mean 'right_shoulder_pitch_joint'"),
        ({"strength": 1.5}, "strength must be 0 to 1"),
        ({"strength": -0.1}, "strength must be 0 to 1"),
        ({"bias": np.nan}, r"bias must be .*, got nan"),
    ],
)
def test_faults_that_are_none_are_refused(fault: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ActuatorFault(**fault)


def test_gains_are_followed_and_the_callers_arrays_stay_his_own() -> None:
    robot = robot_with()
    robot.reset(np.random.default_rng(0))
    kp, kd = joints.KP * 0.5, joints.KD * 3.0
    sent = robot.write(command(kp=kp, kd=kd))
    np.testing.assert_array_equal(sent.kp, kp)
    np.testing.assert_array_equal(robot.model.actuator_gainprm[:, 0], kp)
    np.testing.assert_array_equal(robot.model.actuator_biasprm[:, 2], -kd)
    kp[:] = 1.0  # written to afterwards: what was commanded was the half
    np.testing.assert_array_equal(robot.model.actuator_gainprm[:, 0], joints.KP * 0.5)
    robot.write(command(kp=kp, kd=kd))
    np.testing.assert_array_equal(robot.model.actuator_gainprm[:, 0], np.ones(29))
    robot.write(command())
    np.testing.assert_array_equal(robot.model.actuator_gainprm[:, 0], joints.KP)
    np.testing.assert_array_equal(robot.model.actuator_biasprm[:, 2], -joints.KD)


# The control loop


def test_it_is_a_robot_and_a_world() -> None:
    robot = robot_with()
    assert isinstance(robot, Robot) and isinstance(robot, World)


@pytest.mark.parametrize(("physics_dt", "substeps"), [(0.002, 10), (0.005, 4), (0.02, 1)])
def test_one_control_period_is_a_whole_number_of_physics_steps(physics_dt: float, substeps: int) -> None:
    robot = robot_with(physics_dt=physics_dt)
    robot.reset(np.random.default_rng(0))
    assert robot.substeps == substeps and robot.data.time == 0.0
    walk_on(robot, 3)
    assert robot.data.time == pytest.approx(0.06)


@pytest.mark.parametrize("physics_dt", [0.003, 0.04, 0.0, -0.002, np.nan])
def test_other_physics_steps_are_refused(physics_dt: float) -> None:
    with pytest.raises(ValueError, match="must divide 0.02 s"):
        robot_with(physics_dt=physics_dt)


def test_a_compiled_scene_and_its_twin_are_the_same_robot() -> None:
    robot = robot_with(noise=SensorNoise())
    twin, compiled = robot.twin(), SimRobot(robot.model, {}, physics_dt=0.005, noise=SensorNoise())
    assert twin.model is not robot.model and compiled.model is robot.model
    states = [one.reset(np.random.default_rng(2)) for one in (robot, twin)]
    np.testing.assert_array_equal(states[0].joint_pos, states[1].joint_pos)
    with pytest.raises(ValueError, match="compiled model steps 0.005 s, physics_dt is 0.002"):
        SimRobot(robot.model, {}, physics_dt=0.002)


def test_physics_alone_is_the_half_of_advance_without_the_walker() -> None:
    robot, by_hand = robot_with(), robot_with()
    for one in (robot, by_hand):
        one.reset(np.random.default_rng(0))
    walk_on(robot, 3)
    for _ in range(3):
        targets = by_hand.walker.step(
            by_hand.read(), np.array([0.0, 0.0, 0.0, joints.HOME_HEIGHT]), ARMS_OWNED, joints.HOME
        )
        by_hand.send(targets)
        by_hand.simulate(poses=False)
    np.testing.assert_array_equal(by_hand.data.qpos, robot.data.qpos)
    np.testing.assert_array_equal(by_hand.read().joint_target, robot.read().joint_target)


def test_reset_stands_near_home_and_depends_on_the_seed_alone() -> None:
    robot = robot_with()
    first = robot.reset(np.random.default_rng(4))
    walk_on(robot, 20)
    again, other = robot.reset(np.random.default_rng(4)), robot.reset(np.random.default_rng(5))
    np.testing.assert_array_equal(first.joint_pos, again.joint_pos)
    np.testing.assert_array_equal(first.joint_vel, again.joint_vel)
    assert not np.array_equal(first.joint_pos, other.joint_pos)
    assert np.abs(first.joint_pos - joints.HOME)[joints.GROUPS["arms"]].max() < 0.12  # arms sag a little
    assert first.gravity_b[2] < -0.99 and 0.7 < robot.object_pose("pelvis")[0][2] < 0.8


def test_the_walker_fills_the_joints_that_the_command_does_not_own() -> None:
    robot = robot_with()
    robot.reset(np.random.default_rng(0))
    wanted = np.full(joints.NUM_JOINTS, 0.1)
    sent = robot.write(command(joint_target=wanted))
    assert (sent.joint_target[ARMS_OWNED] == 0.1).all() and not (sent.joint_target[~ARMS_OWNED] == 0.1).any()
    np.testing.assert_array_equal(robot.data.ctrl, sent.joint_target)
    np.testing.assert_array_equal(robot.read().joint_target, sent.joint_target)


def test_a_state_is_the_readers_own() -> None:
    robot = robot_with()
    robot.reset(np.random.default_rng(0))
    state = robot.read()
    kept = {name: np.copy(value) for name, value in vars(state).items()}
    walk_on(robot, 5)
    for name, value in kept.items():
        np.testing.assert_array_equal(getattr(state, name), value)
    state.joint_pos[:] = 9.0
    assert (robot.data.qpos[7:36] < 3.0).all()


def test_the_imu_is_the_pelvis() -> None:
    robot = robot_with()
    robot.reset(np.random.default_rng(0))
    state = robot.read()
    np.testing.assert_array_equal(state.quat_wxyz, robot.data.body("pelvis").xquat)
    np.testing.assert_allclose(state.gravity_b, -quat_to_matrix(state.quat_wxyz)[2], atol=1e-12)
    np.testing.assert_array_equal(state.gravity_b, gravity_in_body(state.quat_wxyz[None])[0])


# A late command


class Listener(Walker):
    """Stands, and keeps what it was told and shown."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[np.ndarray] = []
        self.masks: list[np.ndarray] = []
        self.targets: list[np.ndarray] = []
        self.states: list[RobotState] = []

    def step(
        self, state: RobotState, command: np.ndarray, owned_mask: np.ndarray, external_targets: np.ndarray, **more: Any
    ) -> np.ndarray:
        self.commands.append(command.copy())
        self.masks.append(owned_mask.copy())
        self.targets.append(external_targets.copy())
        self.states.append(state)
        return super().step(state, command * (0.0, 0.0, 0.0, 1.0), owned_mask, external_targets, **more)


def listened_to(**options: Any) -> tuple[SimRobot, Listener]:
    """A robot after its reset, whose walker has heard nothing yet."""
    robot = robot_with(**options)
    robot.reset(np.random.default_rng(0))
    robot.walker = listener = Listener()
    return robot, listener


FORWARD = np.array([0.3, -0.1, 0.2])


def test_a_command_that_is_not_renewed_moves_the_robot_for_one_second() -> None:
    robot, listener = listened_to()
    wanted, mask = joints.HOME + 0.1, ARMS_OWNED.copy()
    asked = command(joint_target=wanted, owned_mask=mask, velocity=FORWARD.copy(), height=0.75)
    robot.write(asked)
    wanted[:], mask[:], asked.velocity[:] = 9.0, False, 9.0  # the caller's arrays are his own again
    for _ in range(60):
        robot.advance()
    told = np.array(listener.commands)
    assert told.shape == (60, 4)  # one step of the walker for each control period
    np.testing.assert_array_equal(told[:50, :3], np.tile(FORWARD, (50, 1)))
    np.testing.assert_array_equal(told[50:, :3], np.zeros((10, 3)))
    np.testing.assert_array_equal(told[:, 3], np.full(60, 0.75))
    np.testing.assert_array_equal(listener.targets, np.tile(joints.HOME + 0.1, (60, 1)))
    np.testing.assert_array_equal(listener.masks, np.tile(ARMS_OWNED, (60, 1)))
    np.testing.assert_array_equal(robot.read().joint_target, robot.data.ctrl)
    robot.write(command(velocity=FORWARD))
    robot.advance()
    robot.advance()
    np.testing.assert_array_equal(np.array(listener.commands)[60:, :3], [FORWARD, FORWARD])  # and on it goes


def test_the_walker_looks_anew_while_it_goes_on() -> None:
    robot, listener = listened_to()
    robot.write(command(joint_target=joints.HOME + 0.2))
    for _ in range(5):
        robot.advance()
    shoulder = [state.joint_pos[SHOULDER] for state in listener.states]
    assert (np.diff(shoulder) > 1e-4).all()
    np.testing.assert_allclose([state.time_s for state in listener.states], [0.0, 0.02, 0.04, 0.06, 0.08], atol=1e-9)


def test_with_a_write_in_every_period_the_walker_steps_once_in_each() -> None:
    robot, listener = listened_to()
    walk_on(robot, 70, velocity=FORWARD)
    np.testing.assert_array_equal(np.array(listener.commands)[:, :3], np.tile(FORWARD, (70, 1)))


def test_reset_forgets_the_command() -> None:
    robot, listener = listened_to(settle_s=0.0)
    robot.write(command(velocity=FORWARD))
    robot.advance()
    robot.reset(np.random.default_rng(1))
    robot.advance()
    robot.advance()
    assert len(listener.commands) == 1


def test_a_saved_state_knows_how_old_the_command_is() -> None:
    (robot, _), (other, listener) = listened_to(), listened_to()
    robot.write(command(velocity=FORWARD))
    for _ in range(45):
        robot.advance()
    other.set_state(robot.get_state())
    for _ in range(10):
        robot.advance()
        other.advance()
    walking = np.array(listener.commands)[:, 0] != 0.0
    assert walking.tolist() == [True] * 5 + [False] * 5
    np.testing.assert_array_equal(other.read().joint_pos, robot.read().joint_pos)


# Noise


def test_noise_is_on_what_is_read_and_what_the_walker_sees_but_not_on_the_truth() -> None:
    robot, listener = listened_to(noise=SensorNoise(joint_pos=0.02))
    for _ in range(20):
        robot.write(command())
        robot.advance()
        state = robot.read()
    error = state.joint_pos - robot.data.qpos[7:36]
    assert 0.01 < error.std() < 0.03
    np.testing.assert_array_equal(robot.read().joint_pos, state.joint_pos)  # one instant has one reading
    assert not np.array_equal(state.quat_wxyz, robot.object_pose("pelvis")[1])
    robot.write(command())
    np.testing.assert_array_equal(listener.states[-1].joint_pos, state.joint_pos)
    robot.advance()
    changed = robot.read().joint_pos - robot.data.qpos[7:36] - error
    assert np.abs(changed).min() > 0.0  # the next instant has another


def test_noise_depends_on_the_seed_alone() -> None:
    robot = robot_with(noise=SensorNoise())
    first = robot.reset(np.random.default_rng(4))
    walk_on(robot, 3)
    again, other = robot.reset(np.random.default_rng(4)), robot.reset(np.random.default_rng(5))
    np.testing.assert_array_equal(first.joint_vel, again.joint_vel)
    np.testing.assert_array_equal(first.gyro, again.gyro)
    assert not np.array_equal(first.gyro, other.gyro)


def test_without_noise_nothing_is_drawn_for_it() -> None:
    rng, plain = np.random.default_rng(4), np.random.default_rng(4)
    robot = robot_with(settle_s=0.0)
    state = robot.reset(rng)
    np.testing.assert_array_equal(state.joint_pos, joints.HOME + plain.uniform(-0.02, 0.02, 29))
    assert rng.bit_generator.state == plain.bit_generator.state
    np.testing.assert_array_equal(state.joint_pos, robot.data.qpos[7:36])


def test_a_saved_state_holds_the_noise() -> None:
    robot, other = robot_with(noise=SensorNoise()), robot_with(noise=SensorNoise())
    robot.reset(np.random.default_rng(0))
    walk_on(robot, 5)
    saved, then = robot.get_state(), robot.read()
    walk_on(robot, 5)
    expected = robot.read()
    other.set_state(saved)
    for name, value in vars(then).items():
        np.testing.assert_array_equal(getattr(other.read(), name), value, err_msg=name)
    walk_on(other, 5)
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(other.read(), name), value, err_msg=name)
    for one, theirs in ((robot_with(), saved), (robot, robot_with().get_state())):
        with pytest.raises(ValueError, match="both have sensor noise, or neither"):
            one.set_state(theirs)


# Objects


def test_objects_are_where_mujoco_has_them() -> None:
    robot = robot_with()
    robot.reset(np.random.default_rng(0))
    walk_on(robot, 3)
    for name in ("pelvis", "ball"):
        pos, quat = robot.object_pose(name)
        np.testing.assert_array_equal(pos, robot.data.body(name).xpos)
        np.testing.assert_array_equal(quat, robot.data.body(name).xquat)
    pos, quat = robot.object_pose("left_palm")
    np.testing.assert_array_equal(pos, robot.data.site("left_palm").xpos)
    np.testing.assert_allclose(quat_to_matrix(quat).ravel(), robot.data.site("left_palm").xmat, atol=1e-12)
    assert robot.position("left_palm") == tuple(pos.tolist())
    before = pos.copy()
    walk_on(robot, 3)
    np.testing.assert_array_equal(pos, before)  # a copy
    assert robot.position("left_palm") != tuple(before.tolist())  # and the next one is new


def test_a_ball_is_placed_and_only_a_ball() -> None:
    robot = robot_with()
    robot.reset(np.random.default_rng(0))
    robot.place_object("ball", np.array([0.3, 0.2, 1.0]), np.array([0.0, 1.0, 0.0, 0.0]))
    assert robot.position("ball") == (0.3, 0.2, 1.0)  # at once, before any step
    np.testing.assert_array_equal(robot.object_pose("ball")[1], [0, 1, 0, 0])
    with pytest.raises(ValueError, match="'pelvis' is neither a mocap body"):
        robot.place_object("pelvis", np.zeros(3))


def test_a_free_body_is_placed_at_rest_and_falls_from_there() -> None:
    spec = build_spec()
    box = spec.worldbody.add_body(name="box", pos=[1.0, 0.0, 0.1])
    box.add_freejoint()
    box.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.1, 0.1, 0.1], mass=1.0)
    robot = SimRobot(spec, {})
    robot.reset(np.random.default_rng(0))
    robot.data.qvel[-6:] = 1.0
    robot.place_object("box", np.array([1.0, 0.5, 1.1]), np.array([0.0, 0.0, 0.0, 1.0]))
    pos_w, quat_wxyz = robot.object_pose("box")
    np.testing.assert_allclose(pos_w, [1.0, 0.5, 1.1])
    np.testing.assert_allclose(quat_wxyz, [0.0, 0.0, 0.0, 1.0])
    assert not robot.data.qvel[-6:].any()
    robot.advance()
    # Semi-implicit Euler over n steps of h falls g h^2 n (n + 1) / 2.
    steps, h = robot.substeps, robot.model.opt.timestep
    assert 1.1 - robot.position("box")[2] == pytest.approx(9.81 * h * h * steps * (steps + 1) / 2, rel=1e-6)


@pytest.mark.parametrize("ask", ["object_pose", "position"])
def test_an_unknown_object_names_the_nearest(ask: str) -> None:
    with pytest.raises(ValueError, match="Unknown object 'pelvi'. Did you mean 'pelvis'"):
        getattr(robot_with(), ask)("pelvi")


# Sensors


def test_frames_come_at_the_sensors_rates_and_repeat_in_between() -> None:
    robot = robot_with({"camera": CameraConfig(width=48, height=48), "lidar": LidarConfig(num_points=64)})
    robot.reset(np.random.default_rng(0))
    frames: dict[str, list[bytes]] = {"camera": [], "lidar": []}
    for step in range(51):  # one second
        robot.place_object("ball", robot.object_pose("torso_link")[0] + [0.4, 0.01 * step - 0.25, 0.2])
        for name, frame in robot.sense(("camera", "lidar")).items():
            frames[name].append(frame.tobytes())
        walk_on(robot, 1)
    new = {name: [i for i in range(1, 51) if seen[i] != seen[i - 1]] for name, seen in frames.items()}
    assert 29 <= len(new["camera"]) <= 30 and set(np.diff(new["camera"])) == {1, 2}  # 30 Hz on a 50 Hz clock
    assert len(new["lidar"]) in (9, 10) and set(np.diff(new["lidar"])) == {5}  # 10 Hz
    robot.close()


def test_a_frame_is_the_readers_own_and_reset_takes_a_new_one() -> None:
    robot = robot_with({"camera": CameraConfig(width=16, height=16)})
    robot.reset(np.random.default_rng(0))
    first = robot.sense(("camera",))["camera"]
    kept = first.copy()
    first[:] = 7
    np.testing.assert_array_equal(robot.sense(("camera",))["camera"], kept)
    robot.place_object("ball", robot.object_pose("torso_link")[0] + [0.3, 0.0, 0.3])
    np.testing.assert_array_equal(robot.sense(("camera",))["camera"], kept)  # not due yet
    robot.reset(np.random.default_rng(1))
    robot.place_object("ball", robot.object_pose("torso_link")[0] + [0.3, 0.0, 0.3])
    assert not np.array_equal(robot.sense(("camera",))["camera"], kept)
    robot.close()


def test_an_unknown_sensor_names_the_nearest() -> None:
    robot = robot_with({"lidar": LidarConfig(num_points=8)})
    robot.reset(np.random.default_rng(0))
    for ask in (lambda: robot.sense(("lider",)), lambda: robot.sensor("lider")):
        with pytest.raises(ValueError, match="Unknown sensor 'lider'. Did you mean 'lidar'"):
            ask()
    assert robot.sensor("lidar").rate_hz == 10.0


# Saved states


def test_a_saved_state_holds_fault_gains_and_targets() -> None:
    robot, other = robot_with(), robot_with()
    robot.apply_fault(ActuatorFault(strength=0.5, bias=0.1))
    robot.reset(np.random.default_rng(0))
    gains = {"kp": joints.KP * 0.8, "kd": joints.KD * 1.1}
    walk_on(robot, 13, **gains)
    saved, then = robot.get_state(), robot.read()
    walk_on(robot, 20, **gains)
    expected = robot.read()
    other.set_state(saved)
    for name, value in vars(then).items():
        np.testing.assert_array_equal(getattr(other.read(), name), value, err_msg=name)
    np.testing.assert_array_equal(other.model.actuator_biasprm, robot.model.actuator_biasprm)
    np.testing.assert_array_equal(other.model.actuator_forcerange, robot.model.actuator_forcerange)
    walk_on(other, 20, **gains)
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(other.read(), name), value, err_msg=name)


@pytest.mark.parametrize("settle_s", [0.4, 0.02])
def test_physics_that_breaks_while_it_settles_begins_where_the_robot_was_put(settle_s: float) -> None:
    robot, sound = (robot_with(settle_s=settle_s) for _ in range(2))
    robot.model.dof_damping[:] = -1e4  # every motion feeds itself
    robot.reset(np.random.default_rng(3))
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(robot.data.qpos[:7], [0.0, 0.0, joints.HOME_HEIGHT, 1.0, 0.0, 0.0, 0.0])
    put = joints.HOME + rng.uniform(-0.02, 0.02, joints.NUM_JOINTS)
    np.testing.assert_array_equal(robot.read().joint_pos, put)
    assert robot.data.time == 0.0 and not any(warning.number for warning in robot.data.warning)
    sound.reset(np.random.default_rng(3))
    assert not np.array_equal(sound.read().joint_pos, put)  # it has settled
