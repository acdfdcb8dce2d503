"""The clip buffer by its times; NeonPolicy in a real episode; the references that a policy is compared with."""

import numpy as np
import pytest
import torch
from tiny_neon import open_reach, tiny_model

from neon_sim.g1.joints import JOINT_INDEX
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.inference.policy import ClipBuffer
from neon_sim.inference.references import REFERENCES
from neon_sim.instruction import decode_instruction
from neon_sim.model.neon_vla import TRACKING_ERROR, NeonVLA
from neon_sim.rollout import rollout
from neon_sim.sim.faults import ActuatorFault


def _picture(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, np.uint8)


def _values(buffer: ClipBuffer, length: int) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in buffer.clip(length)]


def test_a_clip_takes_the_frame_nearest_to_each_time() -> None:
    buffer = ClipBuffer(seconds=4.0, fps=4.0)
    for i in range(31):
        buffer.add(_picture(i), 0.1 * i)  # 10 Hz, up to 3.0 s
    # Wanted 2.25, 2.50, 2.75, 3.00 s. Both neighbours of 2.25 and 2.75 are 0.05 s away, to within rounding.
    clip = _values(buffer, 4)
    assert clip[0] in (22, 23) and clip[1] == 25 and clip[2] in (27, 28) and clip[3] == 30
    assert buffer.clip(4).shape == (4, 2, 2, 3) and buffer.clip(4).dtype == np.uint8


def test_a_clip_on_the_cameras_own_grid() -> None:
    buffer = ClipBuffer(fps=4.0)
    for i in range(40):
        buffer.add(_picture(i), 0.08 * i)  # 12.5 Hz, up to 3.12 s
    # Wanted 2.37, 2.62, 2.87, 3.12 s; frames 30 (2.40), 33 (2.64), 36 (2.88), 39.
    assert _values(buffer, 4) == [30, 33, 36, 39]


def test_the_oldest_frame_stands_in_for_a_past_that_was_not_seen() -> None:
    buffer = ClipBuffer(fps=4.0)
    buffer.add(_picture(1), 7.0)
    assert _values(buffer, 3) == [1, 1, 1]
    buffer.add(_picture(2), 7.25)
    assert _values(buffer, 4) == [1, 1, 1, 2]


def test_what_is_older_than_the_buffer_is_dropped() -> None:
    buffer = ClipBuffer(seconds=0.5, fps=4.0)
    for i in range(10):
        buffer.add(_picture(i), 0.25 * i)
    assert len(buffer.get_state()["frames"]) == 3  # 1.75, 2.00 and 2.25 s
    assert _values(buffer, 4) == [7, 7, 8, 9]
    buffer.clear()
    with pytest.raises(ValueError, match="clip buffer is empty: call observe"):
        buffer.clip(4)


def test_buffer_state_is_a_copy_and_comes_back() -> None:
    buffer, other = ClipBuffer(fps=4.0), ClipBuffer(fps=4.0)
    for i in range(6):
        buffer.add(_picture(i), 0.25 * i)
    state = buffer.get_state()
    buffer.add(_picture(99), 1.5)
    other.set_state(state)
    state["frames"][0][1][:] = 77
    assert _values(other, 6) == [0, 1, 2, 3, 4, 5]


def test_words_come_back_from_their_bytes() -> None:
    code = np.zeros(256, np.uint8)
    raw = np.frombuffer("größer".encode(), np.uint8)
    code[: len(raw)] = raw
    assert decode_instruction(code) == "größer" and decode_instruction(np.zeros(256, np.uint8)) == ""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> NeonVLA:
    """One random model."""
    return tiny_model(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def env():
    """One reach scene with eyes."""
    env = open_reach()
    yield env
    env.close()


def test_the_same_episode_gives_the_same_actions_to_the_bit(env, model: NeonVLA) -> None:
    first = rollout(env, NeonPolicy(model), 48, seed=3)
    again = rollout(env, NeonPolicy(model), 48, seed=3)
    other = rollout(env, NeonPolicy(model), 48, seed=4)
    assert first.actions.shape == (48, 17) and np.abs(first.actions).max() > 0.0
    assert np.array_equal(first.actions, again.actions)
    assert np.array_equal(first.observations["proprio"], again.observations["proprio"])
    assert not np.array_equal(first.actions, other.actions)


def test_a_policy_that_was_used_starts_afresh(env, model: NeonVLA) -> None:
    policy = NeonPolicy(model)
    rollout(env, policy, 32, seed=5)
    used, fresh = rollout(env, policy, 32, seed=3), rollout(env, NeonPolicy(model), 32, seed=3)
    assert np.array_equal(used.actions, fresh.actions)


def test_a_decision_holds_what_it_was_made_from(env, model: NeonVLA) -> None:
    policy = NeonPolicy(model)
    assert policy.decision is None
    obs, info = env.reset(seed=0)
    policy.observe(obs, info["time_s"])
    chunk = policy.act()
    decision = policy.decision
    assert decision is not None and chunk.shape == (1, 16, 17)
    assert np.array_equal(decision.chunk.numpy(), chunk) and not decision.chunk.requires_grad
    assert set(decision.senses) == {"proprio", "eef"}
    assert np.array_equal(decision.senses["eef"][0].numpy(), obs["eef"])
    words = model.backbone.text_encoder([info["instruction"]])
    assert torch.equal(decision.features.text, words)
    with torch.no_grad():
        expected, _ = model(decision.features, decision.senses, decision.goal)
    assert torch.equal(expected, decision.chunk)


def test_only_new_pictures_enter_the_clip(env, model: NeonVLA) -> None:
    policy = NeonPolicy(model)
    rollout(env, policy, 48, seed=0)
    frames = policy.clip.get_state()["frames"]
    # 48 steps of 20 ms at 12.5 Hz: the first picture and at most one for every fourth step after it.
    assert 4 <= len(frames) <= 13
    gaps = np.diff([time_s for time_s, _ in frames])
    assert (gaps > 0.08 - 1e-9).all()
    assert all(not np.array_equal(a, b) for (_, a), (_, b) in zip(frames[:-1], frames[1:], strict=True))


def test_a_blank_camera_is_blank(env, model: NeonVLA) -> None:
    policy = NeonPolicy(model, blank_camera=True)
    rollout(env, policy, 32, seed=3)
    assert policy.decision is not None
    assert not policy.clip.clip(4).any()
    words = [decode_instruction(env.reset(seed=3)[0]["instruction"])]
    black = model.encode(torch.zeros(1, 4, 128, 128, 3, dtype=torch.uint8), words)
    for name in ("tokens", "pooled", "text"):
        assert torch.equal(getattr(policy.decision.features, name), getattr(black, name)), name
    seeing = NeonPolicy(model)
    rollout(env, seeing, 32, seed=3)
    assert seeing.decision is not None and seeing.clip.clip(4).any()
    assert not torch.equal(seeing.decision.features.tokens, black.tokens)


@pytest.mark.parametrize("blank", [False, True])
def test_a_saved_policy_goes_on_as_if_nothing_had_happened(env, model: NeonVLA, blank: bool) -> None:
    policy, other = NeonPolicy(model, blank), NeonPolicy(model, blank)
    obs, info = env.reset(seed=1)
    policy.observe(obs, info["time_s"])
    for _ in range(14):  # the last picture is two steps old
        obs, _, _, _, info = env.step(np.full(17, 0.3))
        policy.observe(obs, info["time_s"])
    other.set_state(policy.get_state())
    for _ in range(3):
        obs, _, _, _, info = env.step(np.zeros(17))
        policy.observe(obs, info["time_s"])
        other.observe(obs, info["time_s"])
    one, two = policy.clip.get_state()["frames"], other.clip.get_state()["frames"]
    assert [time_s for time_s, _ in one] == [time_s for time_s, _ in two]
    assert np.array_equal(policy.act(), other.act())


def test_a_robot_without_eyes_is_refused_in_words(model: NeonVLA) -> None:
    env = open_reach(sensors=("proprio",))
    with pytest.raises(ValueError, match="needs the sensor 'camera', got .*proprio"):
        rollout(env, NeonPolicy(model), 16, seed=0)
    env.close()


def test_the_references_act_in_range(env) -> None:
    env.reset(seed=0)
    for name, build in REFERENCES.items():
        policy = build(env)
        policy.reset()
        chunk = policy.act()
        assert chunk.shape == (1, 16, 17) and np.abs(chunk).max() <= 1.0, name
    assert not REFERENCES["zero"](env).act().any()
    assert np.array_equal(REFERENCES["expert"](env).act()[0], env.expert_chunk(16))


def test_random_is_seeded_by_the_episode_not_by_its_place_in_a_list(env) -> None:
    policy = REFERENCES["random"](env)
    first, second = (rollout(env, policy, 32, seed=seed).actions for seed in (1, 2))
    assert not np.array_equal(first, second)
    assert np.array_equal(rollout(env, REFERENCES["random"](env), 32, seed=2).actions, second)
    assert np.array_equal(first[:16], np.tile(first[0], (16, 1))) and not np.array_equal(first[0], first[16])


def test_a_fault_shows_in_the_tracking_error_that_the_heads_read(env) -> None:
    """D18: one set of weights can serve both robots because a broken motor can be told from what is observed."""
    joint = JOINT_INDEX["right_shoulder_pitch_joint"]
    errors = []
    for fault in (None, ActuatorFault("right_shoulder_pitch_joint", strength=0.7, bias=0.25)):
        env.world.apply_fault(fault)
        episode = rollout(env, REFERENCES["zero"](env), 50, seed=0)
        errors.append(episode.observations["proprio"][-1][TRACKING_ERROR])
    env.world.apply_fault(None)
    difference = np.abs(errors[1] - errors[0])
    assert difference[joint] > 0.2 and np.delete(difference, joint).max() < 0.1
