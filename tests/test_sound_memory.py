"""What a policy remembers of the sound: by hand, and to the bit what it was trained on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_server import FRAMES, PROPRIO, WORDS
from tiny_neon import open_reach, tiny_config, tiny_model

from neon_sim.cells import TWO_EARS
from neon_sim.data.windows import SOUND_HZ, WindowConfig, cut_sound, cut_window
from neon_sim.episode import NeonEpisode
from neon_sim.inference.neon_policy import NeonPolicy
from neon_sim.inference.policy import SoundBuffer
from neon_sim.inference.server import NeonInferenceServer
from neon_sim.rollout import rollout
from neon_sim.training.config import MULTITASK
from neon_sim.training.train_config import TrainConfig
from neon_sim.training.train_parts import window_config

STEP, FRAME = 320, 5120  # samples of 20 ms and of 0.32 s at 16 kHz


def _frame(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_frames_that_overlap_make_one_sound_and_a_gap_is_silent() -> None:
    buffer = SoundBuffer(1.0, rate_hz=10)
    assert not buffer.sound().any() and len(buffer.sound()) == 10
    buffer.add(_frame(1, 2, 3, 4), 5.0)
    buffer.add(_frame(3, 4, 5, 6), 5.2)
    assert buffer.sound().tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6]
    buffer.add(_frame(3, 4, 5, 6), 5.3)  # a slow microphone has nothing new
    assert buffer.sound().tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6]
    buffer.add(_frame(9, 9, 9, 9), 5.8)
    assert buffer.sound().tolist() == [3, 4, 5, 6, 0, 0, 9, 9, 9, 9]
    state = buffer.get_state()
    buffer.add(np.arange(12, dtype=np.float32), 5.9)  # more than it keeps
    assert buffer.sound().tolist() == list(range(2, 12))
    other = SoundBuffer(1.0, rate_hz=10)
    other.set_state(state)
    state["sound"][:] = 77
    other.add(_frame(9, 9, 9, 9), 5.9)
    assert other.sound().tolist() == [3, 4, 5, 6, 0, 0, 9, 9, 9, 9]
    other.clear()
    other.add(_frame(8), 0.1)
    assert other.sound().tolist() == [0] * 9 + [8]


def test_two_microphones_are_remembered_side_by_side() -> None:
    buffer = SoundBuffer(0.6, rate_hz=10, microphones=2)
    buffer.add(_frame(1, 2, 3, 4, -1, -2, -3, -4), 5.0)
    buffer.add(_frame(3, 4, 5, 6, -3, -4, -5, -6), 5.2)
    assert buffer.sound().tolist() == [1, 2, 3, 4, 5, 6, -1, -2, -3, -4, -5, -6]
    other = SoundBuffer(0.6, rate_hz=10, microphones=2)
    other.set_state(buffer.get_state())
    other.add(_frame(7, -7), 5.3)
    assert other.sound().tolist() == [2, 3, 4, 5, 6, 7, -2, -3, -4, -5, -6, -7]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 220), st.sampled_from([0.1, 0.32, 1.0, 3.0]), st.integers(1, 25), st.integers(0, 2**32 - 1))
def test_a_sample_of_two_microphones_has_each_of_them(step: int, seconds: float, hold: int, seed: int) -> None:
    noise = np.random.default_rng(seed).standard_normal((2, (step + 16) * STEP)).astype(np.float32)
    frames = [noise[:, (row - row % hold) * STEP :][:, :FRAME].ravel() for row in range(step + 1)]
    buffer = SoundBuffer(seconds, microphones=2)
    for row, frame in enumerate(frames):
        buffer.add(frame, 0.02 * row)
    cut = cut_sound(frames, step, 50.0, seconds, 2)
    assert np.array_equal(cut, buffer.sound())
    for side in (0, 1):
        alone = cut_sound([frame.reshape(2, -1)[side] for frame in frames], step, 50.0, seconds)
        assert np.array_equal(cut.reshape(2, -1)[side], alone)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 220), st.sampled_from([0.1, 0.32, 1.0, 3.0]), st.integers(1, 25), st.integers(0, 2**32 - 1))
def test_a_sample_of_the_data_has_what_the_policy_would_remember(
    step: int, seconds: float, hold: int, seed: int
) -> None:
    """A microphone that has something new every `hold` steps; from 17 on there are gaps between its frames."""
    noise = np.random.default_rng(seed).standard_normal((step + 16) * STEP).astype(np.float32)
    frames = [noise[(row - row % hold) * STEP :][:FRAME] for row in range(step + 1)]
    buffer = SoundBuffer(seconds)
    for row, frame in enumerate(frames):
        buffer.add(frame, 0.02 * row)
    cut = cut_sound(frames, step, 50.0, seconds)
    assert cut.dtype == np.float32 and np.array_equal(cut, buffer.sound())
    if hold == 1:  # nothing is missing: the sound itself, after the silence before the beginning
        heard = np.concatenate([np.zeros(round(seconds * SOUND_HZ), np.float32), noise])[-len(cut) :]
        assert np.array_equal(cut, heard)


def test_a_policy_hears_in_an_episode_what_a_sample_of_it_holds(tmp_path: Path) -> None:
    policy = NeonPolicy(tiny_model(tmp_path, use_lidar=False, sound_memory_s=1.0))
    env = open_reach(sensors=("proprio", "camera", "audio"))
    episode = rollout(env, policy, 80, seed=3, keep=("camera", "audio", "instruction", "proprio", "eef"))
    env.close()
    policy.reset()
    kept = episode.observations
    for row in range(65):
        policy.observe({name: values[row] for name, values in kept.items()}, 0.02 * row)
    heard = policy.perceive()[1]["audio"][0].numpy()
    window = cut_window(episode, 64, WindowConfig(sound_memory_s=1.0), np.arange(17))
    assert heard.shape == (SOUND_HZ,) and np.array_equal(heard, window.senses["audio"])
    assert np.array_equal(heard[-FRAME:], kept["audio"][64]) and kept["audio"][48].any()
    np.testing.assert_array_equal(heard[-2 * FRAME : -FRAME], kept["audio"][48])
    state = policy.get_state()
    other = NeonPolicy(policy.model)
    other.set_state(state)
    other.observe({name: values[64] for name, values in kept.items()}, 0.02 * 64)
    assert torch.equal(other.perceive()[1]["audio"], policy.perceive()[1]["audio"])
    policy.reset()
    policy.observe({name: values[0] for name, values in kept.items()}, 0.0)
    assert not bool(policy.perceive()[1]["audio"][0, :-FRAME].any())


def test_the_preset_that_listens_hears_a_whole_sentence_with_two_ears_as_in_its_data(tmp_path: Path) -> None:
    preset = MULTITASK["multitask"]()
    cut = window_config(preset)
    assert (cut.sound_memory_s, cut.microphones) == (3.0, 2)
    policy = NeonPolicy(tiny_model(tmp_path, use_lidar=False, sound_memory_s=3.0, microphones=2, goal_hears=True))
    env = open_reach(task="follow_voice", sensors=("proprio", "camera", "audio"), audio=TWO_EARS)
    keep = ("camera", "audio", "instruction", "proprio", "eef")
    episode = rollout(env, policy, 190, seed=3, keep=keep)
    policy.reset()
    for row in range(177):
        policy.observe({name: values[row] for name, values in episode.observations.items()}, 0.02 * row)
    heard = policy.perceive()[1]["audio"][0].numpy()
    window = cut_window(episode, 176, cut, np.arange(17))
    assert heard.shape == (2 * 3 * SOUND_HZ,) and np.array_equal(heard, window.senses["audio"])
    left, right = heard.reshape(2, -1)
    assert left[:320].any() and right[:320].any() and not np.array_equal(left, right)  # back to 0.52 s, without a gap
    newest = episode.observations["audio"][176].reshape(2, FRAME)
    assert np.array_equal(left[-FRAME:], newest[0]) and np.array_equal(right[-FRAME:], newest[1])
    env.close()


def test_a_server_remembers_between_observations(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "backbone", use_lidar=False, sound_memory_s=1.0)
    model.save_pretrained(tmp_path / "policy")
    server = NeonInferenceServer(tmp_path / "policy", "cpu")
    noise = np.random.default_rng(0).standard_normal(SOUND_HZ).astype(np.float32)
    first, second = noise[: FRAME + STEP], noise[2 * STEP :][: FRAME + STEP]  # 40 ms apart
    server.predict(FRAMES[0], WORDS, PROPRIO, time_s=0.0, audio=first)
    chunk = server.predict(FRAMES[:4], WORDS, PROPRIO, time_s=0.04, audio=second)
    joined = np.zeros(SOUND_HZ, np.float32)
    joined[-(FRAME + 3 * STEP) :] = noise[: FRAME + 3 * STEP]
    assert np.array_equal(chunk, model.predict(FRAMES[:4], WORDS, PROPRIO, audio=joined))
    assert not np.array_equal(chunk, model.predict(FRAMES[:4], WORDS, PROPRIO, audio=second))
    server.reset()
    chunk = server.predict(FRAMES[:4], WORDS, PROPRIO, time_s=0.0, audio=second)
    joined[: -len(second)], joined[-len(second) :] = 0.0, second
    assert np.array_equal(chunk, model.predict(FRAMES[:4], WORDS, PROPRIO, audio=joined))


def test_training_cuts_what_the_config_says_and_as_before_without(tmp_path: Path) -> None:
    config = TrainConfig(tiny_config(tmp_path, sound_memory_s=3.0))
    assert window_config(config).sound_memory_s == 3.0
    rows = np.arange(40, dtype=np.float32)[:, None].repeat(4, axis=1)
    episode = NeonEpisode({"audio": rows}, np.zeros((40, 17), np.float32), instruction="wave")
    assert cut_window(episode, 20, WindowConfig(), np.arange(17)).senses["audio"].tolist() == [20.0] * 4
    assert len(cut_window(episode, 20, window_config(config), np.arange(17)).senses["audio"]) == 3 * SOUND_HZ
    with pytest.raises(ValueError, match="positive numbers, got {'sound_memory_s': -1.0}"):
        WindowConfig(sound_memory_s=-1.0)
