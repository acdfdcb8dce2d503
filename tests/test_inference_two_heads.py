"""A light and a heavy action layer behind one pair of eyes: exactness on true rollouts, and who answers when."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_neon import open_reach, tiny_features, tiny_model, tiny_senses

from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.g1.joints import JOINT_INDEX
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.inference.real_time import RealTimeConfig
from neon_sim.inference.router import RouterConfig
from neon_sim.inference.two_heads import (
    RoutedPolicy,
    SpeculativePolicy,
    goal_distance,
    one_step,
    tracking_error,
)
from neon_sim.model.goal import make_goal
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.speculative import SpeculativeConfig
from neon_sim.rollout import rollout

DIT = {"head_type": "dit", "dit_hidden": 24, "dit_layers": 1, "dit_heads": 2}
REAL_TIME = RealTimeConfig()


@pytest.fixture(scope="module")
def env() -> Any:
    env = open_reach()
    yield env
    env.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[NeonVLA, NeonVLA]:
    folder = tmp_path_factory.mktemp("backbone")
    return tiny_model(folder, seed=1, head={"head_type": "flow"}), tiny_model(folder, seed=2)


def test_with_tolerance_zero_the_rollout_is_the_heavy_heads_to_the_bit(env: Any, pair: tuple[NeonVLA, NeonVLA]) -> None:
    heavy, draft = pair
    alone = rollout(env, NeonPolicy(heavy), 40, seed=3)
    policy = SpeculativePolicy(heavy, draft, SpeculativeConfig(tolerance=0.0))
    both = rollout(env, policy, 40, seed=3)
    assert np.array_equal(alone.actions, both.actions) and np.abs(alone.actions).max() > 0.0
    assert policy.heavy_share == 1.0 and policy.answers == policy.statistics.rows == 3
    drafted = rollout(env, NeonPolicy(draft), 40, seed=3)
    assert not np.array_equal(drafted.actions, both.actions)


def test_a_draft_that_is_always_accepted_spares_the_heavy_heads(env: Any, pair: tuple[NeonVLA, NeonVLA]) -> None:
    heavy, draft = pair
    policy = SpeculativePolicy(heavy, draft, SpeculativeConfig(tolerance=100.0))
    rollout(env, policy, 20, seed=3)
    assert policy.heavy_share == 0.0 and policy.statistics.mean_accepted == 16.0
    decision = policy.decision
    assert decision is not None
    with torch.no_grad():
        chunk, _ = draft(decision.features, decision.senses, decision.goal)
    assert torch.equal(decision.chunk, chunk)


@pytest.mark.parametrize("head", [{"head_type": "flow"}, DIT], ids=["flow", "dit"])
def test_one_step_sees_as_much_of_the_draft_as_its_time_says(tmp_path: Path, head: dict[str, Any]) -> None:
    model = tiny_model(tmp_path, head=head)
    arms: Any = model.action_head.heads["arms"]
    told, noise = torch.randn(2, model.action_head.config.hidden_size), torch.randn(2, 16, 14)
    one, other = torch.zeros(2, 16, 14), torch.ones(2, 16, 14)
    with torch.no_grad():
        blind = [one_step(arms, told, None, draft, noise, 0.0) for draft in (one, other)]
        seeing = [one_step(arms, told, None, draft, noise, 0.9) for draft in (one, other)]
        at = torch.full((2,), 0.9)
        noiseless = one_step(arms, told, None, one, torch.zeros_like(noise), 0.9)
        condition = arms.condition(told) if head["head_type"] == "flow" else told
        expected = arms.estimate(torch.zeros_like(one), at, condition)  # no draft and no noise: zeros at any time
    assert torch.allclose(blind[0], blind[1], atol=1e-6) and not torch.allclose(seeing[0], seeing[1], atol=1e-3)
    torch.testing.assert_close(noiseless, expected)


def test_an_opinion_has_every_group_in_its_place(pair: tuple[NeonVLA, NeonVLA]) -> None:
    heavy, draft = pair
    policy = SpeculativePolicy(heavy, draft)
    features, senses, goal = tiny_features(1), tiny_senses(1), torch.zeros(1, 5)
    given = torch.zeros(1, 16, 17)
    with torch.no_grad():
        before = policy.opinion(features, senses, goal, given)
        policy.reset()  # the same noise again
        given[..., 14:] = 1.0  # another velocity in the draft
        after = policy.opinion(features, senses, goal, given)
    assert before.shape == (1, 16, 17)
    assert torch.equal(before[..., :14], after[..., :14]) and not torch.equal(before[..., 14:], after[..., 14:])


def test_heads_that_cannot_check_or_do_not_fit_are_refused(tmp_path: Path, pair: tuple[NeonVLA, NeonVLA]) -> None:
    _, draft = pair
    with pytest.raises(ValueError, match="groups arms has ActionChunkingHead.*Use check_time=None"):
        SpeculativePolicy(draft, draft)
    for allowed in ({"check_time": None}, {"config": SpeculativeConfig(tolerance=0.0)}):  # no opinion is asked for
        policy = SpeculativePolicy(draft, draft, **allowed)
        assert policy.decode(tiny_features(1), tiny_senses(1), torch.zeros(1, 5)).shape == (1, 16, 17)
    flow = {"head_type": "flow"}
    waist = tiny_model(tmp_path, control_mode="upper_body", head=flow)  # its waist has a plain decoder
    with pytest.raises(ValueError, match="groups torso_head has MLPDecoder"):
        SpeculativePolicy(waist, waist)
    relative = tiny_model(tmp_path, head=flow | {"state_relative": True})
    with pytest.raises(ValueError, match="arms has StateRelativeHead"):
        SpeculativePolicy(relative, relative)
    every = tiny_model(tmp_path, control_mode="upper_body", head=flow | {"chunk_all_groups": True})
    answer = SpeculativePolicy(every, every).decode(tiny_features(1), tiny_senses(1), torch.zeros(1, 5))
    assert answer.shape == (1, 16, every.action_space.dim)
    with pytest.raises(ValueError, match="The draft's action space is whole_body"):
        SpeculativePolicy(draft, tiny_model(tmp_path, control_mode="whole_body"))
    with pytest.raises(ValueError, match=r"one chunk length .* got \[\(16, 40\), \(8, 40\)\]"):
        RoutedPolicy(draft, tiny_model(tmp_path, num_action_steps=8))


def test_the_router_sends_all_or_nothing_where_everything_is_hard_or_easy(
    env: Any, pair: tuple[NeonVLA, NeonVLA]
) -> None:
    heavy, draft = pair
    alone = rollout(env, NeonPolicy(heavy, real_time=REAL_TIME), 30, seed=3)
    hard = RoutedPolicy(heavy, draft, RouterConfig(tracking_error=1e-6), real_time=REAL_TIME)
    assert np.array_equal(rollout(env, hard, 30, seed=3).actions, alone.actions) and hard.heavy_share == 1.0
    easy = RoutedPolicy(
        heavy, draft, RouterConfig(disagreement=1e6, tracking_error=1e6, near_m=1e-6), real_time=REAL_TIME
    )
    lazy = rollout(env, easy, 30, seed=3)
    assert easy.heavy_share == 0.0 and easy.answers == 3 and not np.array_equal(lazy.actions, alone.actions)


def test_a_robot_that_stands_far_from_its_goal_gets_the_draft(env: Any, pair: tuple[NeonVLA, NeonVLA]) -> None:
    policy = RoutedPolicy(*pair)
    obs, info = env.reset(seed=100)
    policy.observe(obs, info["time_s"])
    features, senses = policy.perceive()
    legs = senses["proprio"][0, 87 : 87 + 12].abs().max()
    assert legs > 0.1  # more than any arm of a healthy reach
    goal = make_goal(torch.tensor([0]), senses["eef"][:, 0:3] + torch.tensor([[0.4, 0.0, 0.0]]))
    with torch.no_grad():
        chunk, drafted = policy.decode(features, senses, goal), policy.decode_light(features, senses, goal)
    assert torch.equal(chunk, drafted) and policy.heavy_share == 0.0
    near = make_goal(torch.tensor([0]), senses["eef"][:, 0:3] + torch.tensor([[0.04, 0.0, 0.0]]))
    with torch.no_grad():
        policy.decode(features, senses, near)
    assert (policy.answers, policy.heavy_answers) == (2, 1)


def test_drafts_that_contradict_each_other_wake_the_heavy_heads(env: Any, pair: tuple[NeonVLA, NeonVLA]) -> None:
    heavy, draft = pair
    calm = {"tracking_error": 1e6, "near_m": 1e-6}
    policy = RoutedPolicy(heavy, draft, RouterConfig(disagreement=1e-9, **calm), real_time=REAL_TIME)
    rollout(env, policy, 30, seed=3)
    assert (policy.answers, policy.heavy_answers) == (3, 2)  # the first draft has none before it to contradict
    whole = RoutedPolicy(heavy, draft, RouterConfig(disagreement=1e-9, **calm))
    rollout(env, whole, 48, seed=3)
    assert whole.heavy_answers == 0  # chunks carried out to their ends share no step


def test_signals_by_hand() -> None:
    proprio, eef = torch.zeros(1, 125), torch.zeros(1, 14)
    elbow, knee = JOINT_INDEX["left_elbow_joint"], JOINT_INDEX["left_knee_joint"]
    proprio[0, 87 + elbow], proprio[0, 87 + knee], proprio[0, 119] = -0.1, 0.4, 1.0  # two errors, and gravity
    eef[0, 7:10] = torch.tensor([0.3, -0.1, 0.2])  # the right palm
    goal = make_goal(torch.tensor([1]), torch.tensor([[0.3, -0.1, 0.5]]))
    senses = {"proprio": proprio, "eef": eef}
    arms = G1ActionSpace("arms_only").joint_indices
    error, distance = tracking_error(senses, arms), goal_distance(senses, goal)
    assert error is not None and error.tolist() == pytest.approx([0.1])  # the knee is the walker's
    whole = tracking_error(senses, G1ActionSpace("whole_body").joint_indices)
    assert whole is not None and whole.tolist() == pytest.approx([0.4])
    assert distance is not None and distance.tolist() == pytest.approx([0.3])
    left = goal_distance(senses, make_goal(torch.tensor([0]), torch.tensor([[0.3, 0.0, 0.4]])))
    assert left is not None and left.tolist() == pytest.approx([0.5])
    assert tracking_error({}, arms) is None and goal_distance({}, goal) is None


@pytest.mark.parametrize("kind", [SpeculativePolicy, RoutedPolicy])
def test_a_saved_policy_goes_on(env: Any, pair: tuple[NeonVLA, NeonVLA], kind: Any) -> None:
    one, other = (kind(*pair, real_time=REAL_TIME) for _ in range(2))
    obs, info = env.reset(seed=1)
    one.observe(obs, info["time_s"])
    for action in one.act()[0]:
        obs, _, _, _, info = env.step(action)
        one.observe(obs, info["time_s"])
    other.set_state(one.get_state())
    obs, _, _, _, info = env.step(np.zeros(17))
    for policy in (one, other):
        policy.observe(obs, info["time_s"])
    assert np.array_equal(one.act(), other.act())
    for name in ("side_generator", "generator"):
        assert torch.equal(one.get_state()[name], other.get_state()[name])
