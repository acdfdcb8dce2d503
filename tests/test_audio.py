"""Microphone: pitch, level over distance, delay, Doppler shift, the head, motors, and streaming without seams."""

import functools
import pickle
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neon_sim.sensors.audio import AudioConfig, Microphone, SoundSource, sine_wave
from neon_sim.sensors.robot_noise import MotorNoiseConfig
from neon_sim.sensors.sensor import Sensor, SensorConfig
from neon_sim.sensors.sound_field import peak_amplitude

A4 = functools.partial(sine_wave, frequency_hz=440.0)
QUIET = AudioConfig(self_noise_db=None, ambient_db=None, motors=None, impacts=None)
SILENT = replace(QUIET, offset=(0.0, 0.0, 0.0), head_radius=0.0)  # and in the open: no head
MOTORS_ONLY = replace(SILENT, motors=MotorNoiseConfig())
SCENE = """<mujoco><option gravity="0 0 0"/><worldbody>
  <body name="torso_link" pos="0 0 1"><freejoint/><geom size=".1"/>
    <body><joint name="elbow" axis="0 1 0"/><geom size=".05"/></body></body>
  <body name="door" pos="5 0 0"><joint name="hinge" axis="0 0 1"/><geom size=".1"/></body>
  <body name="speaker" mocap="true" pos="1 0 1"/>
</worldbody></mujoco>"""


def load() -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def listen(mic: Microphone, data: mujoco.MjData, until_s: float, from_s: float = 0.0) -> np.ndarray:
    """Capture at 50 Hz and return the last frame."""
    for step in range(round(from_s * 50), round(until_s * 50) + 1):
        frame = mic.capture(data, step / 50)
    return frame


def peak_hz(frame: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(frame * np.hanning(len(frame)), 16 * len(frame)))
    return float(spectrum.argmax() * 16000 / (16 * len(frame)))


def tone_heard_at(distance_m: float, seed: int = 0, config: AudioConfig = SILENT) -> np.ndarray:
    model, data = load()
    mic = config.build(model)
    mic.add_source(SoundSource("tone", A4, (distance_m, 0.0, 1.0), level=0.2))
    mic.reset(np.random.default_rng(seed))
    return listen(mic, data, 0.5)


def test_a_440_hz_tone_is_heard_at_440_hz_and_halves_with_twice_the_distance() -> None:
    noisy = AudioConfig(offset=(0.0, 0.0, 0.0), head_radius=0.0)
    near, far = tone_heard_at(1.0, config=noisy), tone_heard_at(2.0, seed=1, config=noisy)
    assert peak_hz(near) == pytest.approx(440.0, abs=2.0)
    assert peak_hz(far) == pytest.approx(440.0, abs=2.0)
    assert near.std() / far.std() == pytest.approx(2.0, rel=0.02)
    assert near.std() == pytest.approx(0.2 / np.sqrt(2.0), rel=0.02)


@given(distance_m=st.floats(0.2, 20.0))
@settings(max_examples=20, deadline=None)
def test_every_sample_is_the_delayed_and_attenuated_wave(distance_m: float) -> None:
    frame = tone_heard_at(distance_m)
    time_s = np.arange(8000 - 5120, 8000) / 16000
    expected = 0.2 / distance_m * A4(time_s - distance_m / 343.0) * (time_s >= distance_m / 343.0)
    assert frame == pytest.approx(expected, abs=1e-6)


def test_a_click_arrives_after_the_time_that_sound_needs() -> None:
    model, data = load()
    click = np.zeros(50)
    click[0] = 1.0
    mic = SILENT.build(model)
    mic.add_source(SoundSource("click", click, (3.43, 0.0, 1.0), level=1.0, start_s=0.1))
    frame = listen(mic, data, 0.32)
    assert frame.argmax() == 1600 + 160  # 3.43 m / 343 m/s = 10 ms
    assert frame[1760] == pytest.approx(1.0 / 3.43, rel=1e-4)
    assert np.abs(np.delete(frame, 1760)).max() < 1e-6


def test_samples_play_once_or_in_a_loop() -> None:
    model, data = load()
    ramp = np.linspace(0.1, 1.0, 1600)
    mic = SILENT.build(model)
    mic.add_source(SoundSource("ramp", ramp, "torso_link", level=0.01))
    frame = listen(mic, data, 0.32)  # nearest distance 0.1 m: level 0.1, delay 0.29 ms
    assert frame[5:1500].min() > 0.0 and not frame[1700:].any()
    mic.add_source(SoundSource("ramp", ramp, "torso_link", level=0.01, loop=True))
    mic.reset(np.random.default_rng(0))
    frame = listen(mic, data, 0.32)
    assert frame[1700:3200] == pytest.approx(frame[100:1600], abs=1e-6)


def test_an_approaching_source_sounds_higher_and_without_clicks() -> None:
    model, data = load()
    mic = SILENT.build(model)
    mic.add_source(SoundSource("tone", A4, "speaker", level=0.2))
    for step in range(40):
        data.mocap_pos[0, 0] = 12.0 - 10.0 * step / 50  # 10 m/s
        mujoco.mj_kinematics(model, data)
        frame = mic.capture(data, step / 50)
    assert peak_hz(frame) == pytest.approx(440.0 * (1.0 + 10.0 / 343.0), abs=1.5)
    steepest = np.abs(np.diff(frame)).max() / np.abs(frame).max()
    assert steepest < 1.05 * 2 * np.pi * 453 / 16000


def test_steps_of_any_length_give_the_same_sound() -> None:
    model, data = load()
    frames = []
    for times in ([0.4], np.arange(21) / 50, np.arange(0, 0.401, 0.005)):
        mic = SILENT.build(model)
        mic.add_source(SoundSource("tone", A4, (2.0, 0.0, 1.0)))
        for time_s in times:
            frame = mic.capture(data, float(time_s))
        frames.append(frame)
    assert frames[1] == pytest.approx(frames[0], abs=1e-7)
    assert frames[2] == pytest.approx(frames[0], abs=1e-7)


def test_each_control_step_adds_320_samples() -> None:
    model, data = load()
    mic = AudioConfig().build(model)
    mic.reset(np.random.default_rng(0))
    before = mic.capture(data, 0.0)
    after = mic.capture(data, 0.02)
    assert np.array_equal(after[:-320], before[320:])
    assert not np.array_equal(after[-320:], before[-320:])
    assert np.array_equal(mic.capture(data, 0.02), after)


def test_moving_joints_hum_and_the_door_does_not() -> None:
    model, data = load()
    mic = MOTORS_ONLY.build(model)
    assert not listen(mic, data, 0.4).any()
    data.joint("hinge").qvel = 5.0
    assert not listen(mic, data, 0.8, 0.4).any()
    data.joint("elbow").qvel = 2.0
    slow = listen(mic, data, 1.6, 0.8)
    data.joint("elbow").qvel = 4.0
    fast = listen(mic, data, 2.4, 1.6)
    assert peak_hz(slow) == pytest.approx(400.0, abs=2.0)
    assert peak_hz(fast) == pytest.approx(800.0, abs=2.0)
    assert fast.std() / slow.std() == pytest.approx(2.0, rel=0.02)


def test_the_hum_runs_on_from_capture_to_capture() -> None:
    model, data = load()
    mic = MOTORS_ONLY.build(model)
    data.joint("elbow").qvel = 2.13  # 426 Hz: no whole number of periods in 20 ms
    frame = listen(mic, data, 0.8)
    time_s = np.arange(5120) / 16000
    tones = [wave(2 * np.pi * 426.0 * k * time_s) for k in (1, 2) for wave in (np.sin, np.cos)]
    basis = np.stack(tones, axis=1)
    fitted = basis @ np.linalg.lstsq(basis, frame, rcond=None)[0]
    assert frame == pytest.approx(fitted, abs=1e-3 * float(np.abs(frame).max()))


def test_sources_come_and_go() -> None:
    model, data = load()
    mic = SILENT.build(model)
    mic.add_source(SoundSource("tone", A4, "speaker"))
    assert listen(mic, data, 0.4).any()
    mic.remove_source("tone")
    assert not listen(mic, data, 0.8, 0.42).any()
    with pytest.raises(ValueError, match="Unknown sound source 'tone'"):
        mic.remove_source("tone")
    with pytest.raises(ValueError, match="Did you mean 'speaker'"):
        mic.add_source(SoundSource("tone", A4, "speakr"))


def test_loud_and_close_is_clipped_to_full_scale() -> None:
    model, data = load()
    config = AudioConfig(sources=(SoundSource("siren", A4, "torso_link", level=10.0),))
    mic = config.build(model)
    assert isinstance(config, SensorConfig) and isinstance(mic, Sensor)
    frame = listen(mic, data, 0.4)
    assert frame.shape == (5120,) and frame.dtype == np.float32 and config.space().contains(frame)
    assert frame.max() == 1.0 and frame.min() == -1.0


def test_same_seed_same_sound_and_noise_is_as_loud_as_configured() -> None:
    model, data = load()
    config = replace(SILENT, self_noise_db=74.0)  # 20 dB below full scale
    frames = []
    for seed in (5, 5, 6):
        mic = config.build(model)
        mic.reset(np.random.default_rng(seed))
        frames.append(listen(mic, data, 0.5))
    assert np.array_equal(frames[0], frames[1])
    assert not np.array_equal(frames[0], frames[2])
    assert frames[0].std() == pytest.approx(0.1 / np.sqrt(2.0), rel=0.05)


def test_state_restores_to_the_bit_sources_included() -> None:
    model, data = load()
    data.joint("elbow").qvel = 3.0
    config = AudioConfig(microphones=2, latency_s=0.01)
    mic = config.build(model)
    mic.add_source(SoundSource("tone", A4, "speaker"))
    mic.reset(np.random.default_rng(1))
    listen(mic, data, 0.5)
    state = pickle.loads(pickle.dumps(mic.get_state()))
    data.mocap_pos[0, 0] = 1.5  # on its way when the state was taken
    mujoco.mj_kinematics(model, data)
    expected = [mic.capture(data, 0.5 + step / 50) for step in range(1, 5)]
    mic.remove_source("tone")
    mic.capture(data, 0.7)
    other = config.build(model)
    for each in (mic, other):
        each.set_state(state)
        again = [each.capture(data, 0.5 + step / 50) for step in range(1, 5)]
        assert all(np.array_equal(a, b) for a, b in zip(expected, again, strict=True))


def test_time_does_not_run_backwards() -> None:
    model, data = load()
    mic = AudioConfig().build(model)
    mic.capture(data, 1.0)
    with pytest.raises(ValueError, match="reset"):
        mic.capture(data, 0.5)
    mic.reset(np.random.default_rng(0))
    mic.capture(data, 0.5)


# Levels, latency, two microphones


def test_94_db_at_1_m_fills_the_range_and_74_db_a_tenth() -> None:
    assert peak_amplitude(94.0) == 1.0
    assert peak_amplitude(74.0) == pytest.approx(0.1)
    assert peak_amplitude(88.0) == pytest.approx(0.501, abs=1e-3)  # 6 dB less is half


def test_a_late_microphone_hands_out_what_was_heard_before() -> None:
    model, data = load()
    frames = []
    for latency_s in (0.0, 0.04):
        mic = replace(SILENT, latency_s=latency_s).build(model)
        mic.add_source(SoundSource("tone", A4, (2.0, 0.0, 1.0)))
        frames.append([mic.capture(data, step / 50) for step in range(20)])
    assert frames[1][10] == pytest.approx(frames[0][8], abs=1e-7)  # 40 ms are two control steps
    assert np.abs(frames[1][10] - frames[0][10]).max() > 0.01


def test_of_two_microphones_the_left_one_comes_first() -> None:
    model, data = load()
    config = replace(QUIET, microphones=2)
    mic = config.build(model)
    mic.add_source(SoundSource("tone", functools.partial(sine_wave, frequency_hz=3000.0), (0.0, 3.0, 1.43)))
    frame = listen(mic, data, 0.4)
    assert frame.shape == (10240,) and config.space().contains(frame)
    left, right = frame.reshape(2, 5120)
    assert left.std() > 3.0 * right.std()  # the tone comes from the left
    data.qpos[3:7] = (0.0, 0.0, 0.0, 1.0)  # the robot turns round
    mujoco.mj_forward(model, data)
    left, right = listen(mic, data, 0.8, 0.42).reshape(2, 5120)
    assert right.std() > 3.0 * left.std()


def test_a_click_from_the_left_reaches_the_right_microphone_7_samples_later() -> None:
    model, data = load()
    mic = replace(QUIET, microphones=2).build(model)
    click = np.zeros(50)
    click[0] = 1.0
    mic.add_source(SoundSource("click", click, (0.001, 3.0, 1.43), level=1.0))
    left, right = listen(mic, data, 0.3).reshape(2, 5120)
    late = int(np.abs(right).argmax() - np.abs(left).argmax())
    # Around a head of 5.9 cm: 0.059 * (1 + pi / 2) / 343 s = 0.44 ms = 7.1 samples.
    assert late == 7


def test_bad_settings_are_refused() -> None:
    for wrong, match in (
        ({"microphones": 3}, "microphones must be 1 to 2, got 3"),
        ({"latency_s": -0.1}, "latency_s must be 0 to 10, got -0.1"),
        ({"head_radius": -1.0}, "head_radius must be 0 to 1, got -1.0"),
        ({"rate_hz": 0.0}, "rate_hz must be 0.001 to 10000, got 0.0"),
    ):
        with pytest.raises(ValueError, match=match):
            AudioConfig(**wrong)
