"""UnitreeRobot and NeonG1Real-v0 against the simulated robot, over true DDS, in lock-step: the same bits every time."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from bridge_process import PATIENT_S, BridgeProcess, bridge_process, wait_until

import neon_sim  # noqa: F401  (registers NeonG1Real-v0)
from neon_sim.env import NeonG1Config, NeonG1Env
from neon_sim.g1 import joints
from neon_sim.g1.self_distance import self_distances
from neon_sim.real.control_config import ControlConfig
from neon_sim.real.env import NeonG1RealEnv, settings
from neon_sim.real.errors import NotArmedError, VectorWrapperError
from neon_sim.real.g1_robot import UnitreeRobot
from neon_sim.real.robot_config import RobotConfig, sim_bridge
from neon_sim.real.safety_log import commands, read_events, replay
from neon_sim.real.safety_stop import STOPPED, Phase, StopConfig
from neon_sim.real.state_faults import StateLimits
from neon_sim.real.transport import LinkConfig
from neon_sim.robot import RobotCommand
from neon_sim.safety import CUT, SafetyConfig
from neon_sim.sim.model import build_spec
from neon_sim.sim.sim_robot import SimRobot
from neon_sim.tasks import make_task
from neon_sim.walker import Walker

LOCK_STEP = ("--lock-step", "--lock-step-s", "0.02", "--start", "released")
ARMS = np.isin(np.arange(29), joints.GROUPS["arms"])


@pytest.fixture(scope="module")
def bridge() -> Iterator[BridgeProcess]:
    with bridge_process(*LOCK_STEP) as running:
        yield running


@pytest.fixture
def config(bridge: BridgeProcess) -> Iterator[RobotConfig]:
    yield replace(sim_bridge(bridge.domain, clock="lock_step"), wait_s=PATIENT_S)
    bridge.tell(faults={})


def standing_sim(**options: bool) -> SimRobot:
    """A simulated robot where the bridge has one."""
    spec, task = build_spec(), make_task("stand")
    task.edit_scene(spec)
    return SimRobot(spec, {}, **options)


def first_state() -> dict[str, Any]:
    """The state in which the bridge with seed 0 begins, and a control that has just been armed."""
    settled = standing_sim()
    settled.reset(np.random.default_rng(0))
    return settled.get_state() | {"walker": Walker().get_state(), "target": joints.HOME.copy()}


def sim_like_the_bridge() -> SimRobot:
    """A simulated robot in that state, with a wire's numbers."""
    robot = standing_sim(round_to_float32=True)
    robot.set_state(first_state())
    return robot


def asked(steps: int) -> Iterator[RobotCommand]:
    """Arms that wander, and a walk with a turn in the middle."""
    rng, target = np.random.default_rng(1), joints.HOME.copy()
    for step in range(steps):
        target = target.copy()
        target[ARMS] += rng.uniform(-0.03, 0.03, 14)
        target = np.clip(target, joints.LOWER, joints.UPPER)
        velocity = np.array([0.3, 0.0, 0.2]) if 150 < step < 350 else np.zeros(3)
        yield RobotCommand(target, ARMS, joints.KP, joints.KD, velocity, joints.HOME_HEIGHT)


def drive_until_damped(robot: UnitreeRobot) -> None:
    """Stand until something stops it: an order reaches the bridge when the machine lets it."""
    command = RobotCommand(joints.HOME, ARMS, joints.KP, joints.KD, np.zeros(3), joints.HOME_HEIGHT)

    def damped() -> bool:
        robot.write(command)
        if robot.phase is not Phase.DAMPING:
            robot.advance()
        return robot.phase is Phase.DAMPING

    wait_until(damped)


@pytest.mark.slow
def test_500_commands_do_the_same_in_simulation_and_over_the_wire():
    worst: dict[str, float] = {}
    with bridge_process(*LOCK_STEP) as bridge:
        config = sim_bridge(bridge.domain, clock="lock_step")
        # Limits are the env's in simulation: at this seam a simulated robot has none, so here nothing keeps arms off.
        config = replace(config, control=replace(config.control, safety=SafetyConfig()))
        robot, sim = UnitreeRobot(config), sim_like_the_bridge()
        robot.arm()
        robot.reset(np.random.default_rng(0))
        for command in asked(500):
            sent, wanted = robot.write(command), sim.write(command)
            robot.advance()
            sim.advance()
            pairs = [(sent, wanted, name) for name in ("joint_target", "kp", "kd", "velocity")]
            here, there = robot.read(), sim.read()
            names = ("joint_pos", "joint_vel", "gravity_b", "joint_torque", "joint_target", "gyro")
            pairs += [(here, there, name) for name in names]
            for mine, its, name in pairs:
                difference = float(np.abs(getattr(mine, name) - getattr(its, name)).max())
                worst[name] = max(worst.get(name, 0.0), difference)
        walked = sim.position("pelvis")[0]
        robot.close()
    assert walked > 0.5
    assert worst["joint_target"] == worst["kp"] == worst["kd"] == worst["velocity"] == 0.0
    assert worst["joint_pos"] <= 1e-6 and worst["joint_vel"] <= 1e-6
    assert worst["gravity_b"] <= 1e-5 and worst["joint_torque"] <= 1e-3


def test_the_same_policy_sees_and_does_the_same_in_simulation_and_on_the_robot():
    """A seeded network in lock-step through both environments, with every limit on: it walks and moves its arms."""
    with bridge_process(*LOCK_STEP) as fresh:
        robot = sim_bridge(fresh.domain, clock="lock_step")
        shared = NeonG1Config(task="stand", sensors=("proprio",), safety=robot.control.safety)
        sim, real = NeonG1Env(shared, standing_sim(round_to_float32=True)), NeonG1RealEnv(shared, robot)
        words = {"instruction": "do as you like"}
        sim.reset(seed=0, options=words)
        sim.set_state(sim.get_state() | {"robot": first_state()})
        real.robot.arm()
        seen, _ = real.reset(seed=0, options=words)
        weights = np.random.default_rng(5).normal(0.0, 0.01, (17, 125))
        share = np.repeat([1.0, 0.4], [14, 3])  # of the arms' targets and of the velocity
        cut: set[str] = set()
        for step in range(100):
            action = np.tanh(weights @ seen["proprio"] + share * np.sin(0.1 * step + np.arange(17))).astype(np.float32)
            wanted, *_, its = sim.step(action)
            seen, *_, mine = real.step(action)
            assert {key: mine["safety"][key] for key in CUT} == {key: its["safety"][key] for key in CUT}
            assert seen.keys() == wanted.keys() and not mine["safety"]["stopped"], mine["safety"]["reasons"]
            for key in wanted:
                np.testing.assert_allclose(seen[key], wanted[key], atol=1e-6, rtol=1e-6, err_msg=f"{key}, step {step}")
            cut |= {key for key in CUT if mine["safety"][key]}
        moved = np.linalg.norm(sim.robot.position("pelvis")[:2])
        real.close()
        sim.close()
    assert cut >= {"speed"} and moved > 0.05  # it was no policy that does nothing


def test_an_unarmed_robot_is_read_and_never_moved(config, bridge):
    robot = UnitreeRobot(config)
    before = robot.reset(np.random.default_rng(0))
    again = robot.reset(np.random.default_rng(1))
    assert robot.phase is Phase.UNARMED
    np.testing.assert_array_equal(before.joint_pos, again.joint_pos)
    np.testing.assert_array_equal(before.joint_target, before.joint_pos)  # nothing was ever sent
    command = RobotCommand(joints.HOME, ARMS, joints.KP, joints.KD, np.zeros(3), joints.HOME_HEIGHT)
    with pytest.raises(NotArmedError, match="nobody has armed it yet"):
        robot.write(command)
    robot.advance()
    assert robot.read().time_s == before.time_s  # no message, so no time in lock-step
    robot.close()
    robot.close()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"nan": True}, "not a number"),
        ({"bad_crc": True}, "bad CRC"),
        ({"tick_back_ms": 60}, "out-of-order tick"),
        ({"joint_vel": 50.0}, "joint speed: left_knee_joint"),
        ({"joint_pos": 3.2}, "joint range: left_knee_joint"),
        ({"tilt_rad": 1.3}, "tilt"),
        ({"gyro_rad_s": 45.0}, "turning"),
        ({"casing_c": 90}, "casing temperature"),
        ({"winding_c": 125}, "winding temperature"),
        ({"second_writer": True}, "second writer"),
    ],
)
def test_each_fault_on_the_wire_damps_and_stays_damped(config, bridge, fault, words):
    robot = UnitreeRobot(config)
    robot.arm()
    robot.reset(np.random.default_rng(0))
    command = RobotCommand(joints.HOME, ARMS, joints.KP, joints.KD, np.zeros(3), joints.HOME_HEIGHT)
    for _ in range(3):
        robot.write(command)
        robot.advance()
    assert robot.phase is Phase.RUNNING
    bridge.tell(faults=fault)
    drive_until_damped(robot)
    assert robot.reasons[0].startswith(words)
    bridge.tell(faults={})
    for _ in range(5):
        robot.write(command)
        robot.advance()
        assert robot.phase is Phase.DAMPING
    with pytest.raises(NotArmedError, match=words):
        robot.reset(np.random.default_rng(0))
    robot.close()


def test_what_a_robot_cannot_do_is_refused_before_it_is_sent(config):
    robot = UnitreeRobot(replace(config, control=replace(config.control, path="high_level")))
    good = RobotCommand(joints.HOME, ARMS, joints.KP, joints.KD, np.zeros(3), joints.HOME_HEIGHT)
    with pytest.raises(ValueError, match="finite"):
        robot.write(replace(good, joint_target=np.full(29, np.nan)))
    with pytest.raises(ValueError, match="negative"):
        robot.write(replace(good, kp=-joints.KP))
    with pytest.raises(ValueError, match="legs are the robot's own"):
        robot.write(replace(good, owned_mask=np.ones(29, dtype=bool)))
    with pytest.raises(ValueError, match="Unknown sensor 'lidar'"):
        robot.sense(["lidar"])
    robot.close()


# ---- the environment


def test_the_same_spaces_and_absent_senses(config):
    with pytest.raises(ValueError, match='no sense camera, lidar connected.*absent_senses="mask"'):
        NeonG1RealEnv(robot=config, sensors=("proprio", "camera", "lidar"))
    real = NeonG1RealEnv(robot=replace(config, absent_senses="mask"), sensors=("proprio", "camera", "lidar"))
    sim = NeonG1Env(NeonG1Config(sensors=("proprio", "camera", "lidar")))
    assert real.observation_space == sim.observation_space and real.action_space == sim.action_space
    assert real.metadata == sim.metadata
    obs, info = real.reset(seed=0)
    assert real.observation_space.contains(obs)
    assert not obs["camera"].any() and not obs["lidar"].any()
    assert info["safety"]["masked"] == ("camera", "lidar") and info["reward_available"] is False
    real.close()
    sim.close()


def test_an_episode_from_arming_to_a_stop(config, bridge, tmp_path):
    env = gymnasium.make(
        "NeonG1Real-v0", robot=replace(config, log=tmp_path), sensors=("proprio",), instruction="wave", max_steps=10**6
    )
    real: NeonG1RealEnv = env.unwrapped
    assert real.reset(options={"instruction": "sit"})[1]["instruction"] == "sit"
    with pytest.raises(NotArmedError):
        real.step(np.zeros(17, np.float32))
    real.robot.arm()
    obs, info = env.reset(seed=3)
    assert info["instruction"] == "wave" and info["safety"]["phase"] in ("ramping", "standing")
    action = np.zeros(17, np.float32)
    action[3] = 1.0  # the left elbow, all the way
    command, cut = real.preview(action)
    obs, reward, terminated, truncated, info = env.step(action)
    assert env.observation_space.contains(obs)
    assert reward == 0.0 and not terminated and not truncated
    assert info["safety"]["speed"] == cut.speed == ("left_elbow_joint",) and info["safety"]["clipped"]
    np.testing.assert_allclose(real.robot.read().joint_target[18], command.joint_target[18], atol=1e-6)
    for _ in range(20):
        obs, *_ = env.step(action)
    assert obs["proprio"][18] > joints.HOME[18] + 0.3  # it moved
    bridge.tell(faults={"winding_c": 130})
    while not truncated:
        *_, truncated, info = env.step(action)
    assert info["safety"]["stopped"] and info["safety"]["phase"] == "damping"
    assert info["safety"]["reasons"][0].startswith("winding temperature: left_knee_joint 130")
    with pytest.raises(NotArmedError, match="winding"):
        env.reset()
    env.close()
    check_log(tmp_path / "commands.jsonl")


def test_an_arm_that_would_hit_the_robot_is_held_beside_it_and_that_is_told(config, tmp_path):
    env = NeonG1RealEnv(robot=replace(config, log=tmp_path), sensors=("proprio",))
    env.robot.arm()
    env.reset()
    goal = joints.HOME.copy()
    goal[15:22] = -0.3, -0.2, 0.9, 0.6, 0.0, 0.0, 0.0  # the left hand through the belly
    action = env.action_map.encode(goal, np.zeros(3)).astype(np.float32)
    named: set[str] = set()
    for _ in range(100):
        *_, truncated, info = env.step(action)
        assert not truncated, info["safety"]["reasons"]
        if info["safety"]["self_distance"]:
            assert info["safety"]["clipped"]
            named |= set(info["safety"]["self_distance"])
    assert named and named <= {name for name in joints.JOINT_NAMES if name.startswith("left_")}
    # The walker's own joints are taken to stay for a step; what they move meanwhile is less than a millimetre.
    assert self_distances(env.robot.read().joint_target).min() >= 0.01 - 1e-3
    env.reset()  # the way home is free
    env.close()
    told = [event["self_distance"] for event in read_events(tmp_path / "commands.jsonl") if event["event"] == "safety"]
    assert named == {name for names in told for name in names}


def check_log(path: Path) -> None:
    """The log tells of arming, cuts and the stop, and its commands move a simulated robot's elbow."""
    events = list(read_events(path))
    assert [event["event"] for event in events].count("arm") == 1
    assert any(event.get("phase") == "damping" and "winding" in event["reasons"][0] for event in events)
    assert any(event.get("phase") == "running" for event in events)
    log = commands(path)
    sim = SimRobot(build_spec(), {})
    states = replay(log[:21], sim, np.random.default_rng(0))
    assert states[-1].joint_pos[18] > joints.HOME[18] + 0.3
    sim.close()


def test_a_person_arms_again_after_a_stop_and_a_home_pose_is_found(config, bridge):
    env = NeonG1RealEnv(robot=config, sensors=("proprio",))
    env.robot.arm()
    env.reset()
    action = np.zeros(17, np.float32)
    action[3] = 0.5
    for _ in range(10):
        env.step(action)
    env.robot.halt()
    assert env.step(action)[3]  # truncated
    env.robot.arm()
    env.reset()
    state = env.robot.read()
    np.testing.assert_allclose(state.joint_target[ARMS], joints.HOME[ARMS], atol=2e-3)
    assert not env.step(np.zeros(17, np.float32))[3]
    env.close()


@pytest.mark.parametrize("mode", ["upper_body", "whole_body"])
def test_a_waist_that_is_turned_goes_home_slowly_in_reset(config, tmp_path, mode):
    env = NeonG1RealEnv(robot=replace(config, log=tmp_path), sensors=("proprio",), control_mode=mode)
    env.robot.arm()
    env.reset()
    goal = joints.HOME.copy()
    goal[12] = 0.6  # rad, the waist's yaw
    action = env.action_map.encode(goal, np.zeros(3)).astype(np.float32)
    for _ in range(35):
        env.step(action)
    asked_before = len(commands(tmp_path / "commands.jsonl"))
    sent = [env.robot.read().joint_target[12]]
    assert sent[0] == pytest.approx(0.6, abs=1e-6)
    env.reset()
    assert env.robot.read().joint_target[12] == pytest.approx(0.0, abs=2e-3)
    way = commands(tmp_path / "commands.jsonl")[asked_before:]
    sent += [command.joint_target[12] for command in way]
    assert len(way) >= 60 and np.abs(np.diff(sent)).max() <= config.home_speed * 0.02 + 1e-9  # 0.6 rad at 0.5 rad/s
    assert all(command.owned_mask[12] and not command.owned_mask[:12].any() for command in way)
    env.close()


def test_a_battery_that_runs_low_takes_the_robot_down(config, bridge):
    robot = UnitreeRobot(config)
    robot.arm()
    bridge.tell(faults={"soc": 15})
    command = RobotCommand(joints.HOME, ARMS, joints.KP, joints.KD, np.zeros(3), joints.HOME_HEIGHT)

    def stopped() -> bool:
        robot.write(command)
        robot.advance()
        return robot.phase in STOPPED

    wait_until(stopped)
    assert robot.phase is Phase.LOWERING
    assert robot.reasons == ("low battery: 15 %, the limit is 20 %",)
    bridge.tell(faults={})
    robot.close()


def test_vector_wrappers_are_refused():
    with pytest.raises(VectorWrapperError, match="one env, reset and armed by a person"):
        gymnasium.make_vec("NeonG1Real-v0", num_envs=1)
    for mode in ("sync", "async"):
        with pytest.raises(VectorWrapperError, match="gymnasium.vector"):
            gymnasium.make_vec("NeonG1Real-v0", num_envs=1, vectorization_mode=mode)


@pytest.mark.slow
def test_stable_baselines_wrappers_are_refused_too():
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env")
    with pytest.raises(VectorWrapperError, match="stable_baselines3"):
        vec_env.DummyVecEnv([lambda: gymnasium.make("NeonG1Real-v0")])


# ---- what only a simulation may have
def test_only_a_29_joint_robot_is_driven():
    with pytest.raises(ValueError, match="29dof one, got variant '23dof'"):
        gymnasium.make("NeonG1Real-v0", variant="23dof")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "limits.gyro 40.0"),
        ({}, "limits.leg_speed 40.0"),
        ({}, "stop.ramp_s 0.0"),
        ({}, "stall_s 1.0"),
        ({"control": ControlConfig(safety=SafetyConfig())}, "safety.self_distance 0.0"),
        ({"clock": "lock_step"}, "clock 'lock_step'"),
        ({"control": ControlConfig(safety=SafetyConfig(arm_speed=30.0))}, "safety.arm_speed 30.0 .at most 2.0"),
        ({"control": ControlConfig(safety=SafetyConfig(waist_speed=2.0))}, "safety.waist_speed 2.0"),
        ({"control": ControlConfig(safety=SafetyConfig(max_velocity=(0.5, 0.9, 1.0)))}, "safety.max_velocity"),
        ({"control": ControlConfig(stop=StopConfig(silence_s=60.0))}, "stop.silence_s 60.0 .at most 0.2"),
        ({"control": ControlConfig(limits=StateLimits(charge=5.0))}, "limits.charge 5.0 .at least 20.0"),
    ],
)
def test_a_simulations_settings_are_refused_where_a_robot_may_be(change, words):
    with pytest.raises(ValueError, match=words):
        replace(sim_bridge(), link=LinkConfig(0, "192.168.123.222", allow_network=True), **change)


def test_tighter_limits_are_allowed_where_a_robot_may_be():
    tight = ControlConfig(
        safety=SafetyConfig(arm_speed=1.0, waist_speed=0.5, max_velocity=(0.2, 0.2, 0.3), self_distance=0.02),
        limits=StateLimits(age_s=0.03, tilt=0.7, charge=50.0),
        stop=StopConfig(silence_s=0.1, lower_after_s=np.inf),
    )
    link = LinkConfig(0, "192.168.123.222", allow_network=True)
    assert RobotConfig(link, tight).control is tight


def test_an_env_without_a_robot_is_on_the_simulated_one():
    looks = NeonG1Config(sensors=("proprio", "camera", "depth", "lidar"))
    where = settings(looks)
    assert where == replace(sim_bridge(senses=("camera", "lidar")), control=where.control)
    assert where.control == sim_bridge().control and where.control.limits.leg_speed == 40.0
    far = settings(replace(looks, safety=SafetyConfig(self_distance=0.02)), sim_bridge(domain=7))
    assert far.link.domain == 7 and far.control.safety.self_distance == 0.02
    with pytest.raises(ValueError, match="safety.arm_speed 9.0"):
        robot = RobotConfig(LinkConfig(0, "192.168.123.222", allow_network=True))
        settings(replace(looks, safety=SafetyConfig(arm_speed=9.0)), robot)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"clock": "realtime"}, "real_time"),
        ({"absent_senses": "zero"}, "mask"),
        ({"velocity_s": 2.0}, "velocity_s"),
        ({"home_speed": 0.0}, "home_speed"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        RobotConfig(**values)


def test_the_operators_select_button_damps(config, bridge):
    robot = UnitreeRobot(config)
    robot.arm()
    bridge.tell(press={"buttons": ["select"]})
    drive_until_damped(robot)
    bridge.tell(press={})
    assert robot.reasons == ("remote control: the operator pressed select",)
    robot.close()
