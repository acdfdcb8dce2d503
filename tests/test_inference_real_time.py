"""Real-time chunking in a policy: plans by hand, and a true rollout of the shipped heads whose targets never jump."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_neon import open_reach, tiny_model

from neon_sim.g1 import joints
from neon_sim.g1.action_space import G1ActionSpace
from neon_sim.inference.chunking import ChunkingConfig
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.inference.real_time import RealTimeConfig, RealTimePlan, RealTimePolicy, last_target
from neon_sim.inference.situation import sensed_situation
from neon_sim.model.guidance import PhysicsGuide
from neon_sim.model.neon_vla import NeonVLA
from neon_sim.model.physics_losses import Motion
from neon_sim.rollout import rollout
from neon_sim.shipped import asset_path

SPACE = G1ActionSpace()
ELBOW = SPACE.names.index("left_elbow_joint")
STEP = 2.0 * 0.02  # rad a control step that safety allows the arms


def _proprio(joint_pos: np.ndarray = joints.HOME, error: float = 0.0) -> np.ndarray:
    body = np.zeros(125, np.float32)
    body[:29], body[87:116], body[121] = joint_pos, error, -1.0
    return body


def _ramp(first: float) -> np.ndarray:
    """A chunk (1, 16, 17) that says `first`, first + 1, ... in every entry."""
    return np.broadcast_to(first + np.arange(16.0)[None, :, None], (1, 16, 17)).copy()


def test_answers_follow_each_other_by_hand() -> None:
    plan = RealTimePlan(RealTimeConfig(ChunkingConfig("linear", 10), delay=2, safety=None), SPACE)
    first = plan.follow(_ramp(0.0))
    assert first.shape == (1, 10, 17) and first[0, :, 0].tolist() == list(range(10))  # nothing stale: it was waited for
    # Left of the old chunk: 10 to 15. The new one, asked for at step 10, says 110 there. Two steps pass, 10 and 11;
    # then old 12 to 15 and new 112 to 115 are blended with weights 1/5 to 4/5, and the new one goes on alone.
    second = plan.follow(_ramp(110.0))[0, :, 0]
    assert second.tolist() == pytest.approx([10, 11, 32, 53, 74, 95, 116, 117, 118, 119])
    plan.reset()
    assert plan.follow(_ramp(7.0))[0, 0, 0] == 7.0  # a new episode waits again


def test_a_target_starts_from_the_one_sent_last_and_keeps_the_limit() -> None:
    plan = RealTimePlan(RealTimeConfig(), SPACE)
    asked = np.zeros((1, 16, 17), np.float32)
    asked[..., ELBOW] = 1.0  # the joint's upper limit
    body = _proprio(error=0.1)  # every joint was sent 0.1 rad above home
    targets, _ = SPACE.decode(plan.follow(asked, body)[0])
    elbow = joints.JOINT_INDEX["left_elbow_joint"]
    np.testing.assert_allclose(last_target(body), joints.HOME + 0.1, atol=1e-6)
    steps = np.diff(targets[:, elbow], prepend=joints.HOME[elbow] + 0.1)
    np.testing.assert_allclose(steps, 0.999 * STEP, atol=1e-6)
    others = SPACE.joint_indices[SPACE.joint_indices != elbow]
    np.testing.assert_allclose(targets[2:, others], joints.HOME[None, others].repeat(8, 0), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.sampled_from(["linear", "exp", "ema", "latest"]))
def test_no_chunks_whatever_make_a_target_jump(seed: int, delay: int, schedule: str) -> None:
    rng = np.random.default_rng(seed)
    plan = RealTimePlan(RealTimeConfig(ChunkingConfig(schedule, 10), delay), SPACE)
    previous = joints.HOME
    for _ in range(3):
        body = _proprio(joints.HOME)
        body[87:116] = previous - joints.HOME
        targets, _ = SPACE.decode(plan.follow(rng.uniform(-1.5, 1.5, (1, 16, 17)), body)[0])
        path = np.concatenate([previous[None], targets])[:, SPACE.joint_indices]
        assert np.abs(np.diff(path, axis=0)).max() <= STEP
        previous = targets[-1]


def test_settings_that_run_dry_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="delay wants 0 to execution_horizon = 10 steps, got 11"):
        RealTimeConfig(delay=11)
    with pytest.raises(ValueError, match="at most the chunk's 16 steps, got 17"):
        NeonPolicy(tiny_model(tmp_path), real_time=RealTimeConfig(delay=7))
    with pytest.raises(ValueError, match="A speed limit wants 'proprio'"):
        RealTimePlan(RealTimeConfig(), SPACE).follow(_ramp(0.0))


class _Ramps:
    """Chunks of so many steps that say 0, 1, ... first, then 100, 101, ..."""

    def __init__(self, steps: int = 16) -> None:
        self.steps, self.asked = steps, 0

    def reset(self, env_ids: list[int] | None = None) -> None:
        self.asked = 0

    def observe(self, obs: Any, now_s: float) -> None:
        pass

    def act(self) -> np.ndarray:
        self.asked += 1
        return _ramp(100.0 * (self.asked - 1))[:, : self.steps]


def test_any_policy_can_be_blended_and_forgets_its_plan_with_the_episode() -> None:
    ramps = _Ramps()
    policy = RealTimePolicy(ramps, RealTimeConfig(ChunkingConfig("latest", 10), delay=2, safety=None), SPACE)
    assert policy.act()[0, :, 0].tolist() == list(range(10))
    # Two steps late: 10 and 11 are the old chunk's; then the new one's third step and on.
    assert policy.act()[0, :, 0].tolist() == [10, 11, *range(102, 110)]
    policy.reset()
    assert policy.act()[0, :, 0].tolist() == list(range(10)) and ramps.asked == 1


def test_a_blended_policy_counts_speed_from_what_was_observed_and_refuses_short_chunks() -> None:
    policy = RealTimePolicy(_Ramps(), RealTimeConfig(), SPACE)
    with pytest.raises(ValueError, match="A speed limit wants 'proprio'"):
        policy.act()
    policy.reset()
    policy.observe({"proprio": _proprio(error=0.1)}, 0.0)
    targets, _ = SPACE.decode(policy.act()[0])
    elbow = joints.JOINT_INDEX["left_elbow_joint"]
    assert abs(targets[0, elbow] - (joints.HOME[elbow] + 0.1)) <= STEP
    with pytest.raises(ValueError, match="at most the chunk's 4 steps, got 10"):
        RealTimePolicy(_Ramps(4), RealTimeConfig(safety=None), SPACE).act()


@pytest.fixture(scope="module")
def env() -> Any:
    env = open_reach()
    yield env
    env.close()


def _targets(actions: np.ndarray) -> np.ndarray:
    """Joint targets (T + 1, A') rad that were asked for, from home on."""
    asked, _ = SPACE.decode(actions)
    return np.concatenate([joints.HOME[None], asked])[:, SPACE.joint_indices]


def test_on_a_true_rollout_no_target_jumps_more_than_the_joint_speed_limit(env: Any) -> None:
    model = NeonVLA.from_pretrained(asset_path("g1/demo_heads"))
    cut: list[int] = []
    for real_time in (None, RealTimeConfig(delay=3)):
        policy = NeonPolicy(model, real_time=real_time)
        clipped = []
        step = env.step
        env.step = lambda action, step=step, clipped=clipped: _noted(step(action), clipped)
        episode = rollout(env, policy, seed=105, stop_on_success=True)
        env.step = step
        cut.append(sum(clipped))
        assert episode.success
    jumps = np.abs(np.diff(_targets(episode.actions), axis=0))
    assert jumps.max() <= STEP and jumps.max() > 0.5 * STEP  # it hurries, and never more than it may
    assert cut[0] > 5 and cut[1] == 0  # safety had to cut the plain chunks; here it had nothing to do


def _noted(result: tuple[Any, ...], clipped: list[bool]) -> tuple[Any, ...]:
    clipped.append(bool(result[4]["safety"]["speed"]))
    return result


def test_a_saved_policy_goes_on_with_its_plan(env: Any, tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    one, other = (NeonPolicy(model, real_time=RealTimeConfig(delay=3)) for _ in range(2))
    obs, info = env.reset(seed=1)
    one.observe(obs, info["time_s"])
    for action in one.act()[0]:
        obs, _, _, _, info = env.step(action)
        one.observe(obs, info["time_s"])
    other.set_state(one.get_state())
    other.observe(obs, info["time_s"])
    answer = one.act()
    assert answer.shape == (1, 10, 17) and np.array_equal(answer, other.act())
    fresh = NeonPolicy(model, real_time=RealTimeConfig(delay=3))
    fresh.observe(obs, info["time_s"])
    assert not np.array_equal(fresh.act(), answer)  # it has no old plan to go on with


def test_a_guide_is_told_where_the_robot_is(env: Any, tmp_path: Path) -> None:
    seen = []

    def loss(motion: Motion) -> Any:
        seen.append(motion.situation)
        return motion.values.sum((1, 2)) * 0.0

    policy = NeonPolicy(tiny_model(tmp_path, head={"head_type": "flow"}), guide=PhysicsGuide(SPACE, loss))
    obs, info = env.reset(seed=1)
    policy.observe(obs, info["time_s"])
    policy.act()
    body = obs["proprio"]
    assert len(seen) == 4  # one for each sampling step: it asks for nothing, so it is asked once
    np.testing.assert_array_equal(seen[0].posture.numpy(), body[:29])
    np.testing.assert_array_equal(seen[0].gravity_b.numpy(), body[119:122])
    executed, _ = SPACE.decode(seen[0].executed.numpy())
    sent = last_target(body)[SPACE.joint_indices]
    np.testing.assert_allclose(executed[SPACE.joint_indices], sent, atol=1e-5)


def test_the_velocity_command_is_part_of_the_executed_action() -> None:
    body = _proprio()
    body[122:125] = 0.25, -0.5, 0.5  # m/s, m/s, rad/s; the limits are 0.5, 0.5, 1
    action = sensed_situation(body, SPACE).executed
    assert action is not None and action[14:].tolist() == pytest.approx([0.5, -1.0, 0.5])
