"""The G1 with 29, 27 and 23 joints and with a neck: one action, one observation and one checkpoint for all of them."""

from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.env import NeonG1Env
from neon_sim.g1 import joints
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.robot import RobotCommand
from neon_sim.rollout import rollout
from neon_sim.sensors.camera import CameraConfig
from neon_sim.shipped import asset_path
from neon_sim.sim.domain import DomainRandomization
from neon_sim.sim.faults import ActuatorFault, AddedLatency, Payload, StuckJoint
from neon_sim.sim.joint_map import JointMap
from neon_sim.sim.model import (
    DROPPED_JOINTS,
    NECK_HOME,
    NECK_JOINTS,
    VARIANTS,
    build_model,
    build_spec,
    lacking_joints,
)
from neon_sim.sim.noise import SensorNoise
from neon_sim.sim.sim_robot import SimRobot
from neon_sim.vector_env import NeonG1VectorEnv

FAST: dict[str, Any] = {"sensors": ("proprio",), "physics_dt": 0.005, "task": "stand"}
SHORT = [variant for variant in VARIANTS if variant != "29dof"]
# Two of each that two variants lack, by hand from the hardware's table: waist roll and pitch, wrist pitch and yaw.
LACKING = {"29dof": [], "29dof_lock_waist": [13, 14], "23dof": [13, 14, 20, 21, 27, 28], "neck": [13, 14]}


def make(variant: str, **options: Any) -> NeonG1Env:
    return NeonG1Env(variant=variant, **{**FAST, **options})


def names_of(variant: str) -> list[str]:
    return [name for name in joints.JOINT_NAMES if name not in DROPPED_JOINTS[variant]]


def command(target: np.ndarray, velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> RobotCommand:
    """All joints are the caller's."""
    everything = np.ones(joints.NUM_JOINTS, dtype=bool)
    return RobotCommand(target, everything, joints.KP, joints.KD, np.array(velocity), joints.HOME_HEIGHT)


# By name


@pytest.mark.parametrize("variant", VARIANTS)
def test_joints_are_read_and_told_by_name(variant: str) -> None:
    robot = SimRobot(build_spec(variant), {}, physics_dt=0.005)
    robot.reset(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for name in names_of(variant):
        robot.data.joint(name).qpos[:], robot.data.joint(name).qvel[:] = rng.normal(size=(2, 1))
    state, target = robot.read(), joints.HOME + rng.uniform(-0.1, 0.1, joints.NUM_JOINTS)
    sent = robot.write(command(target)).joint_target
    for index, name in enumerate(joints.JOINT_NAMES):
        if index in LACKING[variant]:
            assert state.joint_pos[index] == state.joint_vel[index] == state.joint_torque[index] == sent[index] == 0.0
            continue
        joint, motor = robot.data.joint(name), robot.data.actuator(name.removesuffix("_joint"))
        assert state.joint_pos[index] == joint.qpos[0] and state.joint_vel[index] == joint.qvel[0]
        assert motor.ctrl[0] == sent[index] == target[index]
        gain = robot.model.actuator(name.removesuffix("_joint")).gainprm[0]
        assert gain == joints.KP[index]
    assert lacking_joints(variant).tolist() == robot.joint_map.lacking.tolist() == LACKING[variant]
    assert not joints.HOME[LACKING[variant]].any()  # where they are welded


def test_a_robot_that_does_not_come_first_is_refused() -> None:
    spec = build_spec("23dof")
    spec.delete(spec.actuator("left_knee"))
    with pytest.raises(ValueError, match=r"must come first in the model, in hardware order; got joints"):
        JointMap(build_model(spec))


def test_an_unknown_variant_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="Unknown robot variant '23dofs'. Did you mean '23dof'"):
        gymnasium.make("NeonG1-v0", variant="23dofs")


def test_the_neck_looks_where_its_servos_hold_it_and_faults_leave_them_alone() -> None:
    env = make("neck")
    env.reset(seed=0)
    env.world.apply_fault((ActuatorFault("right_wrist_yaw_joint", 0.5, 0.3), Payload("torso", 2.0)))
    for _ in range(25):
        env.step(np.zeros(17))
    angles = [env.robot.data.joint(name).qpos[0] for name in NECK_JOINTS]
    np.testing.assert_allclose(angles, NECK_HOME, atol=0.03)
    assert env.robot.model.actuator("right_wrist_yaw").gainprm[0] == 0.5 * joints.KP[-1]
    assert [env.robot.model.actuator(name.removesuffix("_joint")).gainprm[0] for name in NECK_JOINTS] == [4.0, 4.0]


# The env


def test_all_have_one_action_and_one_observation() -> None:
    envs = [make(variant, task="reach") for variant in VARIANTS]
    for env in envs[1:]:
        assert env.observation_space == envs[0].observation_space and env.action_space == envs[0].action_space
        assert env.action_map == envs[0].action_map == G1ActionSpace()
        obs, _ = env.reset(seed=0)
        assert env.observation_space.contains(obs)


@pytest.mark.parametrize("variant", SHORT)
def test_joints_that_are_not_there_read_zero_whatever_errs(variant: str) -> None:
    """Noise, encoders that are off, and latency: position, speed, torque and tracking error of the missing are 0."""
    for more in ({"randomization": DomainRandomization()}, {"noise": SensorNoise()}):
        env = make(variant, control_mode="upper_body", **more)
        obs, _ = env.reset(seed=3)
        env.world.apply_fault(AddedLatency(0.02, 0.02))
        for _ in range(4):
            by_joint = obs["proprio"][:116].reshape(4, 29)
            assert not by_joint[:, LACKING[variant]].any()
            assert by_joint[0].astype(bool).sum() == 29 - len(LACKING[variant])
            obs, *_ = env.step(np.full(20, 0.3))


@pytest.mark.parametrize("variant", SHORT)
def test_what_missing_joints_are_told_changes_nothing(variant: str) -> None:
    told, untold = (make(variant, control_mode="upper_body") for _ in range(2))
    entries = np.isin(told.action_map.joint_indices, LACKING[variant])
    index = np.flatnonzero(np.isin(told.action_map.names, DROPPED_JOINTS[variant]))
    assert len(index) == entries.sum() == len(LACKING[variant])
    told.reset(seed=1), untold.reset(seed=1)
    action = np.full(20, 0.1)
    loud = action.copy()
    loud[index] = 1.0
    for _ in range(20):
        one, other = told.step(loud), untold.step(action)
        np.testing.assert_array_equal(one[0]["proprio"], other[0]["proprio"])
        assert one[4]["safety"] == other[4]["safety"]


@pytest.mark.parametrize("variant", SHORT)
def test_a_fault_needs_its_joint(variant: str) -> None:
    env, missing = make(variant), DROPPED_JOINTS[variant][0]
    env.reset(seed=0)
    for fault in (StuckJoint(missing), ActuatorFault(missing)):
        with pytest.raises(ValueError, match=f"Unknown joint of this robot '{missing}'"):
            env.world.apply_fault(fault)
    env.world.apply_fault(StuckJoint("right_shoulder_roll_joint"))  # behind the gap in the waist
    held = env.robot.data.joint("right_shoulder_roll_joint").qpos[0]
    for _ in range(20):
        obs, *_ = env.step(np.full(17, 0.3))
    assert obs["proprio"][23] == pytest.approx(held, abs=0.02)  # hardware index 23


@pytest.mark.parametrize("variant", SHORT)
def test_a_saved_state_goes_on_to_the_bit(variant: str) -> None:
    one, other = (make(variant, noise=SensorNoise()) for _ in range(2))
    one.reset(seed=2)
    for _ in range(8):
        one.step(np.full(17, 0.2))
    other.set_state(one.get_state())
    for _ in range(8):
        np.testing.assert_array_equal(*(env.step(np.full(17, -0.2))[0]["proprio"] for env in (one, other)))


@pytest.mark.parametrize("variant", SHORT)
def test_many_are_each_the_one(variant: str) -> None:
    """Batched physics in all but one, which reads late, and steps itself."""
    options = {**FAST, "variant": variant, "control_mode": "whole_body"}
    envs, ones = NeonG1VectorEnv(3, threads=1, **options), [NeonG1Env(**options) for _ in range(3)]
    envs.reset(seed=0)
    for i, env in enumerate(ones):
        env.reset(seed=i)
    envs.single(2).world.apply_fault(AddedLatency(0.0, 0.02))
    ones[2].world.apply_fault(AddedLatency(0.0, 0.02))
    rng = np.random.default_rng(0)
    for _ in range(12):
        actions = rng.uniform(-0.3, 0.3, (3, 29)).astype(np.float32)
        obs = envs.step(actions)[0]
        for i, env in enumerate(ones):
            np.testing.assert_array_equal(env.step(actions[i])[0]["proprio"], obs["proprio"][i])
    alone, robot = ones[0].robot, envs.single(0).robot
    np.testing.assert_array_equal(robot.data.qpos, alone.data.qpos)
    np.testing.assert_array_equal(robot.data.ctrl, alone.data.ctrl)
    envs.close()


@pytest.mark.parametrize("variant", SHORT)
def test_it_stands_to_the_millimetre_and_walks(variant: str) -> None:
    """Nobody trained the walker on these: four seconds still, four at 0.3 m/s with the arms going about."""
    env = make(variant)
    env.reset(seed=0)
    action, start = np.zeros(17), np.array(env.world.position("pelvis"))
    for _ in range(200):
        env.step(action)
    assert np.linalg.norm(np.array(env.world.position("pelvis")) - start) < 0.01
    rng, start = np.random.default_rng(0), env.world.position("pelvis")[0]
    action[14] = 0.6  # of 0.5 m/s
    for step in range(200):
        if step % 50 == 0:
            action[:14] = rng.uniform(-0.3, 0.3, 14)
        *_, terminated, _, _ = env.step(action)
        assert not terminated
    assert 0.7 < env.world.position("pelvis")[0] - start < 1.5  # 1.2 m at full speed from the first step


def test_a_scene_of_the_users_own_takes_any_of_them(tmp_path: Any) -> None:
    path = tmp_path / "wall.xml"
    path.write_text('<mujoco><worldbody><geom type="box" size=".1 1 1" pos="3 0 1"/></worldbody></mujoco>')
    for variant in SHORT:
        env = make(variant, scene=path)
        assert mujoco.mj_name2id(env.robot.model, mujoco.mjtObj.mjOBJ_JOINT, DROPPED_JOINTS[variant][0]) == -1


# One checkpoint


@pytest.fixture(scope="module")
def policy() -> NeonPolicy:
    return NeonPolicy(NeonVLA.from_pretrained(asset_path("g1/demo_heads")))


@pytest.fixture(scope="module")
def bodies() -> dict[str, NeonG1Env]:
    options = {"task": "reach", "sensors": ("proprio", "camera"), "camera": CameraConfig(rate_hz=12.5)}
    return {variant: make(variant, **options) for variant in VARIANTS}


def test_equal_observations_move_shared_joints_alike(policy: NeonPolicy, bodies: dict[str, NeonG1Env]) -> None:
    """The demo heads look at one robot, and all four are sent where they say: each joint by its name."""
    first = [env.reset(seed=4)[0] for env in bodies.values()][0]
    policy.reset()
    policy.observe(first, 0.0)
    chunk = policy.act()[0]
    arms = [joints.JOINT_NAMES[index] for index in joints.GROUPS["arms"]]
    for action in chunk[:8]:
        told: dict[str, dict[str, float]] = {}
        for variant, env in bodies.items():
            env.step(action)
            shared = [name for name in arms if name in names_of(variant)]
            told[variant] = {n: float(env.robot.data.actuator(n.removesuffix("_joint")).ctrl[0]) for n in shared}
        counts = {variant: len(motors) for variant, motors in told.items()}
        assert counts == {"29dof": 14, "29dof_lock_waist": 14, "23dof": 10, "neck": 14}
        for motors in told.values():
            assert motors == {name: told["29dof"][name] for name in motors}
    moved = [abs(told["29dof"][name] - joints.HOME[joints.JOINT_INDEX[name]]) for name in arms]
    assert max(moved) > 0.1  # it was a real command


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_demo_heads_act_in_all_of_them(policy: NeonPolicy, bodies: dict[str, NeonG1Env], variant: str) -> None:
    """They were trained on 29 joints. Each episode brings the named palm nearer, and nobody falls."""
    env = bodies[variant]
    nearer = []
    for seed in (10_500_000, 10_500_001):
        env.reset(seed=seed)
        start = env.privileged()["distance"]
        episode = rollout(env, policy, seed=seed, keep=(), stop_on_success=True)
        assert not episode.terminated[-1]
        nearer.append(start - env.privileged()["distance"])
    assert min(nearer) > 0.05
