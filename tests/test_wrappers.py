"""The env's other faces: one vector, goals for HER, chunks, dm_env, and Gymnasium's own stack of frames."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import FrameStackObservation

import neon_sim  # noqa: F401  registers NeonG1-v0
from neon_sim.wrappers import ActionChunks, DmEnv, FlatObservation, ReachGoal


def make(task: str = "reach", **more: Any) -> Any:
    return gymnasium.make(
        "NeonG1-v0", task=task, disable_env_checker=True, **{"sensors": ("proprio",), "physics_dt": 0.005, **more}
    )


def test_a_flat_observation_is_its_parts_in_order() -> None:
    env = FlatObservation(make(), ("eef", "command", "proprio"))
    plain, _ = env.env.reset(seed=3)
    flat, _ = env.reset(seed=3)
    assert flat.shape == (14 + 4 + 125,) and flat.dtype == np.float32
    np.testing.assert_array_equal(flat, np.concatenate([plain["eef"], plain["command"], plain["proprio"]]))
    assert env.observation_space.contains(env.step(np.full(17, 0.1, np.float32))[0])


@pytest.mark.parametrize(
    ("keys", "message"), [(("propio",), "Did you mean 'proprio'"), (("instruction",), "joins float32 vectors")]
)
def test_a_flat_observation_refuses_what_does_not_fit(keys: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FlatObservation(make(), keys)


def test_the_goal_is_the_ball_and_what_is_achieved_the_palm() -> None:
    env = ReachGoal(make())
    for seed in range(4):  # both hands are asked for
        obs, info = env.reset(seed=seed)
        truth = info["privileged"]
        apart = float(np.linalg.norm(obs["achieved_goal"] - obs["desired_goal"]))
        assert apart == pytest.approx(truth["distance"], abs=1e-5)
        np.testing.assert_array_equal(obs["observation"][-2:], np.eye(2)[truth["hand"]])
        assert env.observation_space.contains(obs)


def test_the_goals_reward_by_hand_and_for_a_batch() -> None:
    env = ReachGoal(make(), distance=0.05)
    goal = np.zeros((3, 3))
    achieved = np.array([[0.03, 0.04, 0.0], [0.0, 0.0, 0.051], [0.0, 0.0, 0.0]])
    assert env.compute_reward(achieved, goal, {}).tolist() == [0.0, -1.0, 0.0]
    assert env.compute_reward(achieved[1], goal[1], {}) == -1.0
    obs, info = env.reset(seed=0)
    seen, reward, *_ = env.step(np.zeros(17, np.float32))
    assert reward == env.compute_reward(seen["achieved_goal"], seen["desired_goal"], info) == -1.0


def test_the_expert_reaches_the_goal() -> None:
    env = ReachGoal(make())
    env.reset(seed=1)
    rewards = [env.step(env.unwrapped.expert_action())[1] for _ in range(120)]
    assert rewards[0] == -1.0 and max(rewards) == 0.0


def test_only_reach_has_such_goals() -> None:
    with pytest.raises(ValueError, match='task="reach"'):
        ReachGoal(make("stand"))
    with pytest.raises(ValueError, match='sensors=\\("proprio",\\)'):
        ReachGoal(make(sensors=()))


@pytest.mark.slow
def test_her_trains_on_it() -> None:
    from stable_baselines3 import SAC, HerReplayBuffer

    model = SAC(
        "MultiInputPolicy",
        ReachGoal(make(max_steps=20)),
        replay_buffer_class=HerReplayBuffer,
        learning_starts=45,
        buffer_size=1000,
        batch_size=16,
        policy_kwargs={"net_arch": [16]},
        seed=0,
    )
    before = [weight.detach().clone() for weight in model.actor.parameters()]
    model.learn(60)
    after = [weight.detach() for weight in model.actor.parameters()]
    assert any(not one.equal(other) for one, other in zip(before, after, strict=True))
    assert (model.replay_buffer.sample(200).rewards == 0.0).any()  # hindsight: somebody has reached something


def test_a_chunk_is_its_actions_one_after_the_other() -> None:
    plain, chunked = make("stand"), ActionChunks(make("stand"), 5)
    plain.reset(seed=2)
    chunked.reset(seed=2)
    chunk = np.random.default_rng(0).uniform(-0.3, 0.3, (5, 17)).astype(np.float32)
    assert chunked.action_space.contains(chunk)
    steps = [plain.step(action) for action in chunk]
    obs, reward, terminated, truncated, info = chunked.step(chunk)
    np.testing.assert_array_equal(obs["proprio"], steps[-1][0]["proprio"])
    assert reward == pytest.approx(sum(step[1] for step in steps)) and info["steps"] == 5
    assert not terminated and not truncated and info["time_s"] == pytest.approx(0.1)


def test_a_chunk_ends_with_its_episode() -> None:
    env = ActionChunks(make("stand", max_steps=3), 5)
    env.reset(seed=2)
    *_, terminated, truncated, info = env.step(np.zeros((5, 17), np.float32))
    assert truncated and not terminated and info["steps"] == 3


def test_other_chunks_are_refused() -> None:
    env = ActionChunks(make("stand"), 5)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(5, 17\), got \(17,\)"):
        env.step(np.zeros(17))
    with pytest.raises(ValueError, match="length=0"):
        ActionChunks(make("stand"), 0)


def test_dm_env_has_first_mid_and_last() -> None:
    dm_env = pytest.importorskip("dm_env")
    with DmEnv(make("stand", max_steps=2), seed=5) as env:
        first = env.step(np.zeros(17))  # no episode yet: it begins
        expected, _ = make("stand", max_steps=2).reset(seed=5)
        np.testing.assert_array_equal(first.observation["proprio"], expected["proprio"])
        assert first.step_type == dm_env.StepType.FIRST and first.reward is None
        middle, last, again = (env.step(np.zeros(17, np.float32)) for _ in range(3))
        assert middle.mid() and middle.discount == 1.0 and 0.9 < middle.reward <= 1.0
        assert last.last() and last.discount == 1.0  # time ran out: the future still counts
        assert again.first()
        for name, spec in env.observation_spec().items():
            spec.validate(middle.observation[name])
        env.action_spec().validate(np.zeros(17, np.float32))
        env.reward_spec().validate(np.array(middle.reward))
        assert env.discount_spec().maximum == 1.0


def test_a_fall_has_no_future_in_dm_env() -> None:
    pytest.importorskip("dm_env")
    with DmEnv(make("stand", fall_height=10.0), seed=0) as env:  # every height is a fall
        env.reset()
        last = env.step(np.zeros(17))
        assert last.last() and last.discount == 0.0


def test_gymnasiums_stack_of_frames_fits() -> None:
    env = FrameStackObservation(make("stand"), 3)
    env.reset(seed=0)
    seen = [env.step(np.zeros(17, np.float32))[0]["proprio"] for _ in range(3)]
    assert seen[-1].shape == (3, 125)
    np.testing.assert_array_equal(seen[1][1:], seen[2][:2])
