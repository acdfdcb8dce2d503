"""NeonG1Env by its contract: spaces, bad input, life cycle, info, endings, saved states, pictures."""

import pickle
import subprocess
import sys
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import given
from hypothesis import strategies as st

import neon_sim  # noqa: F401  (registers NeonG1-v0)
from neon_sim.env import (
    ALL_SENSORS,
    INSTRUCTION_BYTES,
    SENSORS,
    NeonG1Config,
    NeonG1Env,
    decode_instruction,
    encode_instruction,
)
from neon_sim.g1 import joints
from neon_sim.g1.kinematics import palm_poses
from neon_sim.safety import SafetyConfig
from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.camera_randomization import CameraRandomization
from neon_sim.sensors.depth import DepthConfig, depth_in_metres
from neon_sim.sensors.gps import GpsConfig
from neon_sim.sensors.imu import ImuConfig
from neon_sim.sensors.lidar import LidarConfig
from neon_sim.sensors.proprio import PROPRIO_SLICES
from neon_sim.sensors.senses import ExtraSenses
from neon_sim.sensors.tactile import TactileConfig
from neon_sim.sim.faults import ActuatorFault, LostSensor
from neon_sim.sim.noise import SensorNoise

FAST: dict[str, Any] = {"sensors": ("proprio",), "physics_dt": 0.005}
SHOULDER = joints.JOINT_INDEX["left_shoulder_pitch_joint"]


def make(**options: Any) -> NeonG1Env:
    return NeonG1Env(**{**FAST, **options})


def either(wrapped: bool, disable_env_checker: bool = False, **options: Any) -> Any:
    """The env as `gymnasium.make` wraps it, or bare."""
    if not wrapped:
        return make(**options)
    return gymnasium.make("NeonG1-v0", disable_env_checker=disable_env_checker, **FAST, **options)


def gentle(env: NeonG1Env, count: int, seed: int = 0) -> np.ndarray:
    """(count, A) random actions around the home pose."""
    return np.random.default_rng(seed).uniform(-0.3, 0.3, (count, *env.action_space.shape)).astype(np.float32)


def assert_same(left: Any, right: Any) -> None:
    """Equal to the bit, through dicts, tuples and arrays."""
    assert data_equivalence(left, right, exact=True), f"{left} and {right} differ"


# Spaces and observations


@pytest.mark.parametrize(("mode", "width"), [("arms_only", 17), ("upper_body", 20), ("whole_body", 29)])
def test_action_widths(mode: str, width: int) -> None:
    space = make(control_mode=mode).action_space
    assert space.shape == (width,) and (space.low == -1.0).all() and (space.high == 1.0).all()


def test_the_default_observation_is_the_documented_one() -> None:
    env = gymnasium.make("NeonG1-v0")
    expected = {
        "proprio": (125,),
        "command": (4,),
        "eef": (14,),
        "camera": (128, 128, 3),
        "lidar": (3072,),
        "audio": (5120,),
        "instruction": (256,),
    }
    obs, _ = env.reset(seed=0)
    assert {key: value.shape for key, value in obs.items()} == expected
    assert {key for key, value in obs.items() if value.dtype == np.uint8} == {"camera", "instruction"}
    assert all(np.isfinite([space.low, space.high]).all() for space in env.observation_space.values())
    assert env.unwrapped.config.physics_dt == 0.002
    env.close()


def test_each_sensor_adds_its_own_keys_only() -> None:
    assert set(make(sensors=()).observation_space) == {"command", "instruction"}
    assert set(make(sensors=("audio",)).observation_space) == {"command", "instruction", "audio"}
    assert set(make(sensors=("proprio",)).observation_space) == {"command", "instruction", "proprio", "eef"}


OPT_IN = {
    "depth": ((128, 128, 1), np.uint8),
    "segmentation": ((128, 128, 1), np.uint8),
    "wrist_left": ((128, 128, 3), np.uint8),
    "wrist_right": ((128, 128, 3), np.uint8),
    "stereo": ((480, 1280, 3), np.uint8),
    "imu": ((6,), np.float32),
    "force": ((24,), np.float32),
    "tactile": ((32,), np.float32),
    "gps": ((3,), np.float32),
    "state": ((64,), np.float32),
}


@pytest.mark.parametrize("name", OPT_IN)
def test_a_sense_that_is_named_adds_its_key_and_no_other(name: str) -> None:
    env = make(sensors=(name,))
    assert set(env.observation_space) == {"command", "instruction", name}
    space = env.observation_space[name]
    assert (space.shape, space.dtype) == OPT_IN[name] and np.isfinite([space.low, space.high]).all()
    assert pickle.loads(pickle.dumps(env.config)) == env.config


def test_nobody_has_forgotten_a_sense() -> None:
    assert set(ALL_SENSORS) == {*SENSORS, *OPT_IN} and len(ALL_SENSORS) == len(set(ALL_SENSORS))


def test_the_settings_of_an_opt_in_sense_reach_it() -> None:
    senses = ExtraSenses(tactile=TactileConfig(rows=2, columns=3), gps=GpsConfig(noise_m=0.0, drift_m=0.0))
    env = make(sensors=("tactile", "gps", "imu"), extra_senses=senses)
    obs, _ = env.reset(seed=0)
    assert obs["tactile"].shape == (12,)
    np.testing.assert_allclose(obs["gps"], env.world.object_pose("pelvis")[0], atol=1e-6)
    assert obs["imu"][3:] @ -env.robot.read().gravity_b == pytest.approx(9.81, abs=2.0)  # swaying, but not falling


def test_the_privileged_state_is_the_base_pose_and_the_tasks_truth() -> None:
    env = make(sensors=("state",))
    env.reset(seed=5)
    obs, _, _, _, info = env.step(gentle(env, 1)[0])
    truth, state = info["privileged"], obs["state"]
    np.testing.assert_allclose(state[:7], np.concatenate(env.world.object_pose("pelvis")), atol=1e-6)
    np.testing.assert_allclose(state[7:12], [truth["hand"], truth["distance"], *truth["target_pos_b"]], atol=1e-6)
    np.testing.assert_allclose(state[12:21], np.concatenate(list(truth["ball_pos_b"].values())), atol=1e-6)


def test_a_robot_that_is_no_world_has_no_privileged_state() -> None:
    body = NeonG1Env(sensors=()).robot
    robot = type("Body", (), {name: getattr(body, name) for name in ("reset", "write", "advance", "read", "sense")})()
    robot.close, robot.dt, robot.max_velocity = body.close, body.dt, body.max_velocity
    NeonG1Env(robot=robot, sensors=("proprio",))
    with pytest.raises(ValueError, match="Only a simulation knows the sensor 'state'"):
        NeonG1Env(robot=robot, sensors=("proprio", "state"))


def test_encoder_noise_is_a_setting_of_the_env() -> None:
    clean, noisy = make(), make(noise=SensorNoise(joint_pos=0.05, joint_vel=0.0, gyro=0.0, gravity=0.0))
    clean.reset(seed=0), noisy.reset(seed=0)
    errors = []
    for _ in range(20):
        obs, *_ = noisy.step(np.zeros(17))
        errors.append(obs["proprio"][PROPRIO_SLICES["joint_pos"]] - noisy.robot.data.qpos[7:36])
    assert np.std(errors) == pytest.approx(0.05, rel=0.1)
    obs, *_ = clean.step(np.zeros(17))
    np.testing.assert_allclose(obs["proprio"][:29], clean.robot.data.qpos[7:36], atol=1e-6)


def test_proprioception_is_what_the_robot_senses() -> None:
    env = make()
    env.reset(seed=1)
    action = np.zeros(17)
    action[14:] = 1.0, -1.0, 0.5
    for _ in range(5):
        obs, *_ = env.step(action)
    data = env.robot.data
    part = {name: obs["proprio"][place] for name, place in PROPRIO_SLICES.items()}
    np.testing.assert_allclose(part["joint_pos"], data.qpos[7:36], atol=1e-6)
    np.testing.assert_allclose(part["joint_vel"], data.qvel[6:35], atol=1e-5)
    np.testing.assert_allclose(part["joint_torque"], data.actuator_force, atol=1e-4)
    np.testing.assert_allclose(part["tracking_error"], data.ctrl - data.qpos[7:36], atol=1e-6)
    np.testing.assert_allclose(part["gyro"], data.qvel[3:6], atol=1e-6)
    np.testing.assert_allclose(part["gravity"], -data.body("pelvis").xmat.reshape(3, 3)[2], atol=1e-6)
    np.testing.assert_array_equal(part["velocity_command"], [0.5, -0.5, 0.5])
    np.testing.assert_allclose(obs["command"], [0.5, -0.5, 0.5, 0.785], atol=1e-7)
    pos, quat = palm_poses(data.qpos[7:36])
    expected = np.concatenate([pos[0], quat[0], pos[1], quat[1]])
    np.testing.assert_allclose(obs["eef"], expected, atol=1e-6)


def test_the_velocity_bound_of_the_observation_is_the_safety_limit() -> None:
    env = make(safety=SafetyConfig(max_velocity=(0.3, 0.2, 0.4)))
    env.reset(seed=0)
    obs, _, _, _, info = env.step(np.ones(17))
    assert obs["command"][:3].tolist() == pytest.approx([0.3, 0.2, 0.4]) and obs in env.observation_space
    assert info["safety"]["velocity"] == ("vx", "vy", "yaw_rate")


def test_action_zero_is_home_and_one_is_the_limit() -> None:
    env = make()
    env.reset(seed=0)
    for _ in range(60):  # 2 rad/s reach every limit in 60 steps
        env.step(np.ones(17))
    arms = joints.GROUPS["arms"]
    # Upward limits of the arms: 2.67 rad of shoulder pitch are 2.4 s away at 2 rad/s, the elbow 0.41 s.
    assert env.robot.read().joint_target[joints.JOINT_INDEX["left_elbow_joint"]] == 2.0944
    for _ in range(150):
        env.step(np.zeros(17))
    np.testing.assert_array_equal(env.robot.read().joint_target[arms], joints.HOME[arms])


# Words


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=64))
def test_instructions_come_back(text: str) -> None:
    code = encode_instruction(text)
    assert code.shape == (INSTRUCTION_BYTES,) and code.dtype == np.uint8
    assert decode_instruction(code) == text


def test_an_instruction_must_fit() -> None:
    assert decode_instruction(encode_instruction("x" * 256)) == "x" * 256
    assert decode_instruction(encode_instruction("\u00e9" * 128)) == "\u00e9" * 128
    with pytest.raises(ValueError, match="at most 256 bytes.*got 258"):
        encode_instruction("\u00e9" * 129)


def test_words_can_be_replaced_and_the_goal_stays() -> None:
    env = make()
    obs, info = env.reset(seed=3)
    told, told_info = env.reset(seed=3, options={"instruction": "wave"})
    assert decode_instruction(told["instruction"]) == told_info["instruction"] == "wave"
    assert decode_instruction(obs["instruction"]) == info["instruction"] != "wave"
    assert_same(told_info["privileged"], info["privileged"])


# Bad input


@pytest.mark.filterwarnings("ignore:.*render_mode:UserWarning")  # gymnasium's own remark, before our error
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "recah"}, "Unknown task 'recah'. Did you mean 'reach'"),
        ({"control_mode": "arm_only"}, "Unknown control_mode 'arm_only'. Did you mean 'arms_only'"),
        ({"sensors": ("proprio", "camra")}, "Unknown sensor 'camra'. Did you mean 'camera'"),
        ({"sensors": ("tactil",)}, "Unknown sensor 'tactil'. Did you mean 'tactile'"),
        ({"sensor": ("proprio",)}, "Unknown NeonG1-v0 option 'sensor'. Did you mean 'sensors'"),
        ({"render_mode": "rgb_aray"}, "Unknown render_mode 'rgb_aray'. Did you mean 'rgb_array'"),
        ({"action_center": "homes"}, "Unknown action center 'homes'. Did you mean 'home'"),
        ({"include_locomotion": True, "control_mode": "whole_body"}, "Unknown NeonG1-v0 option 'include_locomotion'"),
        ({"physics_dt": 0.003}, "must divide 0.02 s"),
        ({"max_steps": 0}, "max_steps must be 1 to"),
    ],
)
def test_wrong_settings_are_refused_with_the_nearest_right_one(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gymnasium.make("NeonG1-v0", **options)


def test_sensors_given_as_one_string_are_refused() -> None:
    with pytest.raises(ValueError, match="tuple of names.*got 'proprio'"):
        make(sensors="proprio")
    assert make(sensors=["proprio"]).config == make(sensors=("proprio",)).config


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize(
    "action",
    [np.zeros(16), np.zeros((1, 17)), np.full(17, np.nan), np.r_[np.zeros(16), np.inf], np.full(17, 1e308), "left"],
)
def test_a_bad_action_is_refused_before_anything_moves(action: Any, wrapped: bool) -> None:
    env = either(wrapped, disable_env_checker=True)
    env.reset(seed=0)
    good = np.full(17, 0.1, np.float32)
    env.step(good)
    before = env.unwrapped.get_state()
    with pytest.raises(ValueError):
        env.step(action)
    assert_same(env.unwrapped.get_state(), before)
    after_all = env.step(good)
    env.unwrapped.set_state(before)
    assert_same(env.step(good), after_all)


def test_an_action_out_of_the_box_is_cut_and_said() -> None:
    env, other = make(), make()
    env.reset(seed=0), other.reset(seed=0)
    wild, edge = np.zeros(17), np.zeros(17)
    elbow = env.action_map.names.index("left_elbow_joint")
    wild[[elbow, 14]], edge[[elbow, 14]] = 7.0, 1.0
    wild_step, edge_step = env.step(wild), other.step(edge)
    assert_same(wild_step[0], edge_step[0])
    assert wild_step[4]["safety"]["position"] == ("left_elbow_joint",) and edge_step[4]["safety"]["position"] == ()
    assert wild_step[4]["safety"]["velocity"] == ("vx",) and edge_step[4]["safety"]["velocity"] == ()


def test_reset_refuses_what_it_does_not_know_and_words_that_do_not_fit() -> None:
    env = make()
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(ValueError, match="Unknown reset option 'instructions'. Did you mean 'instruction'"):
        env.reset(options={"instructions": "wave"})
    with pytest.raises(ValueError, match="at most 256 bytes"):
        env.reset(options={"instruction": "x" * 257})
    assert_same(env.get_state(), before)


def test_a_number_that_is_none_is_named_as_the_actions() -> None:
    env = make()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="An action must be finite numbers.*Look at the policy's output"):
        env.step(np.full(17, np.nan))


# Life cycle


@pytest.mark.parametrize("wrapped", [True, False])
def test_nothing_goes_before_reset(wrapped: bool) -> None:
    env = either(wrapped, render_mode="rgb_array")
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(17, np.float32))
    with pytest.raises(ResetNeeded):
        env.render()
    for ask in (env.unwrapped.expert_action, env.unwrapped.privileged, env.unwrapped.get_state):
        with pytest.raises(ResetNeeded, match="call env.reset"):
            ask()
    env.reset(seed=0)
    env.step(np.zeros(17, np.float32))


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("used", [True, False])
def test_nothing_goes_after_close(wrapped: bool, used: bool) -> None:
    env = either(wrapped, render_mode="rgb_array")
    state = None
    if used:
        env.reset(seed=0)
        env.step(np.zeros(17, np.float32))
        state = env.unwrapped.get_state()
    env.close()
    env.close()
    with pytest.raises(ClosedEnvironmentError, match="closed. Make a new one"):
        env.reset()
    if used or not wrapped:
        with pytest.raises(ClosedEnvironmentError):
            env.step(np.zeros(17, np.float32))
        with pytest.raises(ClosedEnvironmentError):
            env.render()
    with pytest.raises(ClosedEnvironmentError):
        env.unwrapped.set_state(state or {})


def test_gymnasium_finds_the_env_by_module_and_name(tmp_path: Any) -> None:
    code = (
        "import gymnasium; env = gymnasium.make('neon_sim:NeonG1-v0', sensors=('proprio',));"
        "obs, info = env.reset(seed=0); env.step(env.action_space.sample()); print(sorted(obs), info['instruction'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("['command', 'eef', 'instruction', 'proprio'] ") and done.stderr == ""


# Info


def test_info_has_the_same_keys_in_reset_and_step() -> None:
    env = make()
    _, at_reset = env.reset(seed=0)
    _, reward, _, _, at_step = env.step(np.zeros(17))
    assert set(at_reset) == set(at_step) == {
        "success", "reward_terms", "reward_available", "safety", "instruction", "randomization", "privileged",
        "time_s", "diverged",
    }  # fmt: skip
    assert set(at_reset["safety"]) == set(at_step["safety"])
    assert at_reset["time_s"] == 0.0 and at_step["time_s"] == pytest.approx(0.02)
    assert at_step["reward_available"] and reward == pytest.approx(np.prod(list(at_step["reward_terms"].values())))


def test_privileged_info_is_the_truth_and_nobody_elses_array() -> None:
    env = make()
    env.reset(seed=5)
    info = env.step(gentle(env, 1)[0])[4]
    truth = info["privileged"]
    assert_same(truth, env.privileged())
    assert truth["distance"] == env.task.distance(env.world)
    truth["target_pos_b"][:] = 99.0
    assert not np.any(env.privileged()["target_pos_b"] == 99.0)


def test_a_velocity_that_nobody_follows_shows() -> None:
    env = make()
    _, info = env.reset(seed=0)
    assert info["safety"]["velocity_not_followed"] is False
    action = np.zeros(17)
    assert env.step(action)[4]["safety"]["velocity_not_followed"] is False
    for entry, followed in ((14, True), (15, False), (16, True)):  # 0.5 m/s, 0.5 m/s sideways (it has 0.4), 1 rad/s
        action[:] = 0.0
        action[entry] = -1.0
        safety = env.step(action)[4]["safety"]
        assert safety["velocity_not_followed"] is not followed and safety["velocity"] == ()


def test_a_clipped_speed_shows_and_holds() -> None:
    env = make()
    env.reset(seed=0)
    action = np.zeros(17)
    action[0] = 1.0
    before = env.robot.read().joint_target[SHOULDER]
    safety = env.step(action)[4]["safety"]
    assert safety["clipped"] and safety["speed"] == ("left_shoulder_pitch_joint",)
    assert env.robot.read().joint_target[SHOULDER] - before == pytest.approx(2.0 * 0.02)


def test_info_and_truth_survive_a_vector_env() -> None:
    envs = gymnasium.make_vec("NeonG1-v0", num_envs=2, vectorization_mode="sync", **FAST)
    envs.reset(seed=[3, 4])
    _, rewards, _, _, infos = envs.step(np.zeros((2, 17), np.float32))
    for index, seed in enumerate((3, 4)):
        alone = make()
        alone.reset(seed=seed)
        _, reward, _, _, info = alone.step(np.zeros(17, np.float32))
        assert rewards[index] == pytest.approx(reward) and infos["instruction"][index] == info["instruction"]
        assert infos["privileged"]["distance"][index] == info["privileged"]["distance"]
        np.testing.assert_array_equal(infos["privileged"]["target_pos_b"][index], info["privileged"]["target_pos_b"])
    envs.close()


def test_worker_processes_give_the_same_episode() -> None:
    def steps(mode: str) -> list[Any]:
        envs = gymnasium.make_vec("NeonG1-v0", num_envs=2, vectorization_mode=mode, **FAST)
        first, _ = envs.reset(seed=7)
        out = [{key: value.copy() for key, value in first.items()}]
        for action in np.random.default_rng(0).uniform(-1, 1, (5, 2, 17)).astype(np.float32):
            obs, rewards, terminated, truncated, _ = envs.step(action)
            out.append(({key: value.copy() for key, value in obs.items()}, rewards, terminated, truncated))
        envs.close()
        return out

    assert_same(steps("async"), steps("sync"))


# Endings


def test_a_fall_ends_the_episode() -> None:
    env = make(control_mode="whole_body", task="stand")
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (300, 29))  # nobody balances
    steps, terminated = 0, False
    while not terminated:
        _, reward, terminated, truncated, info = env.step(actions[steps])
        steps += 1
    height = env.world.object_pose("pelvis")[0][2]
    tilt = np.arccos(-env.robot.read().gravity_b[2])
    assert terminated is True and truncated is False and 10 < steps < 300
    assert height < 0.35 or tilt > 1.0
    assert reward < 0.5 and info["success"] is False


@pytest.mark.parametrize("num_envs", [None, 3])
def test_physics_that_diverges_ends_the_episode_and_says_so(num_envs: int | None) -> None:
    """MuJoCo resets its data and goes on by itself: that must not pass for a robot that jumped back to its feet."""
    options = {"task": "stand", "control_mode": "arms_only", "sensors": ("proprio",)}
    if num_envs is None:
        env = gymnasium.make("NeonG1-v0", disable_env_checker=True, **options)
        robot, idle = env.unwrapped.robot, np.zeros(env.action_space.shape)
    else:
        env = gymnasium.make_vec("NeonG1-v0", num_envs=num_envs, **options)
        robot, idle = env.envs[1].robot, np.zeros(env.action_space.shape)
    env.reset(seed=0)
    for _ in range(3):
        terminated, info = env.step(idle)[2:5:2]
        assert not np.any(terminated) and not np.any(info["diverged"])
    robot.data.qvel[10] = 1e11  # MuJoCo gives up at 1e10
    obs, reward, terminated, _, info = env.step(idle)
    expected = True if num_envs is None else np.arange(num_envs) == 1
    np.testing.assert_array_equal(terminated, expected)
    np.testing.assert_array_equal(info["diverged"], expected)
    assert np.isfinite(reward).all() and np.isfinite(obs["proprio"]).all()
    obs, info = env.reset(seed=0)
    assert not np.any(env.step(idle)[2])
    env.close()


@pytest.mark.parametrize(
    ("limits", "falls"),
    [
        ({"fall_height": 0.70}, False),
        ({"fall_height": 0.80}, True),
        ({"fall_tilt": 0.2}, False),
        ({"fall_tilt": 1e-4}, True),
    ],
)
def test_what_counts_as_a_fall_is_a_setting(limits: dict[str, float], falls: bool) -> None:
    env = make(task="stand", **limits)
    env.reset(seed=0)
    assert env.step(np.zeros(17))[2] is falls


def test_time_is_up_after_max_steps() -> None:
    env = make(max_steps=7)
    for _ in range(2):  # and the count begins anew
        env.reset(seed=0)
        ends = [env.step(np.zeros(17))[2:4] for _ in range(7)]
        assert ends == [(False, False)] * 6 + [(False, True)]
    assert {name: make(task=name)._max_steps for name in ("reach", "stand")} == {"reach": 150, "stand": 500}


def test_depth_in_metres_is_in_info_on_request() -> None:
    depth = DepthConfig(CameraConfig(width=32, height=24), metres_in_info=True)
    options: dict[str, Any] = {"sensors": ("proprio", "depth"), "extra_senses": ExtraSenses(depth=depth)}
    env = make(task="press", **options)
    obs, info = env.reset(seed=0)
    plain_obs, plain = make(task="press", sensors=("proprio", "depth")).reset(seed=0)
    assert "depth_m" not in plain and plain_obs["depth"].shape == (128, 128, 1)
    for _ in range(2):
        metres, levels = info["depth_m"], obs["depth"][..., 0]
        assert metres.shape == (24, 32) and metres.dtype == np.float32
        seen = levels > 0  # within 0.3 to 3 m
        assert seen.mean() > 0.2
        np.testing.assert_allclose(depth_in_metres(levels, depth)[seen], metres[seen], atol=0.0054)  # half a level
        assert (metres[~seen] < 0.31).all()  # nearer than that, or nothing: 0
        obs, *_, info = env.step(np.zeros(17))
        obs, *_, info = env.step(np.zeros(17))  # 30 Hz: a new frame is due in the second step
    assert env.world is not None
    env.world.apply_fault(LostSensor("depth"))
    obs, *_, info = env.step(np.zeros(17))
    assert not obs["depth"].any() and not info["depth_m"].any()


# Saved states


def test_a_state_of_another_env_is_refused() -> None:
    saved = make(task="press", sensors=("proprio",))
    saved.reset(seed=0)
    state = saved.get_state()
    for wrong in ({"task": "stand"}, {"task_options": {"objects": "test"}}, {"sensors": ("proprio", "imu")}):
        with pytest.raises(ValueError, match=r"This state is of another env.*Set it in an env of the same config"):
            make(**{"task": "press", "sensors": ("proprio",), **wrong}).set_state(state)
    make(task="press", sensors=("proprio",)).set_state(state)


def test_an_instruction_that_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="instruction is a text, got 5"):
        make(sensors=("proprio",)).reset(options={"instruction": 5})


def episode(env: NeonG1Env, actions: np.ndarray) -> list[Any]:
    return [env.step(action) for action in actions]


def test_a_saved_state_goes_on_to_the_bit_here_and_elsewhere() -> None:
    everything = {
        "physics_dt": 0.005,
        "sensors": tuple(name for name in ALL_SENSORS if name != "stereo"),  # as the other cameras, 19 times as large
        "noise": SensorNoise(),
        "lidar": LidarConfig(range_noise_m=0.02, dropout=0.1),
        "camera": CameraConfig(randomization=CameraRandomization(pixel_noise=2.0)),
        "extra_senses": ExtraSenses(imu=ImuConfig(gyro_noise=0.01, gyro_bias=0.1), depth=DepthConfig(dropout=0.1)),
    }
    env = NeonG1Env(**everything)
    env.world.apply_fault(ActuatorFault())
    env.reset(seed=11, options={"instruction": "wave"})
    actions = gentle(env, 70)
    episode(env, actions[:33])  # between two camera frames, in the middle of a LiDAR period
    saved = env.get_state()
    expected = [*episode(env, actions[33:]), env.reset(), *episode(env, actions[:5])]

    env.set_state(saved)
    assert_same([*episode(env, actions[33:]), env.reset(), *episode(env, actions[:5])], expected)

    other = NeonG1Env(**everything)
    other.set_state(saved)
    assert_same(other.get_state(), saved)
    assert_same([*episode(other, actions[33:]), other.reset(), *episode(other, actions[:5])], expected)
    env.close(), other.close()


def test_a_saved_state_is_a_copy() -> None:
    env = make()
    env.reset(seed=2)
    saved = env.get_state()
    kept = env.get_state()
    episode(env, gentle(env, 10))
    assert_same(saved, kept)
    env.set_state(saved)
    episode(env, gentle(env, 10))
    assert_same(saved, kept)


# Pictures


def test_pictures_show_the_robot_and_its_arm_moving() -> None:
    env = make(render_mode="rgb_array")
    env.reset(seed=0)
    still = env.render()
    assert still.shape == (480, 640, 3) and still.dtype == np.uint8
    assert len(np.unique(still.reshape(-1, 3), axis=0)) > 50 and still.std() > 10.0
    np.testing.assert_array_equal(env.render(), still)
    episode(env, np.tile([-1.0] * 14 + [0.0] * 3, (30, 1)))
    moved = env.render()
    changed = np.any(np.abs(moved.astype(int) - still) > 20, axis=-1)
    assert 500 < changed.sum() < 480 * 640 / 2  # the arms, not the whole picture
    env.close()


def test_rendering_changes_nothing() -> None:
    env, dark = make(render_mode="rgb_array"), make()
    env.reset(seed=0), dark.reset(seed=0)
    for action in gentle(env, 10):
        env.render()
        assert_same(env.step(action), dark.step(action))
    env.close()


def test_render_without_a_mode_says_so() -> None:
    env = make()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="rgb_array"):
        assert env.render() is None


@pytest.mark.skipif(sys.platform != "linux", reason="only there can the display be taken away")
def test_without_a_display_a_window_is_refused_and_the_process_lives() -> None:
    code = (
        "import os; [os.environ.pop(name, None) for name in ('DISPLAY', 'WAYLAND_DISPLAY')]\n"
        "from neon_sim.env import NeonG1Env\n"
        "env = NeonG1Env(sensors=(), render_mode='human')\n"
        "try: env.reset(seed=0)\n"
        "except RuntimeError as error: print(error)\n"
        "env.close()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "no display" in done.stdout and "rgb_array" in done.stdout, done.stderr


def test_a_config_is_data() -> None:
    config = NeonG1Config(task="stand", max_steps=3)
    env = NeonG1Env(config, sensors=())
    assert env.config == replace(config, sensors=()) and config.sensors == NeonG1Config().sensors
