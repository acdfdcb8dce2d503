"""NeonG1VectorEnv: equal to single envs, autoreset as Gymnasium defines it, and Gymnasium's own vector envs besides."""

import copy
from contextlib import closing
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.env import NeonG1Env
from neon_sim.g1 import joints
from neon_sim.robot import RobotCommand
from neon_sim.sensors.camera import CameraConfig
from neon_sim.sensors.depth import DepthConfig
from neon_sim.sensors.lidar import LidarConfig
from neon_sim.sensors.senses import ExtraSenses
from neon_sim.sim.domain import DomainRandomization
from neon_sim.sim.faults import ActuatorFault, AddedLatency, Fault, LowFriction, Payload, StuckJoint
from neon_sim.tasks.tolerance import tolerance
from neon_sim.vector_env import LEFT_OUT, NeonG1VectorEnv
from neon_sim.vector_env.network import NetworkRows
from neon_sim.vector_env.rewards import tolerances
from neon_sim.vector_env.walker import SensedRows, WalkerBatch

FAST: dict[str, Any] = {"sensors": ("proprio",), "physics_dt": 0.005}
FALLS: dict[str, Any] = {**FAST, "task": "stand", "control_mode": "whole_body"}  # random joints fall within a second


def actions_of(envs: gymnasium.vector.VectorEnv | NeonG1VectorEnv, steps: int, size: float = 0.4) -> np.ndarray:
    """(steps, N, A): a new goal every ten steps."""
    shape = envs.action_space.shape
    assert shape is not None
    goals = np.random.default_rng(0).uniform(-size, size, (-(-steps // 10), *shape))
    return goals.repeat(10, axis=0)[:steps].astype(np.float32)


def assert_equal(one: Any, other: Any, where: str = "") -> None:
    """Equal to the bit, through dicts."""
    if isinstance(one, dict):
        assert set(one) == set(other), where
        for name in one:
            assert_equal(one[name], other[name], f"{where}.{name}")
    else:
        np.testing.assert_array_equal(one, other, err_msg=where)


@pytest.mark.parametrize(
    ("task", "control_mode", "exact", "more"),
    [
        ("stand", "whole_body", False, {}),
        ("reach", "upper_body", True, {}),
        pytest.param("walk", "arms_only", True, {}, marks=pytest.mark.slow),
        ("reach", "whole_body", False, {"randomization": DomainRandomization()}),
    ],
)
def test_it_is_n_single_envs_to_the_bit(task: str, control_mode: str, exact: bool, more: dict[str, Any]) -> None:
    options = {**FAST, "task": task, "control_mode": control_mode, **more}
    envs = NeonG1VectorEnv(3, threads=2, exact=exact, **options)
    ones = [NeonG1Env(**options) for _ in range(3)]
    obs, infos = envs.reset(seed=5)
    for i, env in enumerate(ones):
        alone, info = env.reset(seed=5 + i)
        assert_equal(alone, {name: value[i] for name, value in obs.items()})
        assert infos["instruction"][i] == info["instruction"]
    for action in actions_of(envs, 25):
        obs, reward, terminated, truncated, infos = envs.step(action)
        assert not (terminated | truncated).any() or control_mode == "whole_body"
        for i, env in enumerate(ones):
            alone, one_reward, *ends, info = env.step(action[i])
            assert_equal(alone, {name: value[i] for name, value in obs.items()})
            assert reward[i] == pytest.approx(one_reward, abs=1e-12)
            assert ends == [terminated[i], truncated[i]] and info["success"] == infos["success"][i]
            assert info["time_s"] == infos["time_s"][i]
            assert info["safety"]["clipped"] == infos["safety"]["clipped"][i]
            for name, term in info["reward_terms"].items():
                assert infos["reward_terms"][name][i] == pytest.approx(term, abs=1e-12)
        if terminated.any():
            break
    envs.close()


def test_batched_walkers_part_by_rounding_only() -> None:
    """By less than 1 um and 1 urad until a foot is put down, and by a third of a mm and mrad within the next 0.08 s: a
    contact makes thousands of times as much of it. What they are asked for stays equal to the bit.
    """
    options = {**FAST, "task": "walk"}
    envs, ones = NeonG1VectorEnv(4, threads=1, **options), [NeonG1Env(**options) for _ in range(4)]
    envs.reset(seed=0)
    for i, env in enumerate(ones):
        env.reset(seed=i)
    for step, action in enumerate(actions_of(envs, 8)):
        envs.step(action)
        for i, env in enumerate(ones):
            env.step(action[i])
            other, most = envs.single(i).robot, 1e-6 if step < 4 else 3e-4
            np.testing.assert_allclose(other.data.qpos, env.robot.data.qpos, rtol=0.0, atol=most)
            assert other.walker.get_state()["command"] == env.robot.walker.get_state()["command"]
    envs.close()


@pytest.mark.parametrize(
    ("control_mode", "speed"),
    [("arms_only", 0.0), pytest.param("upper_body", 0.0, marks=pytest.mark.slow), ("arms_only", 0.4)],
)
def test_the_batched_walker_is_the_walker(control_mode: str, speed: float) -> None:
    """Shown the same states, it wants the same targets: 1e-9 rad standing, 1e-5 where a float32 network is asked."""
    envs = [NeonG1Env(task="stand", control_mode=control_mode, **FAST) for _ in range(3)]
    mask = envs[0].action_map.owned_mask
    batch = WalkerBatch(3, envs[0].robot.walker.weights, mask)
    for i, env in enumerate(envs):
        env.reset(seed=i)
        batch.load(i, env.robot.walker.get_state())
    rng, arms, stepped = np.random.default_rng(1), np.zeros((3, 29)), False
    for step in range(130):
        if step % 20 == 0:
            arms = rng.uniform(-0.3, 0.3, (3, 29))
        states = [env.robot.read() for env in envs]
        rows = [np.stack([getattr(state, name) for state in states]) for name in SensedRows._fields[:-1]]
        sensed = SensedRows(*rows, np.stack([state.limb_poses for state in states], axis=1))
        velocity = np.array([speed if step < 60 else 0.0, 0.0, 0.0])
        command = np.tile(np.append(velocity, joints.HOME_HEIGHT), (3, 1))
        wanted = batch.step(np.arange(3), sensed, command, joints.HOME + arms)
        for i, env in enumerate(envs):
            order = RobotCommand(joints.HOME + arms[i], mask, joints.KP, joints.KD, velocity, joints.HOME_HEIGHT)
            sent = env.robot.write(order).joint_target
            env.robot.advance()
            stepped |= env.robot.walker.get_state()["stepping"][0]
            np.testing.assert_allclose(wanted[i], sent, atol=1e-5 if stepped else 1e-9)
    assert stepped == (speed > 0.0 or control_mode == "upper_body")  # both controllers have been seen


def test_the_batched_network_is_the_network() -> None:
    weights = NeonG1Env(task="stand", **FAST).robot.walker.weights
    observation = weights.mean + np.random.default_rng(0).normal(0.0, 3.0, (64, len(weights.mean))) / weights.scale
    kept = observation.copy()
    np.testing.assert_allclose(NetworkRows(weights).act(observation), weights.act(observation), atol=1e-5)
    np.testing.assert_array_equal(observation, kept)


def test_walkers_that_were_taken_out_and_put_back_walk_on_to_the_bit() -> None:
    """Somebody steps, comes to rest and steps again; one fleet's rows are looked at in between, the other's never."""
    fleets = [NeonG1VectorEnv(3, threads=1, task="walk", **FAST) for _ in range(2)]
    for envs in fleets:
        envs.reset(seed=0)
    actions, stepping = np.zeros((3, 17)), set()
    for step in range(100):
        actions[0, 14] = 0.8 if step < 10 or step >= 80 else 0.0
        one, other = (envs.step(actions)[0] for envs in fleets)
        assert_equal(one, other)
        stepping.add(fleets[0].single(0).robot.walker.get_state()["stepping"][0])
    assert stepping == {True, False}
    assert_equal(*(envs.single(0).robot.walker.get_state() for envs in fleets))


def test_a_row_of_the_walker_can_be_taken_out_and_put_back() -> None:
    env = NeonG1Env(task="stand", **FAST)
    env.reset(seed=0)
    env.step(np.full(17, 0.2))
    batch = WalkerBatch(2, env.robot.walker.weights, env.action_map.owned_mask)
    state = env.robot.walker.get_state()
    batch.load(1, state)
    assert_equal(batch.state_of(1), state)


def test_same_seed_same_bits_whatever_the_threads() -> None:
    runs = []
    for threads in (1, 2):
        envs = NeonG1VectorEnv(4, threads=threads, task="reach", **FAST)
        obs, _ = envs.reset(seed=9)
        seen = [obs] + [envs.step(action)[0] for action in actions_of(envs, 15)]
        runs.append(seen)
        envs.close()
    for one, other in zip(*runs, strict=True):
        assert_equal(one, other)


def test_each_env_has_a_model_of_its_own() -> None:
    envs = NeonG1VectorEnv(3, task="stand", randomization=DomainRandomization(), **FAST)
    _, infos = envs.reset(seed=0)
    drawn = infos["randomization"]["friction"]
    assert len(set(drawn.tolist())) == 3
    assert [env.robot.randomized["friction"] for env in envs.envs] == drawn.tolist()
    envs.envs[1].world.apply_fault(ActuatorFault("right_elbow_joint", strength=1.0, bias=-0.5))
    for _ in range(30):
        obs, *_ = envs.step(np.zeros(envs.action_space.shape))
    elbow = obs["proprio"][:, joints.JOINT_INDEX["right_elbow_joint"]]
    assert min(elbow[0], elbow[2]) - elbow[1] > 0.35  # only this forearm is raised
    envs.close()


@pytest.mark.parametrize(
    "fault",
    [
        AddedLatency(0.02, 0.02),
        StuckJoint("left_knee_joint"),
        ActuatorFault("waist_yaw_joint"),
        Payload("left_hand", 2.0),
        LowFriction(0.1),
    ],
)
def test_a_fault_in_mid_episode_is_the_fault_of_a_single_env(fault: Fault) -> None:
    """Without randomisation both go through the batched physics; one that reads late no longer does."""
    options = {**FAST, "task": "stand", "control_mode": "whole_body"}
    envs, ones = NeonG1VectorEnv(2, threads=1, **options), [NeonG1Env(**options) for _ in range(2)]
    envs.reset(seed=0)
    for i, env in enumerate(ones):
        env.reset(seed=i)
    for step, action in enumerate(actions_of(envs, 16, size=0.2)):
        if step == 6:
            envs.single(1).world.apply_fault(fault)
            ones[1].world.apply_fault(fault)
        obs = envs.step(action)[0]
        for i, env in enumerate(ones):
            assert_equal(env.step(action[i])[0], {name: value[i] for name, value in obs.items()})
        held = envs._fleet.physics.held.tolist()
        assert held == ([True, step < 6] if isinstance(fault, AddedLatency) else [True, True])
    envs.close()


def test_equal_robots_are_stepped_on_one_model_until_somebody_else_holds_them() -> None:
    with closing(NeonG1VectorEnv(3, threads=1, task="stand", **FAST)) as envs:
        envs.reset(seed=0)
        physics, models = envs._fleet.physics, [env.robot.model for env in envs._envs]
        for action in actions_of(envs, 2):
            envs.step(action)
        (shared,) = {id(model) for model in physics.models}
        assert shared not in map(id, models)
        envs._envs[2].robot.model.body_mass[1] += 0.5
        envs.reset(options={"reset_mask": np.array([False, False, True])})
        envs.single(0)
        envs.step(np.zeros(envs.action_space.shape))
        assert physics.models[0] is models[0] and physics.models[2] is models[2]  # lent, and no longer equal
        assert id(physics.models[1]) == shared
        assert len(envs.envs) == 3  # now all are lent
        envs.step(np.zeros(envs.action_space.shape))
        assert all(model is own for model, own in zip(physics.models, models, strict=True))


def test_randomised_robots_are_stepped_on_their_own_models() -> None:
    options = {**FAST, "task": "stand", "randomization": DomainRandomization(), "settle_s": 0.0}
    with closing(NeonG1VectorEnv(3, threads=1, **options)) as envs:
        envs.reset(seed=0)
        envs.step(np.zeros(envs.action_space.shape))
        assert len({id(model) for model in envs._fleet.physics.models}) == 3


def keys_of(info: dict[str, Any]) -> set[str]:
    """The info's keys, and those of its safety after a dot, without gymnasium's masks."""
    named = {name for name in info if not name.startswith("_")}
    return named | {f"safety.{name}" for name in info["safety"] if not name.startswith("_")}


@pytest.mark.parametrize("task", ["stand", "reach", "walk"])
def test_what_a_step_leaves_out_is_what_is_said_and_can_be_had(task: str) -> None:
    options = {**FAST, "task": task, "randomization": DomainRandomization(), "settle_s": 0.0}
    fast, full = NeonG1VectorEnv(2, threads=1, **options), NeonG1VectorEnv(2, threads=1, full_infos=True, **options)
    ones = [NeonG1Env(**options) for _ in range(2)]
    assert fast.batched and not full.batched
    at_first = keys_of(fast.reset(seed=3)[1])
    full.reset(seed=3)
    for i, env in enumerate(ones):
        env.reset(seed=3 + i)
    action = np.full((2, 17), 0.9)  # too fast for the arms
    lean, said = fast.step(action)[-1], full.step(action)[-1]
    assert keys_of(lean) == at_first - set(LEFT_OUT) and set(LEFT_OUT) < at_first
    assert keys_of(said) == at_first
    for i, env in enumerate(ones):
        info = env.step(action[i])[-1]
        assert info["safety"]["speed"] and said["safety"]["speed"][i] == info["safety"]["speed"]
        assert said["randomization"]["friction"][i] == info["randomization"]["friction"]
        for name, value in info["privileged"].items():
            if isinstance(value, np.ndarray):
                np.testing.assert_allclose(said["privileged"][name][i], value, atol=1e-6)
    fast.close()
    full.close()


def test_depth_in_metres_comes_with_each_step() -> None:
    view = CameraConfig(width=24, height=24, backend="ray")
    depth = ExtraSenses(depth=DepthConfig(view, metres_in_info=True))
    options = {"task": "stand", "sensors": ("depth",), "physics_dt": 0.005, "settle_s": 0.0, "extra_senses": depth}
    envs, alone = NeonG1VectorEnv(2, threads=1, **options), NeonG1Env(**options)
    envs.reset(seed=1), alone.reset(seed=1)
    still = np.zeros((2, 17))
    metres, one = envs.step(still)[-1]["depth_m"], alone.step(still[0])[-1]["depth_m"]
    assert metres.shape == (2, *one.shape) and one.dtype == np.float32
    np.testing.assert_allclose(metres[0], one, atol=1e-4)
    assert 0.3 < np.median(one) < 3.0  # the floor ahead
    envs.close()


def test_robots_that_are_looked_at_are_where_they_are() -> None:
    """Their own data is as good as a single robot's, sensors of MuJoCo included, and what is written to it counts."""
    watched, envs = (NeonG1VectorEnv(2, threads=1, **FALLS) for _ in range(2))
    robots = [env.robot for env in watched.envs]
    for one in (watched, envs):
        one.reset(seed=2)
    for action in actions_of(envs, 6, size=0.3):
        assert_equal(watched.step(action)[0], envs.step(action)[0])
        for i, robot in enumerate(robots):
            alone = envs.single(i).robot
            np.testing.assert_array_equal(robot.data.qpos, alone.data.qpos)
            assert_equal(vars(robot.read()), vars(alone.read()))
    mujoco.mj_forward(robots[0].model, robots[0].data)
    assert np.abs(robots[0].data.sensordata).max() > 1.0  # the accelerometers feel the floor
    robots[1].data.qvel[6 + joints.JOINT_INDEX["left_knee_joint"]] += 5.0
    obs, other = (one.step(action)[0]["proprio"] for one in (watched, envs))
    np.testing.assert_array_equal(obs[0], other[0])
    assert np.abs(obs[1] - other[1]).max() > 0.1


@pytest.mark.parametrize("more", [{"task": "walk", "sensors": ("proprio", "lidar")}, {"task": "reach", "sensors": ()}])
def test_what_has_no_batched_half_is_equal_too(more: dict[str, Any]) -> None:
    options = {**FAST, "control_mode": "whole_body", "lidar": LidarConfig(num_points=32), **more}
    envs, ones = NeonG1VectorEnv(2, threads=2, **options), [NeonG1Env(**options) for _ in range(2)]
    assert envs.batched == ("lidar" not in options["sensors"])
    obs, _ = envs.reset(seed=1)
    for i, env in enumerate(ones):
        assert_equal(env.reset(seed=1 + i)[0], {name: value[i] for name, value in obs.items()})
    for action in actions_of(envs, 12, size=0.1):
        obs, reward, *_, infos = envs.step(action)
        for i, env in enumerate(ones):
            alone, one_reward, *_, info = env.step(action[i])
            assert_equal(alone, {name: value[i] for name, value in obs.items()})
            assert reward[i] == pytest.approx(one_reward, abs=1e-12) and infos["success"][i] == info["success"]
    envs.close()


def run_out(envs: Any, steps: int = 90) -> list[tuple[Any, ...]]:
    """All that happens under random joints; somebody falls."""
    seen = [(*envs.reset(seed=3), None, None, None)]
    for action in actions_of(envs, steps, size=1.0):
        obs, reward, terminated, truncated, infos = envs.step(action)
        seen.append((obs, infos, reward, terminated, truncated))
    assert any(step[3].any() for step in seen[1:])
    return seen


def assert_says_the_same(ours: dict[str, Any], theirs: dict[str, Any], path: str = "") -> None:
    """Vector infos of the same values of the same rows, but for what `LEFT_OUT` names."""
    for name in {*ours, *theirs}:
        if name.startswith("_") or f"{path}{name}".removeprefix("final_info.") in LEFT_OUT:
            continue
        none = np.zeros(2, bool)
        mine, its = ours.get(f"_{name}", none), theirs.get(f"_{name}", none)
        np.testing.assert_array_equal(mine, its, err_msg=path + name)
        if not mine.any() or name == "final_obs":
            continue
        if isinstance(theirs[name], dict):
            assert_says_the_same(ours[name], theirs[name], f"{path}{name}.")
            continue
        for one, other in zip(ours[name][mine], theirs[name][mine], strict=True):
            if isinstance(other, str | tuple) or np.asarray(other).dtype == bool:
                assert one == other, path + name
            else:
                np.testing.assert_allclose(one, other, atol=1e-9, err_msg=path + name)


def test_the_next_episode_inherits_nothing_of_what_was_said_of_the_last() -> None:
    options = {"task": "press", "sensors": ("proprio",), "physics_dt": 0.005, "max_steps": 2}
    modes = {"autoreset_mode": AutoresetMode.SAME_STEP}
    ours, theirs = NeonG1VectorEnv(2, **modes, **options), SyncVectorEnv([lambda: NeonG1Env(**options)] * 2, **modes)
    for envs in (ours, theirs):
        envs.reset(seed=[0, 5])
    still = np.zeros(ours.action_space.shape)
    for _ in range(4):
        assert_says_the_same(ours.step(still)[4], theirs.step(still)[4])  # buttons of other colours in each episode
    ours.close()
    theirs.close()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_autoreset_is_that_of_gymnasiums_sync_vector_env(mode: AutoresetMode) -> None:
    ours = NeonG1VectorEnv(2, threads=2, autoreset_mode=mode, **FALLS)
    theirs = SyncVectorEnv([lambda: NeonG1Env(**FALLS)] * 2, autoreset_mode=mode)
    assert ours.metadata["autoreset_mode"] == mode
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    for one, other in zip(run_out(ours), run_out(theirs), strict=True):
        assert_equal(one[0], other[0])
        if one[2] is not None:
            np.testing.assert_allclose(one[2], other[2], atol=1e-12)
            np.testing.assert_array_equal(one[3:], other[3:])
        assert ("final_obs" in one[1]) == ("final_obs" in other[1])
        for name in ("success", "time_s", "instruction", "_success"):
            np.testing.assert_array_equal(one[1][name], other[1][name])
        if "final_obs" in one[1]:
            np.testing.assert_array_equal(one[1]["_final_obs"], other[1]["_final_obs"])
            for mine, its in zip(one[1]["final_obs"], other[1]["final_obs"], strict=True):
                assert mine is its is None or assert_equal(mine, its) is None
            assert one[1]["final_info"]["success"].dtype == other[1]["final_info"]["success"].dtype == bool
        assert_says_the_same(one[1], other[1])
    ours.close()
    theirs.close()


def test_without_autoreset_the_mask_resets_and_nothing_else_may() -> None:
    envs = NeonG1VectorEnv(2, autoreset_mode=AutoresetMode.DISABLED, max_steps=3, **FALLS)
    envs.reset(seed=0)
    still = np.zeros(envs.action_space.shape)
    for step in range(3):
        _, _, terminated, truncated, _ = envs.step(still)
        assert truncated.all() == (step == 2) and not terminated.any()
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"envs \[0, 1\] are over"):
        envs.step(still)
    first = np.array([True, False])
    obs, infos = envs.reset(seed=[7, None], options={"reset_mask": first})
    assert infos["_success"].tolist() == [True, False]
    alone, _ = NeonG1Env(max_steps=3, **FALLS).reset(seed=7)
    assert_equal(alone, {name: value[0] for name, value in obs.items()})
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"envs \[1\] are over"):
        envs.step(still)
    envs.close()


def test_a_single_env_knows_its_episode() -> None:
    options = {**FAST, "task": "walk"}
    envs, alone = NeonG1VectorEnv(2, exact=True, **options), NeonG1Env(**options)
    envs.reset(seed=4)
    alone.reset(seed=5)
    for action in actions_of(envs, 12):
        envs.step(action)
        alone.step(action[1])
    one = envs.single(1)
    one_state, state = one.get_state(), alone.get_state()
    assert one_state["steps"] == state["steps"] == 12
    np.testing.assert_allclose(one_state["task"]["velocity"], state["task"]["velocity"], atol=1e-12)
    np.testing.assert_array_equal(one.expert_action(), alone.expert_action())
    np.testing.assert_array_equal(one.step(np.zeros(17))[0]["proprio"], alone.step(np.zeros(17))[0]["proprio"])
    envs.close()


def test_gymnasium_makes_it_and_its_own_vector_envs_work() -> None:
    options = {**FAST, "task": "stand"}
    envs = gymnasium.make_vec("NeonG1-v0", num_envs=2, **options)
    assert isinstance(envs.unwrapped, NeonG1VectorEnv) and envs.num_envs == 2
    first = envs.reset(seed=0)[0]
    envs.close()
    for mode in ("sync", "async"):
        plain = gymnasium.make_vec("NeonG1-v0", num_envs=2, vectorization_mode=mode, **options)
        assert_equal(first, plain.reset(seed=0)[0])
        obs, reward, *_ = plain.step(np.zeros(plain.action_space.shape, np.float32))
        assert plain.observation_space.contains(obs) and reward.shape == (2,)
        plain.close()


def test_observations_are_in_their_space_and_the_readers_own() -> None:
    envs = NeonG1VectorEnv(2, task="reach", **FAST)
    obs, _ = envs.reset(seed=0)
    kept = copy.deepcopy(obs)
    later = envs.step(actions_of(envs, 1)[0])[0]
    assert envs.observation_space.contains(obs) and envs.observation_space.contains(later)
    assert_equal(obs, kept)
    for value in later.values():
        value[...] = 0
    assert envs.step(actions_of(envs, 1)[0])[0]["instruction"].any()
    envs.close()


@pytest.mark.slow
def test_pictures_of_all() -> None:
    envs = NeonG1VectorEnv(2, task="stand", render_mode="rgb_array", **FAST)
    envs.reset(seed=0)
    pictures = envs.render()
    assert len(pictures) == 2 and pictures[0].shape == (480, 640, 3) and pictures[0].std() > 5
    envs.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs must be a whole number of at least 1, got 0"),
        ({"num_envs": 2, "threads": 0}, "threads must be a whole number of at least 1, got 0"),
        ({"num_envs": 1, "tsk": "stand"}, "Did you mean 'task'"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NeonG1VectorEnv(**options)


def test_bad_calls_are_refused_before_anything_moves() -> None:
    envs = NeonG1VectorEnv(2, task="stand", **FAST)
    still = np.zeros((2, 17))
    with pytest.raises(gymnasium.error.ResetNeeded, match="call envs.reset"):
        envs.step(still)
    with pytest.raises(ValueError, match="wanted 2, got 3"):
        envs.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="reset_mask must be"):
        envs.reset(options={"reset_mask": np.zeros(2, dtype=bool)})
    envs.reset(seed=0)
    before = envs.envs[0].robot.data.qpos.copy()
    with pytest.raises(ValueError, match=r"take actions \(2, 17\), got \(17,\)"):
        envs.step(still[0])
    still[1, 3] = np.nan
    with pytest.raises(ValueError, match=r"those of envs \[1\] are not"):
        envs.step(still)
    np.testing.assert_array_equal(envs.envs[0].robot.data.qpos, before)
    envs.close()
    with pytest.raises(gymnasium.error.ClosedEnvironmentError):
        envs.step(np.zeros((2, 17)))


def test_tolerances_are_those_of_one() -> None:
    values = np.linspace(-2.0, 3.0, 101)
    for bounds, margin, at_margin, sigmoid in (
        ((0.0, 0.5), 3.0, 0.1, "gaussian"),
        ((0.97, np.inf), 0.97, 0.0, "linear"),
    ):
        ones = [tolerance(float(value), bounds, margin, at_margin, sigmoid) for value in values]
        np.testing.assert_allclose(tolerances(values, bounds, margin, at_margin, sigmoid), ones, atol=1e-15)


def test_rows_of_some_robots() -> None:
    rows = SensedRows(*(np.arange(3.0)[:, None] for _ in range(7)), np.arange(3.0).reshape(1, 3, 1, 1, 1))
    some = rows.of(np.array([0, 2]))
    assert some.gyro[:, 0].tolist() == [0.0, 2.0] and some.limb_poses[0, :, 0, 0, 0].tolist() == [0.0, 2.0]
    assert rows.of(np.arange(3)) is rows
